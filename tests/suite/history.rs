//! Every event ever recorded can still be read (I-12), and the committed schemas are those of the
//! types.

use std::{collections::BTreeSet, fs, path::PathBuf};

use ai_factory_ports::{bus::header, ingress};
use ai_factory_schemas::{
    asyncapi, catalogue,
    envelope::{ChainHash, Recorded, unseal},
    event::EVENT_TYPES,
    openapi, reference,
    route::ROUTES,
    sample,
    subject::operation,
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
fn the_page_of_operations_is_that_of_the_tables() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let committed = fs::read_to_string(page).unwrap_or_default();
    assert_eq!(
        committed,
        reference::operations_page(),
        "docs/operations.md is out of date: {FRESH}"
    );
}

#[test]
fn the_description_has_every_route_and_refers_to_nothing_that_is_not_there() {
    let document = openapi::document();
    for route in ROUTES {
        let method = route.method.name().to_lowercase();
        let described = &document["paths"][route.path][&method];
        let responses = described["responses"].as_object().unwrap();
        let statuses: BTreeSet<_> =
            responses.keys().map(|key| key.parse::<u16>().unwrap()).collect();
        let wanted: BTreeSet<_> = route.successes().into_iter().chain(route.problems()).collect();
        assert_eq!(statuses, wanted, "{} {}", method, route.path);
        assert!(described["summary"].as_str().is_some_and(|text| text.ends_with('.')));
    }
    assert_refers_within(&document);
}

#[test]
fn the_committed_description_of_the_bus_is_that_of_the_types() {
    let committed = fs::read_to_string(schemas("asyncapi.yaml")).unwrap_or_default();
    let wanted = asyncapi::file().unwrap();
    assert_eq!(committed, wanted, "schemas/asyncapi.yaml is out of date: {FRESH}");
}

/// Every `$ref` below `value`.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn whatever_the_description_of_the_bus_refers_to_is_in_it() {
    assert_refers_within(&asyncapi::document());
}

fn assert_refers_within(document: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(found.len() > 50, "only {} references were found", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_operation_event_type_and_header_is_in_the_description_of_the_bus() {
    let document = asyncapi::document();
    let address = |channel: &str| document["channels"][channel]["address"].as_str();
    for operation in operation::ALL {
        let name = operation.to_string();
        assert_eq!(
            address(&name),
            Some(&*format!("factory.{name}")),
            "{name}: add it to OPERATIONS"
        );
        let described = &document["operations"][&name];
        assert_eq!(described["action"], "receive", "{name}");
        assert_ne!(described["summary"], "", "{name}");
        assert_eq!(described["reply"]["messages"].as_array().unwrap().len(), 2, "{name}");
    }
    for (name, version) in EVENT_TYPES {
        let (category, verb) = name.split_once('.').unwrap();
        let subject = format!("factory.events.{category}.{{id}}.{verb}");
        assert_eq!(address(name), Some(&*subject));
        assert_eq!(document["operations"][name]["action"], "send", "{name}");
        let envelope = &document["components"]["schemas"][name]["allOf"][1]["properties"];
        assert_eq!(envelope["schemaversion"]["const"], *version, "{name}");
    }
    assert_eq!(address("goals"), Some("factory.goals"));
    assert_eq!(address("goals.reply"), None);
    let headers = ["RequestHeaders", "ProblemHeaders", "EventHeaders"]
        .map(|name| document["components"]["schemas"][name]["properties"].as_object().unwrap());
    let headers: BTreeSet<_> = headers.into_iter().flat_map(|all| all.keys()).collect();
    let used = [
        header::MESSAGE_ID,
        header::ERROR_CODE,
        header::ERROR,
        header::RETRY_AFTER,
        header::REQUEST_ID,
        header::SUBMITTER,
        header::TRACEPARENT,
        header::POSITION,
        header::JOURNAL,
    ];
    assert_eq!(headers, used.map(String::from).iter().collect());
    let described = document["components"]["schemas"]["RequestHeaders"]["properties"].clone();
    let described: BTreeSet<_> =
        described.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, BTreeSet::from(ingress::PASSED_ON), "what an ingress passes on");
}
