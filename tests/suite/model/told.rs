//! What servers tell about their models.

use ai_factory_schemas::model::ModelErrorClass;

use super::*;

async fn told(model: &str, server: &ModelServer) -> ModelFacts {
    let configured = configured(model, server);
    let endpoint = configured.endpoint(None).unwrap().unwrap();
    configured.facts(&endpoint).await.unwrap()
}

async fn told_once(model: &str, server: &ModelServer) -> ModelFacts {
    let configured = configured(model, server);
    let endpoint = configured.endpoint(None).unwrap().unwrap();
    let facts = configured.facts(&endpoint).await.unwrap();
    let asked = server.others().len();
    assert_eq!(configured.facts(&endpoint).await.unwrap(), facts);
    assert_eq!(server.others().len(), asked, "it is asked once");
    facts
}

#[tokio::test]
async fn ollama_tells_the_window_in_force_or_the_one_that_is_set_or_the_models_own() {
    let server = ModelServer::start([]);
    server.page("/api/version", 200, json!({ "version": "0.13.1" }));
    let info = json!({ "general.parameter_count": 1, "qwen3.context_length": 40_960 });
    let show = |parameters: &str| json!({ "parameters": parameters, "model_info": info, "capabilities": ["completion", "tools"] });
    server.page("/api/show", 200, show("stop \"x\""));
    server.page("/api/ps", 200, json!({ "models": [] }));
    let facts = told("ollama/qwen3", &server).await;
    assert_eq!((facts.context_tokens, facts.calls_tools), (Some(40_960), Some(true)));
    assert_eq!(facts.server.as_deref(), Some("Ollama 0.13.1"));
    server.page("/api/show", 200, show("stop \"x\"\nnum_ctx                        8192"));
    assert_eq!(told("ollama/qwen3", &server).await.context_tokens, Some(8_192));
    let other = json!({ "name": "other:latest", "context_length": 1 });
    let loaded =
        json!({ "name": "qwen3:latest", "model": "qwen3:latest", "context_length": 4_096 });
    server.page("/api/ps", 200, json!({ "models": [other, loaded] }));
    assert_eq!(told_once("ollama/qwen3", &server).await.context_tokens, Some(4_096));
    let asked = server.others().into_iter().find(|request| request.path == "/api/show").unwrap();
    assert_eq!((&*asked.method, &asked.body), ("POST", &json!({ "model": "qwen3" })));
}

#[tokio::test]
async fn llama_cpp_and_vllm_tell_their_windows() {
    let server = ModelServer::start([]);
    let settings = json!({ "n_ctx": 2_048 });
    server.page(
        "/props",
        200,
        json!({ "default_generation_settings": settings, "build_info": "b7000" }),
    );
    let facts = told_once("llamacpp/x", &server).await;
    assert_eq!(
        (facts.context_tokens, facts.server.as_deref()),
        (Some(2_048), Some("llama.cpp b7000"))
    );
    server.page("/v1/models", 200, json!({ "data": [{ "id": "x", "max_model_len": 16_384 }] }));
    assert_eq!(told("vllm/x", &server).await.context_tokens, Some(16_384));
}

#[tokio::test]
async fn what_a_server_does_not_tell_is_unknown() {
    let server = ModelServer::start([]);
    for model in ["ollama/x", "llamacpp/x", "vllm/x", "lmstudio/x", "openai/x", "anthropic/x"] {
        let is_final = model != "ollama/x";
        let unknown = ModelFacts { is_final, ..ModelFacts::default() };
        assert_eq!(told(model, &server).await, unknown, "{model}");
    }
    let model = configured("llamacpp/x", &server);
    drop(server);
    let endpoint = model.endpoint(None).unwrap().unwrap();
    let error = model.facts(&endpoint).await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::Unreachable, "{error}");
}

#[tokio::test]
async fn a_server_that_loads_its_model_is_asked_again() {
    let server = ModelServer::start([]);
    let model = configured("llamacpp/x", &server);
    let endpoint = model.endpoint(None).unwrap().unwrap();
    server.page("/props", 503, json!({ "error": { "message": "Loading model" } }));
    let error = model.facts(&endpoint).await.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::Overloaded, "{error}");
    server.page("/props", 200, json!({ "default_generation_settings": { "n_ctx": 2_048 } }));
    let facts = model.facts(&endpoint).await.unwrap();
    assert_eq!((facts.context_tokens, facts.is_final), (Some(2_048), true));
}
