//! Settings: flags, then `AI_FACTORY_*` variables, then `.env`, then `ai-factory.toml`, then defaults.
//!
//! *Promises.* An unknown key is an error that names the nearest known one; a bad value is an error that
//! names key, value, source and what is allowed. Loading reads two files and nothing else: the
//! environment and the flags are handed in, and neither is changed.
//!
//! *Limits.* An `AI_FACTORY_*` variable that is set to nothing counts as not set, in the environment and
//! in `.env`. Variables with other names are none of our business, and a `.env` that is no file is that of another program. A variable
//! of ours whose value is not UTF-8 is an error.
//! Secrets are used and never shown: not by `ai-factory config`, not in an error, not in a log.

mod data_mode;
mod env_file;
mod error;
mod file;
mod key;
mod layer;
mod load;
mod reference;
mod secret;

pub use data_mode::DataMode;
pub use error::SettingsError;
pub use key::{Allowed, KEYS, Key, LogLevel, OnUnknown, Preset, Settings};
pub use load::{Inputs, Loaded, PassedOver, load, nats_context_file};
pub use reference::reference_page;
pub use secret::{Secret, without_passwords};

/// What the name of every variable begins with.
pub const VARIABLE_PREFIX: &str = "AI_FACTORY_";
/// The settings file that is looked for in the current directory.
pub const FILE_NAME: &str = "ai-factory.toml";
/// The file of variables that is looked for in the current directory.
pub const ENV_FILE_NAME: &str = ".env";
