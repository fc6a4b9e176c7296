//! Recordings: the answers of earlier calls, played in place of a model.
//!
//! A recording is a file of JSON lines, written and read as [`RecordingLine`]: texts, each before
//! the first call that names its hash, and calls. A request matches a recorded one if both send
//! the same; the ids that the factory gives to tool calls count by their order only, because they
//! differ from session to session. Of several recorded calls that match, the first one is played.
//!
//! *Limits.* A file has at most [`RECORDING_BYTES_MAX`] bytes.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use ai_factory_ports::model::{AnsweredToolCall, ModelAnswer, ModelCall, ModelError};
use ai_factory_schemas::{
    call::CallRequest,
    chat::{ChatMessage, StopReason, ToolSpec},
    difference::{Difference, first_difference},
    id::ToolCallId,
    model::{ModelErrorClass, ModelParameters, TokenUsage},
    text::BlobHash,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Size limit of a recording, in bytes.
pub const RECORDING_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingLine {
    /// A text that calls name by its hash: a message, tools or a schema, as JSON.
    Blob(String),
    /// A call that was answered.
    Call(Box<RecordedCall>),
    /// An event of the session as it is stored. Not played: a replay decides it anew.
    Event(Value),
}

/// A call with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCall {
    /// The request.
    pub request: CallRequest,
    /// The answer.
    pub answer: RecordedAnswer,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAnswer {
    /// The hash of the answer: a message of the role `assistant`.
    pub message: BlobHash,
    /// How it ended.
    pub stop: StopReason,
    /// What it took, as far as that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The provider's id of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

/// A recording.
#[derive(Debug)]
pub(crate) struct Recording {
    file: String,
    blobs: HashMap<BlobHash, String>,
    calls: Vec<RecordedCall>,
    /// The first call of each request, by the hash of what it sends.
    by_request: HashMap<BlobHash, usize>,
}

/// What a request sends, with its ids by their order.
fn sent(
    messages: &[Value],
    tools: Option<&[ToolSpec]>,
    schema: Option<&Value>,
    parameters: &ModelParameters,
) -> Value {
    // The window is not sent.
    let parameters = json!({
        "temperature_milli": parameters.temperature_milli,
        "seed": parameters.seed,
        "output_tokens_max": parameters.output_tokens_max,
    });
    json!({ "messages": messages, "parameters": parameters, "schema": schema, "tools": tools })
}

fn hash(sent: &Value) -> BlobHash {
    BlobHash::of(sent.to_string().as_bytes())
}

/// Replaces the ids of tool calls by numbers.
#[derive(Default)]
struct Numbered(HashMap<ToolCallId, usize>);

impl Numbered {
    fn number(&mut self, id: ToolCallId) -> Value {
        let next = self.0.len();
        json!(self.0.entry(id).or_insert(next))
    }

    fn message(&mut self, message: &ChatMessage) -> Value {
        let mut value = json!(message);
        match message {
            ChatMessage::Assistant { tool_calls, .. } => {
                for (place, call) in tool_calls.iter().enumerate() {
                    value["tool_calls"][place]["id"] = self.number(call.id);
                }
            }
            ChatMessage::Tool { call, .. } => value["call"] = self.number(*call),
            ChatMessage::System { .. } | ChatMessage::User { .. } => {}
        }
        value
    }
}

/// The events of a recording, as they are stored. An error is a sentence for a person.
pub fn recorded_events(path: &Path) -> Result<Vec<Value>, String> {
    let mut events = Vec::new();
    let file = File::open(path).map_err(|error| unusable(path, error))?;
    each_line(path, file, |line| {
        if let RecordingLine::Event(event) = line {
            events.push(event);
        }
        Ok(())
    })?;
    Ok(events)
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> String {
    format!("the recording {}: {reason}", path.display())
}

/// Reads a recording line by line. An error is a sentence for a person.
fn each_line(
    path: &Path,
    file: File,
    mut take: impl FnMut(RecordingLine) -> Result<(), String>,
) -> Result<(), String> {
    let unusable = |reason| unusable(path, reason);
    let mut bytes = 0;
    for (line, number) in BufReader::new(file.take(RECORDING_BYTES_MAX + 1)).lines().zip(1..) {
        let line = line.map_err(|error| unusable(error.to_string()))?;
        bytes += line.len() as u64 + 1;
        if bytes > RECORDING_BYTES_MAX {
            return Err(unusable(format!("it is longer than {RECORDING_BYTES_MAX} bytes")));
        }
        if line.trim().is_empty() {
            continue;
        }
        serde_json::from_str(&line)
            .map_err(|error| error.to_string())
            .and_then(&mut take)
            .map_err(|reason| {
                unusable(format!("line {number}: {reason}: export the recording again"))
            })?;
    }
    Ok(())
}

impl Recording {
    /// Reads a recording. An error is a sentence for a person.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let mut recording = Self {
            file: path.display().to_string(),
            blobs: HashMap::new(),
            calls: Vec::new(),
            by_request: HashMap::new(),
        };
        let file = File::open(path).map_err(|error| {
            unusable(path, format!("{error}: correct `model = \"recording:FILE\"`"))
        })?;
        each_line(path, file, |line| {
            match line {
                RecordingLine::Blob(text) => {
                    recording.blobs.insert(BlobHash::of(text.as_bytes()), text);
                }
                RecordingLine::Call(call) => recording.add(*call)?,
                RecordingLine::Event(_) => {}
            }
            Ok(())
        })?;
        if recording.calls.is_empty() {
            let remedy = "it has no calls: write one with `ai-factory export`";
            return Err(unusable(path, remedy));
        }
        Ok(recording)
    }

    fn add(&mut self, call: RecordedCall) -> Result<(), String> {
        let hash = hash(&self.sent(&call.request)?);
        self.answer(&call.answer)?;
        self.by_request.entry(hash).or_insert(self.calls.len());
        self.calls.push(call);
        Ok(())
    }

    fn blob<T: serde::de::DeserializeOwned>(&self, hash: BlobHash) -> Result<T, String> {
        let text = self.blobs.get(&hash).ok_or_else(|| format!("the text {hash} is missing"))?;
        serde_json::from_str(text).map_err(|error| format!("the text {hash}: {error}"))
    }

    fn sent(&self, request: &CallRequest) -> Result<Value, String> {
        let mut numbered = Numbered::default();
        let messages = request.messages.iter();
        let messages: Result<Vec<_>, String> = messages
            .map(|message| Ok(numbered.message(&self.blob::<ChatMessage>(message.hash)?)))
            .collect();
        let tools = request.tools.map(|hash| self.blob::<Vec<ToolSpec>>(hash)).transpose()?;
        let schema = request.schema.map(|hash| self.blob(hash)).transpose()?;
        Ok(sent(&messages?, tools.as_deref(), schema.as_ref(), &request.parameters))
    }

    fn answer(&self, recorded: &RecordedAnswer) -> Result<ModelAnswer, String> {
        let ChatMessage::Assistant { text, tool_calls } = self.blob(recorded.message)? else {
            return Err(format!("the text {} is no answer", recorded.message));
        };
        let tool_calls = tool_calls.into_iter().map(|call| AnsweredToolCall {
            provider_id: call.provider_id,
            name: call.name,
            arguments: call.arguments,
        });
        Ok(ModelAnswer {
            text,
            tool_calls: tool_calls.collect(),
            stop: recorded.stop,
            usage: recorded.usage,
            answered_by: recorded.answered_by.clone(),
            provider_id: recorded.provider_id.clone(),
        })
    }

    /// The recorded answer to a call.
    pub(crate) fn play(&self, call: &ModelCall) -> Result<ModelAnswer, ModelError> {
        let mut numbered = Numbered::default();
        let messages: Vec<_> =
            call.messages.iter().map(|message| numbered.message(message)).collect();
        let tools = (!call.tools.is_empty()).then_some(&*call.tools);
        let asked = sent(&messages, tools, call.schema.as_deref(), &call.parameters);
        let found = self.by_request.get(&hash(&asked)).and_then(|place| self.calls.get(*place));
        let answer = match found {
            Some(found) => self.answer(&found.answer),
            None => Err(self.miss(&asked)),
        };
        answer.map_err(|reason| ModelError::new(ModelErrorClass::NotRecorded, reason))
    }

    /// Says where the nearest recorded request differs: the one with most messages in common.
    fn miss(&self, asked: &Value) -> String {
        let count = |request: &Value| request["messages"].as_array().map_or(0, Vec::len);
        let common = |recorded: &Value| {
            let pairs = recorded["messages"].as_array().into_iter().flatten();
            let pairs = pairs.zip(asked["messages"].as_array().into_iter().flatten());
            pairs.take_while(|(recorded, asked)| recorded == asked).count()
        };
        let nearest = (1..)
            .zip(&self.calls)
            .filter_map(|(number, call)| Some((number, self.sent(&call.request).ok()?)))
            .map(|(number, sent)| {
                let rank = (common(&sent), count(&sent) == count(asked));
                (rank, number, sent)
            })
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let difference =
            nearest.and_then(|(_, number, sent)| Some((number, first_difference(&sent, asked)?)));
        let Self { file, calls, .. } = self;
        let (messages, calls) = (count(asked), calls.len());
        let nearest = difference.map_or_else(String::new, |(number, difference)| {
            let Difference { path, before, after } = difference;
            format!(
                ": the nearest one, call {number} of {calls}, differs first at {path}: recorded {before}, asked {after}"
            )
        });
        format!(
            "the recording {file} has no answer to this request of {messages} messages{nearest}; restore what was \
             changed, or record anew"
        )
    }
}
