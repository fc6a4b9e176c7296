//! The language model of the settings: its terms, its key, and what is known of its last call.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ai_factory_actors::{agent::tools::specs, limits::ModelLimits, mask::Mask};
use ai_factory_ports::model::{
    Model, ModelAnswer, ModelCall, ModelError, ModelFacts, NoSink, TokenSink,
};
use ai_factory_schemas::{
    chat::ChatMessage,
    model::{
        Budget, ModelEndpoint, ModelErrorClass, ModelParameters, ModelProtocol, TokenUsage,
        ToolProtocol, TurnLimits,
    },
    run::IsolationLevel,
};

use super::error::OpenFactoryError;
use crate::{
    config::{ModelTools, Settings},
    model::{ConfiguredModel, ModelSettings},
};

/// The largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Permissions of a key file for others than its owner.
const OTHERS_MODE: u32 = 0o077;

/// The text of a tiny call.
const TINY_TEXT: &str = "Answer with the word OK.";
/// The most tokens of the answer to it.
const TINY_TOKENS_MAX: u64 = 64;

/// The configured model, and what is hidden from it.
pub(super) struct OpenedModel {
    /// The model. Without a configured one it serves sessions that recorded theirs.
    pub(super) model: Arc<dyn Model>,
    /// Hides the factory's own secrets.
    pub(super) mask: Arc<Mask>,
    /// What is known of its last call, if one is configured.
    pub(super) watched: Option<Arc<WatchedModel>>,
}

/// The configured model. It is not called yet.
pub(super) fn open(settings: &Settings) -> Result<OpenedModel, OpenFactoryError> {
    let key = key(settings)?;
    let secrets = settings.secrets().map(str::to_owned).chain(key.clone()).collect();
    let mask = Arc::new(Mask::new(secrets));
    if !settings.model.is_empty() {
        check(settings).map_err(OpenFactoryError::Model)?;
    }
    let adapter = adapter(settings, key).map_err(OpenFactoryError::Model)?;
    if settings.model.is_empty() {
        return Ok(OpenedModel { model: Arc::new(adapter), mask, watched: None });
    }
    let watched = Arc::new(WatchedModel::new(Arc::new(adapter)));
    Ok(OpenedModel { model: Arc::clone(&watched) as Arc<dyn Model>, mask, watched: Some(watched) })
}

/// The adapter that the settings name.
fn adapter(settings: &Settings, key: Option<String>) -> Result<ConfiguredModel, String> {
    let usual = settings.provider_keys.by_variable();
    ConfiguredModel::new(&ModelSettings {
        model: settings.model.clone(),
        url: Some(settings.model_url.clone()).filter(|url| !url.is_empty()),
        key,
        usual_keys: usual.map(|(name, key)| (name.to_owned(), key.to_owned())).collect(),
        tools: match settings.model_tools {
            ModelTools::Auto => None,
            ModelTools::Native => Some(ToolProtocol::Native),
            ModelTools::Text => Some(ToolProtocol::Text),
        },
        connect_max: Duration::from_millis(settings.model_connect_ms_max),
        first_byte_max: Duration::from_millis(settings.model_first_byte_ms_max),
        idle_max: Duration::from_millis(settings.model_idle_ms_max),
    })
}

/// The terms of sessions with a model.
pub(super) fn limits(settings: &Settings) -> ModelLimits {
    ModelLimits {
        parameters: ModelParameters {
            temperature_milli: settings.model_temperature,
            seed: settings.model_seed,
            output_tokens_max: settings.model_max_output_tokens,
            context_tokens: settings.model_context_tokens,
        },
        prices: settings.model_prices,
        budget: Budget {
            tokens_max: settings.model_session_tokens_max,
            cost_micros_max: settings.model_session_cost_max,
        },
        day: Budget {
            tokens_max: settings.model_day_tokens_max,
            cost_micros_max: settings.model_day_cost_max,
        },
        turns: TurnLimits {
            turns_max: settings.model_turns_max,
            retries_max: settings.model_retries_max,
            tool_wall_ms_max: settings.tool_wall_ms_max,
            ask_ms_max: settings.ask_ms_max,
            session_ms_max: settings.model_session_ms_max,
        },
        calls_max: settings.model_calls_max,
        sessions_waiting_max: settings.sessions_waiting_max,
    }
}

