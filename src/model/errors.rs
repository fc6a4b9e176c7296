//! Refusals of servers: their class, and a sentence that says what to do.
//!
//! *Promises.* No key is in a sentence: texts of servers are hidden from keys as a whole, then cut.
//!
//! *Limits.* At most [`SAID_CHARS_MAX`] characters of a server's text.

use std::time::Duration;

use ai_factory_ports::model::ModelError;
use ai_factory_schemas::model::{ModelEndpoint, ModelErrorClass};
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::Value;

/// Length limit of a server's text in an error, in characters.
const SAID_CHARS_MAX: usize = 400;
/// Length of the shortest key that is hidden, in bytes.
const KEY_BYTES_MIN: usize = 8;
/// Stands for a key.
const HIDDEN: &str = "(hidden)";
/// Kinds of errors by the words of the providers, in lower case.
const KINDS: [(&str, ModelErrorClass); 16] = [
    ("context_length_exceeded", ModelErrorClass::ContextTooLong),
    ("exceed_context_size_error", ModelErrorClass::ContextTooLong),
    ("request_too_large", ModelErrorClass::ContextTooLong),
    ("insufficient_quota", ModelErrorClass::Refused),
    ("billing_error", ModelErrorClass::Refused),
    ("authentication_error", ModelErrorClass::Credentials),
    ("permission_error", ModelErrorClass::Credentials),
    ("invalid_api_key", ModelErrorClass::Credentials),
    ("model_not_found", ModelErrorClass::NoSuchModel),
    ("not_found_error", ModelErrorClass::NoSuchModel),
    ("rate_limit_error", ModelErrorClass::RateLimited),
    ("rate_limit_exceeded", ModelErrorClass::RateLimited),
    ("overloaded_error", ModelErrorClass::Overloaded),
    ("api_error", ModelErrorClass::Overloaded),
    ("server_error", ModelErrorClass::Overloaded),
    ("timeout_error", ModelErrorClass::Overloaded),
];
/// Parts of messages that say that a request is too long, in lower case.
const TOO_LONG: [&str; 8] = [
    "prompt is too long",
    "input is too long",
    "maximum context length",
    "exceeds the available context size",
    "exceeds the context",
    "context length",
    "context window",
    "exceeds the maximum number of tokens",
];

/// Whom a call is made to, and what must not be told of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Host, and port if the address names one.
    pub(crate) host: String,
    /// The model's name at the provider.
    pub(crate) model: String,
    /// What sets the key, for a person.
    key_setting: String,
}

impl Asked {
    pub(crate) fn new(endpoint: &ModelEndpoint, key_variable: Option<&str>) -> Self {
        let key_setting = match key_variable {
            Some(variable) => format!("`model_key`, `model_key_file` or {variable}"),
            None => "`model_key` or `model_key_file`".to_owned(),
        };
        Self { host: endpoint.host().to_owned(), model: endpoint.name().to_owned(), key_setting }
    }

    /// The sentence of a class, with what the server said.
    fn sentence(&self, class: ModelErrorClass, said: &str) -> String {
        let Self { host, model, key_setting } = self;
        match class {
            ModelErrorClass::Credentials => {
                format!("{host} refuses the key ({said}): correct {key_setting}")
            }
            ModelErrorClass::NoSuchModel => format!(
                "{host} has no model `{model}`, or no such address ({said}): correct `model`, or `model_url`, which \
                 often ends in /v1"
            ),
            ModelErrorClass::ContextTooLong => format!(
                "the request is too long for `{model}` at {host} ({said}): set `model_context_tokens` to its window, \
                 or use a model or server with a larger one"
            ),
            ModelErrorClass::RateLimited => {
                format!("{host} wants fewer requests ({said}): wait, or ask your provider for more")
            }
            ModelErrorClass::Overloaded => {
                format!("{host} is overloaded or has failed ({said}): try again later")
            }
            _ => format!("{host} refuses the request ({said}): {}", remedy(said)),
        }
    }
}

