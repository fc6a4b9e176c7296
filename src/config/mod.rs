//! Settings: flags, then `AI_FACTORY_*` variables, then `.env`, then `ai-factory.toml`, then
//! defaults.
//!
//! *Promises.* An unknown key is an error that names the nearest known one; an invalid value is an
//! error that names key, value, source and the accepted values. Loading reads two files and nothing
//! else: environment and flags are arguments, and neither is changed.
//!
//! *Limits.* An `AI_FACTORY_*` variable with an empty value counts as unset, in the environment and
//! in `.env`. Other variables are ignored, and a `.env` that is not a file belongs to another
//! program. A variable of ours whose value is not UTF-8 is an error. Secrets are never displayed:
//! not by `ai-factory config`, not in an error, not in a log.

mod allowed;
mod data_mode;
mod decimal;
mod env_file;
mod error;
mod file;
mod key;
mod layer;
mod load;
mod model;
mod names;
mod reference;
mod secret;

pub use allowed::{AllowedValues, DefaultValue};
pub use data_mode::DataMode;
pub use decimal::{MONEY_DECIMALS, scaled, unscaled};
pub use error::SettingsError;
pub use key::{KEYS, Key, LogLevel, OnUnknown, Settings};
pub use load::{LoadedSettings, PassedOver, SettingsSources, load, nats_context_file};
pub use model::{ModelTools, NO_MODEL, ProviderKeys};
pub use names::{ENV_FILE_NAME, FILE_NAME, VARIABLE_PREFIX};
pub use reference::reference_page;
pub use secret::Secret;
