//! What an answer says and how it goes wrong, in no protocol.

use ai_factory_schemas::chat::StopReason;
use serde_json::Value;

#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// What is told of the usage.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// A quarter of the bytes.
    Plausible,
    /// These tokens; of input those that were in no cache.
    Tokens {
        input: u64,
        output: u64,
        read: u64,
        written: u64,
    },
    /// This.
    Value(Value),
    /// Nothing.
    Nothing,
}

/// Where an answer ends too early.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// In good order, without an end mark.
    BeforeEnd,
    /// Within the last event before the end, by a closed connection.
    Inside,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) texts: Vec<String>,
    pub(super) calls: Vec<Called>,
    pub(super) refusal: Option<String>,
    pub(super) stop: Option<StopReason>,
    pub(super) usage: Told,
    pub(super) usage_is_late: bool,
    pub(super) argument_bytes: usize,
    pub(super) cut: Option<Cut>,
    pub(super) stall_before: Option<usize>,
    pub(super) raw: Vec<u8>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            calls: Vec::new(),
            refusal: None,
            stop: None,
            usage: Told::Plausible,
            usage_is_late: false,
            argument_bytes: usize::MAX,
            cut: None,
            stall_before: None,
            raw: Vec::new(),
        }
    }
}

impl Answer {
    pub(super) fn stop_reason(&self) -> StopReason {
        let usual = if self.calls.is_empty() {
            StopReason::End
        } else {
            StopReason::ToolCalls
        };
        self.stop.unwrap_or(usual)
    }

    /// The arguments of a call in the parts that they are sent in.
    pub(super) fn parts(&self, arguments: &str) -> Vec<String> {
        let bytes = arguments.as_bytes().chunks(self.argument_bytes.max(1));
        bytes
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect()
    }

    /// The tokens, for a request of so many bytes.
    pub(super) fn tokens(&self, request_bytes: usize) -> Told {
        let Told::Plausible = self.usage else {
            return self.usage.clone();
        };
        let said = self.texts.iter().map(String::len).sum::<usize>()
            + self
                .calls
                .iter()
                .map(|call| call.name.len() + call.arguments.len())
                .sum::<usize>();
        let tokens = |bytes: usize| u64::try_from(bytes / 4 + 1).unwrap();
        Told::Tokens {
            input: tokens(request_bytes),
            output: tokens(said),
            read: 0,
            written: 0,
        }
    }
}
