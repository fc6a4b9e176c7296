//! The page that lists every setting, generated from the settings.

use std::fmt::Write as _;

use super::{VARIABLE_PREFIX, key::KEYS};

/// The content of `docs/settings.md`.
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         <!-- Made by `ai-factory settings-page > docs/settings.md`; a test checks that it is fresh. -->\n\n\
         A setting is taken from the first of these that has it: a flag (`--data-dir`, `--log-level`,\n\
         `--set KEY=VALUE`), a variable of the environment, the same variable in `.env`, `ai-factory.toml`,\n\
         the default. `.env` and `ai-factory.toml` are looked for in the current directory; `--config FILE`\n\
         names another settings file. `ai-factory config` shows what is set and from where.\n\n\
         A variable that is set to nothing counts as not set. An unknown key, a bad value or a file that\n\
         breaks its format is an error (exit code 2) that says where it stands and what is meant instead.\n\
         So is an `AI_FACTORY_*` variable that is not UTF-8.\n\n\
         `.env` may belong to another program too: lines that give no `AI_FACTORY_*` variable do not matter, whatever\n\
         they look like. A line of ours is `NAME=value`, with `export` in front or without, on one line. White space\n\
         goes into quotes. Outside single quotes `$NAME` and `${NAME}` stand for a variable of the environment or of an\n\
         earlier line, and one that is not set is an error. A `.env` that is a directory is passed over. One that cannot\n\
         be read, is no regular file or is longer than 64 MiB is passed over with a warning.\n\n\
         | key | variable | default | takes | meaning |\n|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let default = match key.default.to_string() {
            empty if empty.is_empty() => "(nothing)".to_owned(),
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