/// Whether the settings fit each other.
fn check(settings: &Settings) -> Result<(), String> {
    if settings.sandbox == IsolationLevel::Process {
        return Err(format!(
            "`model` is {}, and `sandbox` is process, which confines nothing that a model writes: \
             set `sandbox` to full or reduced, or leave `model` empty",
            settings.model
        ));
    }
    let costs = [
        ("model_session_cost_max", settings.model_session_cost_max),
        ("model_day_cost_max", settings.model_day_cost_max),
    ];
    if let (None, Some((name, _))) =
        (settings.model_prices, costs.iter().find(|(_, set)| set.is_some()))
    {
        return Err(format!(
            "`{name}` limits a cost, and the price of a token is not known: set `model_prices`, \
             such as input=3,output=15 per million tokens, or leave `{name}` empty"
        ));
    }
    let (output, window) = (settings.model_max_output_tokens, settings.model_context_tokens);
    if output >= window {
        return Err(format!(
            "`model_max_output_tokens` is {output}, which leaves no room for a request in \
             `model_context_tokens`, {window}: lower the first or raise the second"
        ));
    }
    Ok(())
}

/// The key that the settings name.
fn key(settings: &Settings) -> Result<Option<String>, OpenFactoryError> {
    let file = &settings.model_key_file;
    let (own, has_file) = (settings.model_key.reveal(), !file.as_os_str().is_empty());
    match (own, has_file) {
        (Some(_), true) => Err(OpenFactoryError::Model(
            "`model_key` and `model_key_file` are both set: leave one of them empty".to_owned(),
        )),
        (own, false) => Ok(own.map(str::to_owned)),
        (None, true) => key_in(file).map(Some).map_err(|reason| {
            OpenFactoryError::Model(format!("`model_key_file` is {}: {reason}", file.display()))
        }),
    }
}

