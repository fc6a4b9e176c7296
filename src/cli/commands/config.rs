//! `config`: every setting, its value and its source.

use serde_json::{Value, json};

use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        output::Output,
        table::TextTable,
    },
    config::{AllowedValues, KEYS, Key},
};

/// Prints the settings in their documented order. Only known keys are printed.
pub(crate) fn run(context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
    let loaded = &context.loaded;
    let value = |name: &str| loaded.values.get(name).map_or("", String::as_str);
    let source = |name: &str| loaded.sources.get(name).map_or("", String::as_str);
    if output.json {
        let all: Vec<_> = KEYS
            .iter()
            .map(|key| {
                json!({
                    "key": key.name,
                    "value": to_json(key, value(key.name)),
                    "source": source(key.name),
                    "default": to_json(key, &key.default.to_string()),
                    "allowed": key.allowed.to_string(),
                    "about": key.about.trim(),
                })
            })
            .collect();
        output.json(&all)?;
        return Ok(Exit::DONE);
    }
    let mut table = TextTable::new(&["KEY", "VALUE", "SOURCE"]);
    for key in KEYS {
        table.row([key.name, value(key.name), source(key.name)]);
    }
    output.table(&table)?;
    Ok(Exit::DONE)
}

/// Numbers are JSON numbers.
fn to_json(key: &Key, value: &str) -> Value {
    match (key.allowed, value.parse::<u64>()) {
        (AllowedValues::Number { .. }, Ok(number)) => number.into(),
        _ => value.into(),
    }
}
