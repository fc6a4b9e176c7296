//! A canary key: where it goes, and where it does not.

use ai_factory_schemas::model::ModelErrorClass;

use super::*;

const CANARY: &str = "sk-canary-4f9a0c7e51";

fn with_canary(model: &str, server: &ModelServer) -> ConfiguredModel {
    let key = Some(CANARY.to_owned());
    ConfiguredModel::new(&ModelSettings {
        key,
        ..settings(model, server)
    })
    .unwrap()
}

fn with_usual_keys(model: &str, server: &ModelServer) -> ConfiguredModel {
    let variables = ai_factory_model::PROVIDERS
        .iter()
        .filter_map(|known| known.key_variable);
    let usual_keys = variables
        .map(|name| (name.to_owned(), CANARY.to_owned()))
        .collect();
    let settings = ModelSettings {
        key: None,
        usual_keys,
        ..settings(model, server)
    };
    ConfiguredModel::new(&settings).unwrap()
}

#[tokio::test]
async fn the_configured_key_is_sent_as_the_protocol_wants_it() {
    for (model, header, value) in [
        (MODELS[0], "authorization", format!("Bearer {CANARY}")),
        (MODELS[1], "x-api-key", CANARY.to_owned()),
    ] {
        let server = ModelServer::start([Reply::text("x")]);
        said(&with_canary(model, &server)).await.0.unwrap();
        let request = server.requests().remove(0);
        assert_eq!(request.header(header), value);
        let shown = request
            .headers
            .values()
            .filter(|value| value.contains(CANARY))
            .count();
        assert_eq!(shown, 1, "{request:?}");
        assert!(!request.body.to_string().contains(CANARY) && !request.path.contains(CANARY));
    }
}

#[tokio::test]
async fn a_usual_key_goes_to_no_other_host() {
    for model in MODELS {
        let server = ModelServer::start([Reply::text("x")]);
        said(&with_usual_keys(model, &server)).await.0.unwrap();
        let request = server.requests().remove(0);
        assert!(!format!("{request:?}").contains(CANARY), "{request:?}");
    }
}

#[tokio::test]
async fn the_configured_key_does_not_follow_a_session_to_another_host() {
    for model in MODELS {
        let (configured, other) = (
            ModelServer::start([]),
            ModelServer::start([Reply::text("x")]),
        );
        let adapter = with_canary(model, &configured);
        let mut asked = call(&adapter, [user("Hello.")]);
        asked.endpoint.url = other.url();
        adapter
            .complete(asked, &mut Parts::default())
            .await
            .unwrap();
        assert!(!format!("{:?}", other.requests()).contains(CANARY));
        assert!(configured.requests().is_empty());
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for model in MODELS {
        for status in [301, 302, 303, 307, 308] {
            let other = ModelServer::start([Reply::text("caught")]);
            let location = format!("{}/{CANARY}", other.url());
            let server = ModelServer::start([Reply::status(status).header("location", &location)]);
            let error = said(&with_canary(model, &server)).await.0.unwrap_err();
            assert_eq!(error.class, ModelErrorClass::NoSuchModel, "{error}");
            assert!(error.reason.contains("`model_url`"), "{error}");
            assert!(!error.reason.contains(CANARY), "{error}");
            assert!(other.requests().is_empty() && other.others().is_empty());
        }
    }
}

#[tokio::test]
async fn a_key_that_an_error_echoes_is_hidden_however_it_is_divided() {
    let words = format!("Incorrect key {CANARY}, {CANARY}!");
    let body = json!({ "error": { "type": "invalid_api_key", "message": words } }).to_string();
    let within = format!("data: {body}\n\n");
    let named = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": words } ] });
    for model in MODELS {
        for pieces in [1, 7, 100_000] {
            for reply in [
                Reply::status(401).body(body.clone()),
                Reply::status(500).body(words.clone()),
                Reply::status(500).body(format!("{}{words}", "x".repeat(380))),
                Reply::status(200).body(body.clone()),
                Reply::stream(within.clone()),
                Reply::text("x").raw(within.clone()),
                Reply::text("x").raw(format!("data: {named}\n\n")),
                Reply::tool(CANARY, json!("{\"")),
            ] {
                let server = ModelServer::start([reply.in_pieces(pieces)]);
                let error = said(&with_canary(model, &server)).await.0.unwrap_err();
                let found = format!("{error:?} {error}");
                assert!(!found.contains("sk-canary"), "{model}: {found}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_in_plain_text_beyond_this_machine_is_refused_before_anything_is_sent() {
    for model in MODELS {
        let settings = ModelSettings {
            model: model.to_owned(),
            url: Some("http://models.example/v1".to_owned()),
            key: Some(CANARY.to_owned()),
            ..ModelSettings::default()
        };
        let refused = ConfiguredModel::new(&settings).map(|_| ()).unwrap_err();
        assert!(
            refused.contains("https://") && !refused.contains(CANARY),
            "{refused}"
        );
        let unset = ModelSettings {
            url: None,
            key: None,
            ..settings
        };
        let refused = ConfiguredModel::new(&unset).map(|_| ()).unwrap_err();
        assert!(
            refused.contains("_API_KEY") && refused.contains("`model_key`"),
            "{refused}"
        );
    }
}
