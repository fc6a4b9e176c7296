//! The embedding models of the settings.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::embedder::{AsyncEmbedder, Models};

use super::error::OpenFactoryError;
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
        ("", model) => Err(OpenFactoryError::Embedding(format!(
            "AI_FACTORY_EMBEDDING_MODEL is {model}, but no API is named that has it: set AI_FACTORY_EMBEDDING_URL to one"
        ))),
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