fn remedy(said: &str) -> &'static str {
    let said = said.to_lowercase();
    if said.contains("support tool") || said.contains("tool choice") {
        "set `model_tools` to `text`, or use a model that can call tools"
    } else if ["402", "quota", "credit", "billing"].iter().any(|word| said.contains(word)) {
        "pay for more at the provider, or use another one"
    } else {
        "change what it names in the settings of the model, or use another model"
    }
}

/// Replaces keys. Shorter ones than [`KEY_BYTES_MIN`] would stand in any text.
pub(crate) fn hide<'a>(text: &str, keys: impl IntoIterator<Item = &'a str>) -> String {
    let keys = keys.into_iter().filter(|key| key.len() >= KEY_BYTES_MIN);
    keys.fold(text.to_owned(), |text, key| text.replace(key, HIDDEN))
}

/// An error as a server describes it.
#[derive(Debug, Default)]
struct Described {
    status: Option<u16>,
    /// Its kinds, in lower case.
    kinds: Vec<String>,
    message: String,
}

fn described(value: &Value) -> Option<Described> {
    // One provider wraps its error in a list.
    let value = value.get(0).unwrap_or(value);
    let error = value.get("error").or_else(|| value.get("detail")).unwrap_or(value);
    let message = match error {
        Value::String(text) => text.as_str(),
        error => error.get("message").and_then(Value::as_str)?,
    };
    let fields = ["type", "code", "status"].map(|name| error.get(name));
    let status = fields.iter().flatten().find_map(|field| field.as_u64());
    let kinds = fields.iter().flatten().filter_map(|field| field.as_str());
    Some(Described {
        status: status.and_then(|status| u16::try_from(status).ok()),
        kinds: kinds.map(str::to_lowercase).collect(),
        message: message.to_owned(),
    })
}

fn class(described: &Described) -> ModelErrorClass {
    let mut named = KINDS.iter().filter(|(kind, _)| described.kinds.iter().any(|k| k == kind));
    if let Some((_, class)) = named.next() {
        return *class;
    }
    let said = described.message.to_lowercase();
    let is_invalid = described.kinds.iter().any(|kind| kind.starts_with("invalid"));
    let status = described.status.unwrap_or(if is_invalid { 400 } else { 500 });
    let is_too_long = TOO_LONG.iter().any(|part| said.contains(part));
    match status {
        400 | 422 | 500 if is_too_long => ModelErrorClass::ContextTooLong,
        413 => ModelErrorClass::ContextTooLong,
        400 if said.contains("api key") => ModelErrorClass::Credentials,
        401 | 403 => ModelErrorClass::Credentials,
        404 | 300..=399 => ModelErrorClass::NoSuchModel,
        429 => ModelErrorClass::RateLimited,
        408 | 500.. => ModelErrorClass::Overloaded,
        _ => ModelErrorClass::Refused,
    }
}

/// The text of a server, fit for an error: without keys, in one line, cut.
fn fit<'a>(text: &str, keys: impl IntoIterator<Item = &'a str>) -> String {
    let text = hide(text, keys);
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SAID_CHARS_MAX).collect()
}

/// The refusal of a request by its status.
pub(crate) fn refusal<'a>(
    asked: &Asked,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    keys: impl IntoIterator<Item = &'a str>,
) -> ModelError {
    let value = serde_json::from_slice(body).ok();
    let mut error = value.as_ref().and_then(described).unwrap_or_else(|| Described {
        message: String::from_utf8_lossy(body).into_owned(),
        ..Described::default()
    });
    error.status = Some(status);
    let class = class(&error);
    let text = fit(&error.message, keys);
    let said = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
    let reason = if (300..400).contains(&status) {
        format!(
            "{} redirects ({status}), which is not followed: set `model_url` to the API's own address",
            asked.host
        )
    } else {
        asked.sentence(class, &said)
    };
    ModelError { retry_after, ..ModelError::new(class, reason) }
}

/// An error that a server reports in place of an answer with status 200; `None` if it is none.
pub(crate) fn reported<'a>(
    asked: &Asked,
    value: &Value,
    keys: impl IntoIterator<Item = &'a str>,
) -> Option<ModelError> {
    let is_error = value.get("error").is_some_and(|error| !error.is_null());
    let error = described(value).filter(|_| is_error)?;
    let (class, said) = (class(&error), fit(&error.message, keys));
    Some(ModelError::new(class, asked.sentence(class, &said)))
}

