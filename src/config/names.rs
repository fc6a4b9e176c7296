//! The names of the sources of settings.

/// Prefix of every variable.
pub const VARIABLE_PREFIX: &str = "AI_FACTORY_";
/// The settings file in the current directory.
pub const FILE_NAME: &str = "ai-factory.toml";
/// The file of variables in the current directory.
pub const ENV_FILE_NAME: &str = ".env";
