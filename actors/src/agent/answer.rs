//! An answer of the model, and what becomes of its tool calls.

use ai_factory_schemas::{
    call::ToolCallHead,
    chat::StopReason,
    id::{RunId, ToolCallId},
    limit::TOOL_CALLS_MAX,
    turn::{FinishCall, QuestionAsked, TurnFinished, TurnPurpose},
};

use super::tool_names;

/// An answer, and what became of its tool calls.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnAnswer {
    finished: TurnFinished,
    purpose: TurnPurpose,
    /// The tool calls that are carried out, in their order.
    pub(super) tools: Vec<ToolState>,
}

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolState {
    /// Nothing yet.
    Pending,
    /// Its run is with the debugger, or about to be.
    Dispatched {
        /// The run.
        run_id: RunId,
        /// From 1.
        attempt: u32,
    },
    /// It waits for a person.
    Asked(Box<QuestionAsked>),
    /// It has its result.
    Finished,
}

impl TurnAnswer {
    /// An answer of which nothing was carried out yet.
    pub(super) fn new(finished: TurnFinished, purpose: TurnPurpose) -> Self {
        let mut answer = Self { finished, purpose, tools: Vec::new() };
        if answer.is_carried_out() {
            let calls = answer.finished.tool_calls.len();
            answer.tools = vec![ToolState::Pending; calls.min(TOOL_CALLS_MAX)];
        }
        answer
    }

    /// The answer as recorded.
    pub fn finished(&self) -> &TurnFinished {
        &self.finished
    }

    /// What the answer was asked for.
    pub fn purpose(&self) -> TurnPurpose {
        self.purpose
    }

    /// Whether it is complete: neither cut nor refused.
    pub fn is_complete(&self) -> bool {
        matches!(self.finished.stop, StopReason::End | StopReason::ToolCalls)
    }

    /// Whether its tool calls are carried out: it is complete, tools were on offer, and it does not
    /// declare the end.
    fn is_carried_out(&self) -> bool {
        self.is_complete() && self.purpose == TurnPurpose::Work && self.finish().is_none()
    }

    /// The end that it declares. `finish` stands alone: beside other calls it declares none.
    pub fn finish(&self) -> Option<&FinishCall> {
        let stands_alone = match &self.finished.tool_calls[..] {
            [] => true,
            [call] => call.name == tool_names::FINISH,
            _ => false,
        };
        let counts = stands_alone && self.is_complete() && self.purpose == TurnPurpose::Work;
        self.finished.finish.as_ref().filter(|_| counts)
    }

    /// The call of `finish` that declares the end; none if a text does.
    pub fn finish_call(&self) -> Option<ToolCallId> {
        self.finish()?;
        self.finished.tool_calls.first().map(|call| call.id)
    }

    /// The tool calls that are not carried out and have no result yet.
    pub fn left_out(&self) -> &[ToolCallHead] {
        match self.finish() {
            Some(_) => &[],
            None => self.finished.tool_calls.get(self.tools.len()..).unwrap_or_default(),
        }
    }

    /// Whether it declares nothing and does nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.purpose == TurnPurpose::Work && self.tools.is_empty() && self.finish().is_none()
    }

    /// The first tool call without a result: its place from 0, the call, and its state.
    pub fn next_tool(&self) -> Option<(u32, &ToolCallHead, &ToolState)> {
        (0..)
            .zip(self.finished.tool_calls.iter().zip(&self.tools))
            .find(|(_, (_, state))| **state != ToolState::Finished)
            .map(|(index, (call, state))| (index, call, state))
    }

    /// The open question.
    pub fn question(&self) -> Option<&QuestionAsked> {
        match self.next_tool()?.2 {
            ToolState::Asked(asked) => Some(asked),
            _ => None,
        }
    }

    /// The run under way, and its attempt.
    pub fn run(&self) -> Option<(u32, RunId, u32)> {
        match self.next_tool()? {
            (index, _, ToolState::Dispatched { run_id, attempt }) => {
                Some((index, *run_id, *attempt))
            }
            _ => None,
        }
    }

    /// The state of the tool call whose turn it is, if it is this one.
    pub(super) fn tool_mut(&mut self, index: u32) -> Option<(&ToolCallHead, &mut ToolState)> {
        let (next, ..) = self.next_tool()?;
        let at = usize::try_from(index).ok().filter(|_| next == index)?;
        self.finished.tool_calls.get(at).zip(self.tools.get_mut(at))
    }
}