fn key_in(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.mode() & OTHERS_MODE != 0 {
        return Err(format!(
            "others than its owner may use it (mode {:04o}): `chmod 600` takes that away",
            metadata.mode() & 0o7777
        ));
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    let key = text.trim();
    let is_key = !key.is_empty()
        && text.len() as u64 <= KEY_FILE_BYTES_MAX
        && key.chars().all(|c| c.is_ascii_graphic());
    if is_key {
        Ok(key.to_owned())
    } else {
        Err(format!(
            "it holds no key: one line of printable ASCII characters, at most {KEY_FILE_BYTES_MAX} bytes"
        ))
    }
}

/// What one tiny call found out.
#[derive(Debug, serde::Serialize)]
pub struct ModelReport {
    /// Provider and name, or the recording.
    pub model: String,
    /// Whether it is a recording, which can be played: it was not asked.
    pub is_recording: bool,
    /// The host that was asked.
    pub host: String,
    /// The kind and version of the server, if it tells them.
    pub server: Option<String>,
    /// The window that the server tells, in tokens.
    pub context_tokens: Option<u64>,
    /// Whether the server says that the model can call tools.
    pub calls_tools: Option<bool>,
    /// How tool calls are asked for.
    pub tools: ToolProtocol,
    /// The model that answered, if the provider names one.
    pub answered_by: Option<String>,
    /// What the call took, if the provider says so.
    pub usage: Option<TokenUsage>,
    /// What it cost, in millionths of the prices' currency, if prices are set.
    pub cost_micros: Option<u64>,
}

impl ModelReport {
    fn of(endpoint: &ModelEndpoint) -> Self {
        Self {
            model: endpoint.model.clone(),
            is_recording: false,
            host: endpoint.host().to_owned(),
            server: None,
            context_tokens: None,
            calls_tools: None,
            tools: endpoint.tools,
            answered_by: None,
            usage: None,
            cost_micros: None,
        }
    }
}

/// Makes one tiny call of the configured model with the tools of a session; `None` if none is
/// configured. The call is not recorded, and counts towards no budget. A recording is only read.
///
/// # Errors
/// A sentence that says what to do.
pub async fn model_report(settings: &Settings) -> Result<Option<ModelReport>, String> {
    let opened = open(settings).map_err(|error| error.to_string())?;
    let Some(endpoint) = opened.model.endpoint(None)? else { return Ok(None) };
    if endpoint.protocol == ModelProtocol::Recording {
        opened.model.check(&endpoint)?;
        return Ok(Some(ModelReport { is_recording: true, ..ModelReport::of(&endpoint) }));
    }
    let said = |error: ModelError| format!("{}: {}", error.class, error.reason);
    let facts = opened.model.facts(&endpoint).await.map_err(said)?;
    let call = ModelCall {
        endpoint: endpoint.clone(),
        parameters: ModelParameters {
            output_tokens_max: TINY_TOKENS_MAX,
            ..limits(settings).parameters
        },
        messages: vec![Arc::new(ChatMessage::User { text: TINY_TEXT.to_owned() })],
        tools: specs::specs(true).into(),
        schema: None,
    };
    let answer = opened.model.complete(call, &mut NoSink).await.map_err(said)?;
    Ok(Some(ModelReport {
        server: facts.server,
        context_tokens: facts.context_tokens,
        calls_tools: facts.calls_tools,
        answered_by: answer.answered_by,
        usage: answer.usage,
        cost_micros: settings
            .model_prices
            .zip(answer.usage)
            .map(|(it, used)| it.cost_micros(&used)),
        ..ModelReport::of(&endpoint)
    }))
}

/// A model that remembers how its last call ended, for the health.
pub(super) struct WatchedModel {
    inner: Arc<dyn Model>,
    failed: Mutex<Option<ModelErrorClass>>,
}

impl WatchedModel {
    fn new(inner: Arc<dyn Model>) -> Self {
        Self { inner, failed: Mutex::new(None) }
    }

    /// Why its last call failed, if it did.
    pub(super) fn problem(&self) -> Option<String> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.map(|class| format!("its last call failed: {class}"))
    }

    fn note<T>(&self, ended: &Result<T, ModelError>) {
        let failed = ended.as_ref().err().map(|error| error.class);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

#[async_trait::async_trait]
impl Model for WatchedModel {
    fn endpoint(&self, named: Option<&str>) -> Result<Option<ModelEndpoint>, String> {
        self.inner.endpoint(named)
    }

    fn check(&self, endpoint: &ModelEndpoint) -> Result<(), String> {
        self.inner.check(endpoint)
    }

    async fn facts(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        self.inner.facts(endpoint).await
    }

    async fn complete(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        let ended = self.inner.complete(call, sink).await;
        self.note(&ended);
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use ai_factory_schemas::{call::CallRequest, chat::StopReason, text::BlobHash};

    use super::*;
    use crate::{
        config::{SettingsSources, load},
        model::{RecordedAnswer, RecordedCall, RecordingLine},
    };

    fn settings(set: &[&str]) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let inputs = SettingsSources {
            directory: directory.path().to_owned(),
            set: set.iter().map(|pair| (*pair).to_owned()).collect(),
            ..SettingsSources::default()
        };
        load(&inputs).unwrap().settings
    }

    fn refused(set: &[&str]) -> String {
        check(&settings(set)).unwrap_err()
    }

    #[test]
    fn settings_that_do_not_fit_each_other_are_refused_by_name() {
        assert_eq!(check(&settings(&["model=ollama/x"])), Ok(()));
        assert!(refused(&["model=a/x", "sandbox=process"]).contains("`sandbox`"));
        for name in ["model_session_cost_max", "model_day_cost_max"] {
            let cost = format!("{name}=2.50");
            let said = refused(&["model=a/x", &cost]);
            assert!(said.contains(name) && said.contains("`model_prices`"), "{said}");
            check(&settings(&["model=a/x", &cost, "model_prices=input=3,output=15"])).unwrap();
        }
        let said = refused(&["model=a/x", "model_max_output_tokens=32768"]);
        assert!(said.contains("`model_context_tokens`"), "{said}");
    }

    /// Writes a recording with one call.
    fn recording(path: &std::path::Path) {
        let answer = ChatMessage::Assistant { text: "OK".to_owned(), tool_calls: Vec::new() };
        let answer = serde_json::to_string(&answer).unwrap();
        let call = RecordedCall {
            request: CallRequest {
                model: "ollama/x".to_owned(),
                parameters: limits(&settings(&[])).parameters,
                tools: None,
                schema: None,
                messages: Vec::new(),
            },
            answer: RecordedAnswer {
                message: BlobHash::of(answer.as_bytes()),
                stop: StopReason::End,
                usage: None,
                answered_by: None,
                provider_id: None,
            },
        };
        let lines = [RecordingLine::Blob(answer), RecordingLine::Call(Box::new(call))];
        let lines = lines.map(|line| serde_json::to_string(&line).unwrap());
        fs::write(path, lines.join("\n")).unwrap();
    }

    #[tokio::test]
    async fn a_recording_is_reported_without_a_call() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.jsonl");
        let model = format!("model=recording:{}", path.display());
        assert!(model_report(&settings(&[&model])).await.unwrap_err().contains("a.jsonl"));
        recording(&path);
        let report = model_report(&settings(&[&model])).await.unwrap().unwrap();
        assert!(report.is_recording && report.usage.is_none());
    }

    #[test]
    fn without_a_configured_model_a_recorded_one_is_served_with_the_usual_keys() {
        let opened = |set: &[&str]| open(&settings(set)).unwrap();
        let own = ModelEndpoint {
            model: "openai/x".to_owned(),
            url: "https://api.openai.com/v1".to_owned(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        };
        let none = opened(&[]);
        assert_eq!(none.model.endpoint(None), Ok(None));
        assert!(none.watched.is_none());
        assert!(none.model.check(&own).unwrap_err().contains("OPENAI_API_KEY"));
        let local = ModelEndpoint { url: "http://127.0.0.1:9/v1".to_owned(), ..own.clone() };
        none.model.check(&local).unwrap();
        let keyed = opened(&["model_url=https://api.openai.com/v1", "model_key=canary"]);
        keyed.model.check(&own).unwrap();
        let other = opened(&["model=openai/y", "model_key=canary"]);
        other.model.check(&own).unwrap();
    }

    #[test]
    fn limits_come_from_the_settings_of_their_names() {
        let of_defaults = format!("{:?}", limits(&settings(&[])));
        assert_eq!(of_defaults, format!("{:?}", ModelLimits::default()));
        let set = limits(&settings(&[
            "model_prices=input=3,output=15",
            "model_session_cost_max=2.5",
            "model_temperature=0.2",
            "model_turns_max=7",
        ]));
        assert_eq!(set.budget.cost_micros_max, Some(2_500_000));
        assert_eq!((set.parameters.temperature_milli, set.turns.turns_max), (Some(200), 7));
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone_and_holds_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("sk-canary-1234\n", 0o600);
        assert_eq!(key_in(&path).as_deref(), Ok("sk-canary-1234"));
        for mode in [0o640, 0o604, 0o620] {
            write("sk-canary-1234", mode);
            let said = key_in(&path).unwrap_err();
            assert!(said.contains("chmod 600") && !said.contains("canary"), "{said}");
        }
        for text in ["", "\n", "two words", "sk-\u{e4}", &"x".repeat(5_000)] {
            write(text, 0o600);
            assert!(key_in(&path).unwrap_err().contains("holds no key"));
        }
        assert!(key_in(directory.path()).unwrap_err().contains("regular file"));
        assert!(key_in(&directory.path().join("none")).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn every_secret_setting_is_among_the_secrets() {
        let secret =
            |key: &&crate::config::Key| matches!(key.allowed, crate::config::AllowedValues::Secret);
        let names: Vec<_> = crate::config::KEYS.iter().filter(secret).map(|it| it.name).collect();
        let set: Vec<_> = names.iter().map(|name| format!("{name}=canary-{name}")).collect();
        let set: Vec<_> = set.iter().map(String::as_str).collect();
        let settings = settings(&set);
        let secrets: Vec<_> = settings.secrets().collect();
        for name in names {
            assert!(secrets.contains(&&*format!("canary-{name}")), "{name}");
        }
    }
}
