//! An answer while it arrives, within its bounds.

use ai_factory_ports::model::{AnsweredToolCall, ModelAnswer, ModelError, TokenSink};
use ai_factory_schemas::{
    chat::StopReason,
    limit::{MODEL_ANSWER_BYTES_MAX, TOOL_CALLS_READ_MAX},
    model::{ModelErrorClass, TokenUsage},
};
use serde::de::IgnoredAny;

/// Longest id or name of a model that is taken from an answer, in characters.
const ID_CHARS_MAX: usize = 200;

/// A tool call of a draft, by its place in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallPlace(usize);

#[derive(Debug)]
struct DraftCall {
    /// The number by which the provider speaks of it.
    index: Option<u64>,
    call: AnsweredToolCall,
}

/// An answer while it arrives.
#[derive(Debug, Default)]
pub(crate) struct AnswerDraft {
    text: String,
    calls: Vec<DraftCall>,
    bytes: usize,
    outputs: u64,
    /// How it ended, once that is said.
    pub(crate) stop: Option<StopReason>,
    /// What it took, once that is said.
    pub(crate) usage: Option<TokenUsage>,
    answered_by: Option<String>,
    provider_id: Option<String>,
}

/// A failure to read an answer.
pub(crate) fn malformed(reason: &str) -> ModelError {
    ModelError::new(
        ModelErrorClass::Malformed,
        format!("the answer cannot be read: {reason}; try again, or use another server or model"),
    )
}

/// The failure of an answer that broke off.
pub(crate) fn cut(reason: &str) -> ModelError {
    ModelError::new(
        ModelErrorClass::Cut,
        format!("the answer broke off: {reason}; nothing of it is used: try again"),
    )
}

impl AnswerDraft {
    /// Number of parts that the model has put out, be they reasoning.
    pub(crate) fn outputs(&self) -> u64 {
        self.outputs
    }

    /// Something was put out that is no part of the answer.
    pub(crate) fn begin(&mut self) {
        self.outputs += 1;
    }

    /// Who answers, as far as it is said.
    pub(crate) fn named(&mut self, provider_id: Option<&str>, answered_by: Option<&str>) {
        let shortened = |text: &str| text.chars().take(ID_CHARS_MAX).collect::<String>();
        let said = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(shortened);
        self.provider_id = self.provider_id.take().or_else(|| said(provider_id));
        self.answered_by = self.answered_by.take().or_else(|| said(answered_by));
    }

    /// The next part of the text.
    pub(crate) fn say(&mut self, part: &str, sink: &mut dyn TokenSink) -> Result<(), ModelError> {
        if part.is_empty() {
            return Ok(());
        }
        self.count(part)?;
        self.text.push_str(part);
        sink.text(part);
        Ok(())
    }

    /// The last tool call of that number; without a number the last one.
    pub(crate) fn place(&self, index: Option<u64>) -> Option<CallPlace> {
        let found = match index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index)),
            None => self.calls.len().checked_sub(1),
        };
        found.map(CallPlace)
    }

    /// The provider's id of a tool call.
    pub(crate) fn call_id(&self, place: CallPlace) -> Option<&str> {
        self.calls.get(place.0)?.call.provider_id.as_deref()
    }

    /// A tool call begins.
    pub(crate) fn begin_call(
        &mut self,
        index: Option<u64>,
        id: Option<&str>,
        name: &str,
    ) -> Result<CallPlace, ModelError> {
        if self.calls.len() >= TOOL_CALLS_READ_MAX {
            return Err(malformed(&format!("it calls more than {TOOL_CALLS_READ_MAX} tools")));
        }
        self.begin();
        self.count(name)?;
        self.count(id.unwrap_or_default())?;
        let provider_id = id.filter(|id| !id.is_empty()).map(str::to_owned);
        let call =
            AnsweredToolCall { provider_id, name: name.to_owned(), arguments: String::new() };
        self.calls.push(DraftCall { index, call });
        Ok(CallPlace(self.calls.len() - 1))
    }

    /// The name of a tool call that came without one.
    pub(crate) fn name_call(&mut self, place: CallPlace, name: &str) -> Result<(), ModelError> {
        match self.calls.get_mut(place.0) {
            Some(call) if call.call.name.is_empty() => name.clone_into(&mut call.call.name),
            _ => return Ok(()),
        }
        self.count(name)
    }

    /// The next part of a tool call's arguments.
    pub(crate) fn argue(&mut self, place: CallPlace, part: &str) -> Result<(), ModelError> {
        self.count(part)?;
        if let Some(call) = self.calls.get_mut(place.0) {
            call.call.arguments.push_str(part);
        }
        Ok(())
    }

    fn count(&mut self, part: &str) -> Result<(), ModelError> {
        self.outputs += u64::from(!part.is_empty());
        self.bytes = self.bytes.saturating_add(part.len());
        if self.bytes > MODEL_ANSWER_BYTES_MAX {
            return Err(malformed(&format!("it is longer than {MODEL_ANSWER_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// The complete answer.
    pub(crate) fn complete(self) -> Result<ModelAnswer, ModelError> {
        let usage = self.usage;
        self.checked().map_err(|error| ModelError { usage, ..error })
    }

    fn checked(self) -> Result<ModelAnswer, ModelError> {
        let Some(stop) = self.stop else {
            return Err(cut("it ended without saying that it is complete"));
        };
        // Nothing of an answer is carried out that ended for another reason, so only here do
        // incomplete arguments change its meaning.
        let has_ended = matches!(stop, StopReason::End | StopReason::ToolCalls);
        let mut tool_calls = Vec::with_capacity(self.calls.len());
        for DraftCall { mut call, .. } in self.calls {
            if has_ended && call.name.is_empty() {
                return Err(malformed("a tool call has no name"));
            }
            if call.arguments.trim().is_empty() {
                "{}".clone_into(&mut call.arguments);
            }
            let read = serde_json::from_str::<IgnoredAny>(&call.arguments);
            if has_ended && read.is_err_and(|error| error.is_eof()) {
                return Err(malformed(&format!(
                    "the arguments of its call of `{}` never end",
                    call.name
                )));
            }
            tool_calls.push(call);
        }
        let stop = match stop {
            // Some servers say one and do the other.
            StopReason::End | StopReason::ToolCalls if tool_calls.is_empty() => StopReason::End,
            StopReason::End => StopReason::ToolCalls,
            other => other,
        };
        Ok(ModelAnswer {
            text: self.text,
            tool_calls,
            stop,
            usage: self.usage,
            answered_by: self.answered_by,
            provider_id: self.provider_id,
        })
    }
}
