//! The bus, implemented.