/// When to ask again: seconds, or a date, which is compared to the server's own.
pub(crate) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let parser = DateTimeParser::new();
    let at = |text: &str| parser.parse_timestamp(text.trim()).ok();
    let seconds = at(value)?.as_second().saturating_sub(at(date?)?.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::model::{ModelProtocol, ToolProtocol};

    use super::*;

    fn asked() -> Asked {
        let endpoint = ModelEndpoint {
            model: "openai/some".to_owned(),
            url: "https://api.openai.com/v1".to_owned(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        };
        Asked::new(&endpoint, Some("OPENAI_API_KEY"))
    }

    #[test]
    fn what_servers_say_has_one_class_each() {
        for (status, body, class, part) in [
            (401, "{}", ModelErrorClass::Credentials, "OPENAI_API_KEY"),
            (404, "", ModelErrorClass::NoSuchModel, "`some`"),
            (413, "", ModelErrorClass::ContextTooLong, "model_context_tokens"),
            (
                400,
                r#"{"error":{"code":"context_length_exceeded","message":"x"}}"#,
                ModelErrorClass::ContextTooLong,
                "window",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":256}}"#,
                ModelErrorClass::ContextTooLong,
                "available context size",
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 512 tokens.","code":400}"#,
                ModelErrorClass::ContextTooLong,
                "512 tokens",
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]"#,
                ModelErrorClass::Credentials,
                "not valid",
            ),
            (
                400,
                r#"{"error":{"message":"registry/x does not support tools"}}"#,
                ModelErrorClass::Refused,
                "`text`",
            ),
            (
                429,
                r#"{"error":{"code":"insufficient_quota","message":"You exceeded your quota"}}"#,
                ModelErrorClass::Refused,
                "pay",
            ),
            (402, r#"{"detail":"no credits"}"#, ModelErrorClass::Refused, "no credits"),
            (429, "{}", ModelErrorClass::RateLimited, "429"),
            (500, "<html>\n oh", ModelErrorClass::Overloaded, "<html> oh"),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                ModelErrorClass::Overloaded,
                "529: Overloaded",
            ),
            (307, "", ModelErrorClass::NoSuchModel, "model_url"),
            (418, "{}", ModelErrorClass::Refused, "418"),
        ] {
            let error = refusal(&asked(), status, body.as_bytes(), None, []);
            assert_eq!(error.class, class, "{status} {body}: {error}");
            assert!(error.reason.contains(part), "{status} {body}: {error}");
        }
    }

    #[test]
    fn a_key_is_hidden_before_a_text_is_cut() {
        let body = format!("{}sk-canary-0123456789 and more", "x".repeat(SAID_CHARS_MAX - 4));
        let error = refusal(&asked(), 400, body.as_bytes(), None, ["sk-canary-0123456789"]);
        assert!(!error.reason.contains("sk-c"), "{error}");
        let long = refusal(&asked(), 400, &vec![b'y'; 100_000], None, []);
        assert_eq!(long.reason.matches('y').count(), SAID_CHARS_MAX, "{long}");
    }

    #[test]
    fn a_time_to_wait_is_a_number_or_a_date() {
        let date = Some("Tue, 01 Dec 2026 10:00:00 GMT");
        let seconds = |value, date| retry_after(value, date).map(|wait| wait.as_secs());
        assert_eq!(seconds(" 7 ", None), Some(7));
        assert_eq!(retry_after("0.5", None), Some(Duration::from_millis(500)));
        assert_eq!(seconds("Tue, 01 Dec 2026 10:01:30 GMT", date), Some(90));
        assert_eq!(seconds("Tue, 01 Dec 2026 09:00:00 GMT", date), Some(0));
        assert_eq!(seconds("Tue, 01 Dec 2026 10:01:30 GMT", None), None);
        for absurd in ["-3", "soon", "1e400", ""] {
            assert_eq!(seconds(absurd, date), None, "{absurd}");
        }
    }
}
