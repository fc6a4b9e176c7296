//! Every event ever recorded can still be read (I-12), and the committed schemas are those of the types.

use std::{collections::BTreeSet, fs, path::PathBuf};

use ai_factory_schemas::{
    catalogue,
    envelope::{ChainHash, Recorded, unseal},
    event::EVENT_TYPES,
    sample,
};

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
