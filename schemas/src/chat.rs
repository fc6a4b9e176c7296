//! Chat messages: the elements of a conversation with a model, content-addressed.
//!
//! *Promises.* A message has one encoding, so one message has one hash. What a request sends, what
//! is stored and what is hashed are the same bytes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::ToolCallId,
    text::{Blob, BlobHash},
};

/// One element of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum ChatMessage {
    /// Who the model is, its tools, its limits.
    System {
        /// The text.
        text: String,
    },
    /// What the factory says: the goal, data, a check's output.
    User {
        /// The text.
        text: String,
    },
    /// What the model answered.
    Assistant {
        /// The text; empty if it only calls tools.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        /// The tools that it calls, in their order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// The result of a tool call.
    Tool {
        /// The call.
        call: ToolCallId,
        /// The result.
        text: String,
        /// Whether it tells of a failure.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

/// A tool call of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// Its id.
    pub id: ToolCallId,
    /// The provider's id for it, echoed to the provider; absent if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// The tool's name, as the model wrote it.
    pub name: String,
    /// The arguments, as the model wrote them: JSON, unless the model erred.
    pub arguments: String,
}

impl ToolCall {
    /// The hash of name and arguments: equal for equal calls, whatever the order of the keys.
    pub fn fingerprint(&self) -> BlobHash {
        // A `Value` keeps its keys sorted.
        let arguments = serde_json::from_str::<serde_json::Value>(&self.arguments)
            .map_or_else(|_| self.arguments.clone(), |value| value.to_string());
        BlobHash::of(format!("{} {arguments}", self.name).as_bytes())
    }
}

impl ChatMessage {
    /// The message as a blob.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_blob(&self) -> Result<Blob, serde_json::Error> {
        Ok(Blob::new(serde_json::to_vec(self)?))
    }

    /// The message in a blob.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// A message by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageRef {
    /// The hash of the message, a blob.
    pub hash: BlobHash,
    /// The size of the blob, in bytes: at least as many as the message has tokens.
    pub bytes: u64,
}

impl From<&Blob> for MessageRef {
    fn from(blob: &Blob) -> Self {
        Self { hash: blob.hash(), bytes: blob.bytes().len() as u64 }
    }
}

/// A tool as a model is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// The JSON Schema of its arguments: `type`, `properties`, `required`, `enum`, `description`
    /// alone.
    pub parameters: serde_json::Value,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model had said what it wanted to say.
    End,
    /// It waits for the results of its tool calls.
    ToolCalls,
    /// The limit of tokens was reached: the answer is cut.
    Length,
    /// The model or its provider refused.
    Refusal,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::End => "end",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::Refusal => "refusal",
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn equal_calls_have_one_fingerprint_whatever_the_order_of_their_keys() {
        let call = |name: &str, arguments: &str| ToolCall {
            id: ToolCallId(Uuid::nil()),
            provider_id: None,
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let one = call("run", r#"{"a": 1, "b": {"d": 2, "c": 3}}"#).fingerprint();
        assert_eq!(one, call("run", r#"{"b":{"c":3,"d":2},"a":1}"#).fingerprint());
        assert_ne!(one, call("ran", r#"{"b":{"c":3,"d":2},"a":1}"#).fingerprint());
        assert_ne!(call("run", "{not").fingerprint(), call("run", "{nor").fingerprint());
    }

    #[test]
    fn a_message_reads_back_from_its_blob() {
        let message = ChatMessage::Tool {
            call: ToolCallId(Uuid::nil()),
            text: "6765".to_owned(),
            is_error: false,
        };
        let blob = message.to_blob().unwrap();
        assert_eq!(MessageRef::from(&blob).bytes, blob.bytes().len() as u64);
        assert_eq!(ChatMessage::from_bytes(blob.bytes()).unwrap(), message);
    }
}
