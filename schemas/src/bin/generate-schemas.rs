//! Generates `schemas/json`, `schemas/openapi.json`, `schemas/asyncapi.yaml` and
//! `docs/operations.md` from the Rust types, and adds missing golden samples.
//!
//! Run it from the project's root: `cargo run -p ai-factory-schemas --bin generate-schemas`.

#![forbid(unsafe_code)]

use std::{fs, io, path::Path};

use ai_factory_schemas::{asyncapi, catalogue, openapi, reference, sample};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (json, golden) = (root.join("json"), root.join("golden"));
    fs::create_dir_all(&json)?;
    fs::create_dir_all(&golden)?;
    let wanted = catalogue::files()?;
    for entry in fs::read_dir(&json)? {
        let path = entry?.path();
        let known =
            wanted.iter().any(|(name, _)| path.file_name().is_some_and(|is| is == name.as_str()));
        if !known {
            fs::remove_file(path)?;
        }
    }
    for (name, text) in wanted {
        fs::write(json.join(name), text)?;
    }
    fs::write(root.join("openapi.json"), openapi::text()?)?;
    fs::write(root.join("asyncapi.yaml"), asyncapi::file().map_err(io::Error::other)?)?;
    fs::write(root.join("../docs/operations.md"), reference::operations_page())?;
    for (name, envelope) in sample::envelopes()? {
        let path = golden.join(name);
        // A released sample is never edited: a changed payload is a new version.
        if !path.exists() {
            fs::write(path, envelope)?;
        }
    }
    Ok(())
}
