//! The page that lists every setting, generated from the settings.

use std::fmt::Write as _;

use super::{key::KEYS, names::VARIABLE_PREFIX};

/// The content of `docs/settings.md`.
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         <!-- Made by `ai-factory settings-page > docs/settings.md`; a test checks that it is fresh. -->\n\n\
         The value of a setting comes from the first source that has it: a flag (`--data-dir`, `--log-level`,\n\
         `--set KEY=VALUE`), an environment variable, the same variable in `.env`, `ai-factory.toml`, the\n\
         default. `.env` and `ai-factory.toml` are read from the current directory; `--config FILE` names\n\
         another settings file. `ai-factory config` shows every value and its source.\n\n\
         An empty variable counts as unset. An unknown key, an invalid value, an `AI_FACTORY_*` variable\n\
         that is not UTF-8 or a file with a syntax error is an error (exit code 2) that names the place\n\
         and the accepted values.\n\n\
         `.env` may be shared with other programs: lines that set no `AI_FACTORY_*` variable are ignored,\n\
         whatever they contain. Ours are `NAME=value` on one line, optionally preceded by `export`. Quote\n\
         values with white space. Outside single quotes `$NAME` and `${NAME}` refer to a variable of the\n\
         environment or of an earlier line; one that is not set is an error. A directory named `.env` is\n\
         ignored. A `.env` that cannot be read, is not a regular file or exceeds 64 MiB is ignored with a\n\
         warning.\n\n\
         | key | variable | default | takes | meaning |\n|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let default = match key.default.to_string() {
            empty if empty.is_empty() => "(empty)".to_owned(),
            text => format!("`{text}`"),
        };
        let _ = writeln!(
            page,
            "| `{}` | `{VARIABLE_PREFIX}{}` | {default} | {} | {} |",
            key.name,
            key.name.to_uppercase(),
            key.allowed,
            key.about.trim(),
        );
    }
    page
}
