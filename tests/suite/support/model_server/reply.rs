//! What a request is answered.

use ai_factory_schemas::chat::StopReason;
use serde_json::Value;

use super::answer::{Answer, Called, Cut, Told};

/// A reply. Made by [`Reply::text`] and its neighbours, changed by the methods.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) kind: Kind,
    /// Whether it waits before its head until told to go on.
    pub(super) stalled: bool,
    /// The size of the pieces that its body is sent in, in bytes; as it comes if absent.
    pub(super) pieces: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A stream of the protocol.
    Answer(Answer),
    /// A stream of exactly these bytes.
    Stream(Vec<u8>),
    /// Another status than 200, or another content.
    Status {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// The connection is closed without a reply.
    HangUp,
}

impl From<Kind> for Reply {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            stalled: false,
            pieces: None,
        }
    }
}

impl Reply {
    /// A text, in one part.
    pub fn text(text: &str) -> Self {
        Self::texts([text])
    }

    /// A text in parts.
    pub fn texts<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let texts = parts.into_iter().map(str::to_owned).collect();
        Kind::Answer(Answer {
            texts,
            ..Answer::default()
        })
        .into()
    }

    /// A tool call.
    pub fn tool(name: &str, arguments: Value) -> Self {
        Self::tools([(name, arguments)])
    }

    /// Tool calls. Arguments that are a string are sent as they are, whatever they are.
    pub fn tools<'a>(calls: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let calls = calls
            .into_iter()
            .enumerate()
            .map(|(index, (name, arguments))| Called {
                id: format!("call_{index}"),
                name: name.to_owned(),
                arguments: arguments
                    .as_str()
                    .map_or_else(|| arguments.to_string(), str::to_owned),
            });
        Kind::Answer(Answer {
            calls: calls.collect(),
            ..Answer::default()
        })
        .into()
    }

    /// A refusal by the model, with its words.
    pub fn refusal(text: &str) -> Self {
        let answer = Answer {
            refusal: Some(text.to_owned()),
            ..Answer::default()
        };
        Self::from(Kind::Answer(answer)).stop(StopReason::Refusal)
    }

    /// Another status, with an empty body.
    pub fn status(status: u16) -> Self {
        Kind::Status {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
        .into()
    }

    /// A stream of exactly these bytes, with status 200.
    pub fn stream(bytes: impl Into<Vec<u8>>) -> Self {
        Kind::Stream(bytes.into()).into()
    }

    /// The connection is closed without a byte.
    pub fn hang_up() -> Self {
        Kind::HangUp.into()
    }

    /// Says this before the tool calls.
    pub fn saying(self, text: &str) -> Self {
        self.answer(|answer| answer.texts.insert(0, text.to_owned()))
    }

    /// Ends for this reason.
    pub fn stop(self, stop: StopReason) -> Self {
        self.answer(|answer| answer.stop = Some(stop))
    }

    /// Reports tokens of input and output.
    pub fn usage(self, input: u64, output: u64) -> Self {
        self.answer(|answer| {
            answer.usage = Told::Tokens {
                input,
                output,
                read: 0,
                written: 0,
            }
        })
    }

    /// Reports tokens of input from and to the provider's cache, beside those of [`Self::usage`].
    pub fn cached(self, tokens_read: u64, tokens_written: u64) -> Self {
        self.answer(|answer| {
            if let Told::Tokens { read, written, .. } = &mut answer.usage {
                (*read, *written) = (tokens_read, tokens_written);
            }
        })
    }

    /// Reports this in place of a usage.
    pub fn usage_of(self, value: Value) -> Self {
        self.answer(|answer| answer.usage = Told::Value(value))
    }

    /// Reports no usage.
    pub fn no_usage(self) -> Self {
        self.answer(|answer| answer.usage = Told::Nothing)
    }

    /// Reports the usage after the end mark.
    pub fn late_usage(self) -> Self {
        self.answer(|answer| answer.usage_is_late = true)
    }

    /// Sends arguments in parts of so many bytes.
    pub fn argument_parts(self, bytes: usize) -> Self {
        self.answer(|answer| answer.argument_bytes = bytes)
    }

    /// Ends in good order, but without an end mark.
    pub fn cut(self) -> Self {
        self.answer(|answer| answer.cut = Some(Cut::BeforeEnd))
    }

    /// Breaks off within the last event before the end: within the arguments of the last tool call,
    /// if there is one.
    pub fn cut_inside(self) -> Self {
        self.answer(|answer| answer.cut = Some(Cut::Inside))
    }

    /// Waits before this event, from 0, until told to go on.
    pub fn stall_before(self, event: usize) -> Self {
        self.answer(|answer| answer.stall_before = Some(event))
    }

    /// Sends these bytes before the events of the end.
    pub fn raw(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.answer(|answer| answer.raw = bytes.into())
    }

    fn answer(mut self, change: impl FnOnce(&mut Answer)) -> Self {
        match &mut self.kind {
            Kind::Answer(answer) => change(answer),
            other => panic!("{other:?} is no answer"),
        }
        self
    }

    /// Asks to be asked again after so many seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header("retry-after", &seconds.to_string())
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match &mut self.kind {
            Kind::Status { headers, .. } => headers.push((name.to_owned(), value.to_owned())),
            other => panic!("{other:?} has no headers"),
        }
        self
    }

    /// With this body.
    pub fn body(mut self, text: impl Into<String>) -> Self {
        match &mut self.kind {
            Kind::Status { body, .. } => *body = text.into(),
            other => panic!("{other:?} has no body"),
        }
        self
    }

    /// Waits before its head until told to go on.
    pub fn stalled(mut self) -> Self {
        self.stalled = true;
        self
    }

    /// Sends its body in pieces of so many bytes, wherever they end.
    pub fn in_pieces(mut self, bytes: usize) -> Self {
        self.pieces = Some(bytes);
        self
    }
}
