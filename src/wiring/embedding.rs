//! The embedding models of the settings.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::ports::embedder::{AsyncEmbedder, Models};

use super::OpenFactoryError;
use crate::{
    config::Settings,
    embedding::{BuiltIn, EmbeddingEndpoint, EndpointSettings},
};

/// The configured models. No model is called yet.
pub(super) fn models(settings: &Settings) -> Result<Models, OpenFactoryError> {
    Ok(Models { built_in: Arc::new(BuiltIn::default()), configured: configured(settings)? })
}

fn configured(settings: &Settings) -> Result<Option<Arc<dyn AsyncEmbedder>>, OpenFactoryError> {
    let (url, model) = (&settings.embedding_url, &settings.embedding_model);
    match (url.as_str(), model.as_str()) {
        ("", "") => Ok(None),
        (_, "") => Err(OpenFactoryError::Embedding(format!(
            "AI_FACTORY_EMBEDDING_URL is {url}, but no model is named: set AI_FACTORY_EMBEDDING_MODEL to its name there"
        ))),
        ("", directory) => from_directory(directory).map(Some),
        (url, model) => {
            let endpoint = EmbeddingEndpoint::new(EndpointSettings {
                url: url.to_owned(),
                model: model.to_owned(),
                key: settings.embedding_key.reveal().map(str::to_owned),
                ca: Some(settings.embedding_ca.clone()).filter(|ca| !ca.as_os_str().is_empty()),
                dimensions: Some(settings.embedding_dimensions).filter(|set| *set > 0),
                texts_max: settings.embedding_texts_max,
                call_max: Duration::from_millis(settings.embedding_ms_max),
            });
            Ok(Some(Arc::new(endpoint.map_err(OpenFactoryError::Embedding)?)))
        }
    }
}

#[cfg(feature = "bert")]
fn from_directory(directory: &str) -> Result<Arc<dyn AsyncEmbedder>, OpenFactoryError> {
    let model = crate::embedding::Bert::open(std::path::Path::new(directory));
    Ok(Arc::new(
        model.map_err(|reason| {
            OpenFactoryError::Embedding(format!(
            "AI_FACTORY_EMBEDDING_MODEL: {reason}; for a model behind an API, set AI_FACTORY_EMBEDDING_URL too"
        ))
        })?,
    ))
}

#[cfg(not(feature = "bert"))]
fn from_directory(directory: &str) -> Result<Arc<dyn AsyncEmbedder>, OpenFactoryError> {
    Err(OpenFactoryError::Embedding(format!(
        "AI_FACTORY_EMBEDDING_MODEL is {directory}, but this program was built without the feature `bert`, which reads models \
         from directories: build it with `cargo build --release --features bert`, or set AI_FACTORY_EMBEDDING_URL to an API \
         that has the model"
    )))
}
