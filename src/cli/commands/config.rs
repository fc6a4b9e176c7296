//! `config`: every setting, its value and its source.

use serde_json::{Value, json};

use crate::{
    cli::{
        context::Context,
        exit::{Exit, Failure},
        output::Output,
        table::Table,
    },
    config::{Allowed, KEYS, Key},
};

/// Prints the settings in their documented order. Only known keys are printed.
pub(crate) fn run(context: &Context, output: &mut Output) -> Result<Exit, Failure> {
    let loaded = &context.loaded;
    let value = |name: &str| loaded.values.get(name).map_or("", String::as_str);
    let source = |name: &str| loaded.sources.get(name).map_or("", String::as_str);
    if output.json {
        let all: Vec<_> = KEYS
            .iter()
            .map(|key| {
                json!({
                    "key": key.name,
                    "value": typed(key, value(key.name)),
                    "source": source(key.name),
                    "default": typed(key, &key.default.to_string()),
                    "allowed": key.allowed.to_string(),
                    "about": key.about.trim(),
                })
            })
            .collect();
        output.json(&all)?;
        return Ok(Exit::DONE);
    }
    let mut table = Table::new(&["KEY", "VALUE", "SOURCE"]);
    for key in KEYS {
        table.row([key.name, value(key.name), source(key.name)]);
    }
    output.table(&table)?;
    Ok(Exit::DONE)
}

/// Numbers are JSON numbers.
fn typed(key: &Key, value: &str) -> Value {
    match (key.allowed, value.parse::<u64>()) {
        (Allowed::Number { .. }, Ok(number)) => number.into(),
        _ => value.into(),
    }
}
