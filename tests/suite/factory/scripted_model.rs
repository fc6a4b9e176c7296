//! A model that does what the test says, and a clock that shows what the test says.

use std::collections::VecDeque;

use ai_factory_ports::model::{
    AnsweredToolCall, Model, ModelAnswer, ModelCall, ModelError, ModelFacts, TokenSink,
};
use ai_factory_schemas::{
    chat::StopReason,
    model::{ModelEndpoint, TokenUsage},
};

use super::harness::*;

/// What the model does when it is asked.
pub(crate) enum Script {
    /// It says these parts, each when the gate opens, and then answers with them.
    Says(Vec<&'static str>),
    /// It answers with this usage.
    Used(Option<TokenUsage>),
    /// It calls a tool with these arguments.
    Calls(&'static str),
    /// It fails after these parts.
    Fails(Vec<&'static str>, ModelError),
    /// It never answers.
    Hangs,
}

/// The model: a script for each call, in order; without one it says `ok`.
#[derive(Default)]
pub(crate) struct ScriptedModel {
    pub(crate) scripts: Mutex<VecDeque<Script>>,
    pub(crate) asked: Mutex<Vec<ModelCall>>,
    /// Requests that were dropped before they were answered.
    pub(crate) dropped: Arc<AtomicUsize>,
    pub(crate) gate: ClosedGate,
}

/// A gate that is closed at first.
pub(crate) struct ClosedGate(pub(crate) Semaphore);

impl Default for ClosedGate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

/// Counts a request that ends without an answer.
struct Dropped(Option<Arc<AtomicUsize>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(count) = self.0.take() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl ScriptedModel {
    pub(crate) fn then(&self, script: Script) {
        self.scripts.lock().unwrap().push_back(script);
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn say(&self, parts: &[&str], sink: &mut dyn TokenSink) {
        for part in parts {
            self.gate.0.acquire().await.unwrap().forget();
            sink.text(part);
        }
    }
}

pub(crate) fn usage(input: u64, output: u64) -> TokenUsage {
    TokenUsage { input, output, ..TokenUsage::default() }
}

fn answer(text: String, usage: Option<TokenUsage>) -> ModelAnswer {
    ModelAnswer {
        text,
        tool_calls: Vec::new(),
        stop: StopReason::End,
        usage,
        answered_by: None,
        provider_id: None,
    }
}

#[async_trait::async_trait]
impl Model for ScriptedModel {
    fn endpoint(&self, _: Option<&str>) -> Result<Option<ModelEndpoint>, String> {
        Ok(None)
    }

    async fn facts(&self, _: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        Ok(ModelFacts::default())
    }

    async fn complete(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        self.asked.lock().unwrap().push(call);
        let mut dropped = Dropped(Some(Arc::clone(&self.dropped)));
        let script = self.scripts.lock().unwrap().pop_front();
        let answered = match script.unwrap_or(Script::Used(Some(usage(10, 5)))) {
            Script::Says(parts) => {
                self.say(&parts, sink).await;
                Ok(answer(parts.concat(), Some(usage(10, 5))))
            }
            Script::Used(usage) => Ok(answer("ok".into(), usage)),
            Script::Calls(arguments) => {
                let call = AnsweredToolCall {
                    provider_id: Some("call_1".into()),
                    name: "run".into(),
                    arguments: arguments.into(),
                };
                let stop = StopReason::ToolCalls;
                Ok(ModelAnswer { tool_calls: vec![call], stop, ..answer(String::new(), None) })
            }
            Script::Fails(parts, error) => {
                self.say(&parts, sink).await;
                Err(error)
            }
            Script::Hangs => std::future::pending().await,
        };
        dropped.0 = None;
        answered
    }
}

/// A clock that is set by hand, also backwards.
pub(crate) struct SetClock(Mutex<Timestamp>);

impl SetClock {
    pub(crate) fn at(text: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(text.parse().unwrap())))
    }

    pub(crate) fn set(&self, text: &str) {
        *self.0.lock().unwrap() = text.parse().unwrap();
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}
