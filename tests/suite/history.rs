//! Every event ever recorded can still be read (I-12), and the committed schemas are those of the types.

use std::{collections::BTreeSet, fs, path::PathBuf};

use ai_factory_schemas::{
    catalogue,
    envelope::{ChainHash, Recorded, unseal},
    event::EVENT_TYPES,
    openapi,
    route::{Method, ROUTES},
    sample,
};
use serde_json::Value;

const FRESH: &str = "run `cargo run -p ai-factory-schemas --bin generate-schemas` and commit";

fn schemas(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas").join(below)
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let wanted = catalogue::files().unwrap();
    for (name, text) in &wanted {
        let committed = fs::read_to_string(schemas("json").join(name)).unwrap_or_default();
        assert_eq!(committed, *text, "schemas/json/{name} is out of date: {FRESH}");
    }
    let names: BTreeSet<_> = wanted.into_iter().map(|(name, _)| name).collect();
    for entry in fs::read_dir(schemas("json")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "schemas/json/{name} belongs to no type: {FRESH}");
    }
}

#[test]
fn i_12_every_golden_event_can_still_be_read() {
    let mut read = BTreeSet::new();
    for entry in fs::read_dir(schemas("golden")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let recorded = Recorded::decode(&bytes).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let (content, hash) = unseal(&bytes).expect("a sealed envelope");
        assert_eq!(ChainHash::GENESIS.next(content), hash, "{path:?} was edited");
        read.insert(recorded.event.name());
    }
    for (name, _) in EVENT_TYPES {
        assert!(read.contains(name), "{name} has no golden sample: {FRESH}");
    }
}

#[test]
fn what_is_recorded_today_is_what_the_golden_samples_say() {
    for (name, envelope) in sample::envelopes().unwrap() {
        let golden = fs::read_to_string(schemas("golden").join(&name)).unwrap_or_default();
        assert_eq!(
            golden, envelope,
            "{name}: the payload changed. Give it a new version with an upcast, and {FRESH}"
        );
    }
}

#[test]
fn the_committed_description_of_the_routes_is_that_of_the_table() {
    let committed = fs::read_to_string(schemas("openapi.json")).unwrap_or_default();
    assert_eq!(committed, openapi::text().unwrap(), "schemas/openapi.json is out of date: {FRESH}");
}

#[test]
fn the_description_has_every_route_and_refers_to_nothing_that_is_not_there() {
    let document = openapi::document();
    for route in ROUTES {
        let method = if route.method == Method::Get { "get" } else { "post" };
        let described = &document["paths"][route.path][method];
        let responses = described["responses"].as_object().unwrap();
        let statuses: BTreeSet<_> =
            responses.keys().map(|key| key.parse::<u16>().unwrap()).collect();
        let mut wanted = BTreeSet::from([route.status]);
        wanted.extend(route.problems());
        assert_eq!(statuses, wanted, "{} {}", method, route.path);
        assert!(described["summary"].as_str().is_some_and(|text| text.ends_with('.')));
    }
    let mut references = 0;
    check_references(&document, &document, &mut references);
    assert!(references > 100, "only {references} references were found");
}

fn check_references(document: &Value, value: &Value, found: &mut usize) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(path)) = members.get("$ref") {
                let target = path.strip_prefix('#').and_then(|path| document.pointer(path));
                assert!(target.is_some(), "{path} leads nowhere");
                *found += 1;
            }
            for member in members.values() {
                check_references(document, member, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                check_references(document, item, found);
            }
        }
        _ => {}
    }
}
