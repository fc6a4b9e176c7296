//! What a session with a model tells the shell around it: requests, questions, waits, what it took.

use ai_factory_schemas::{
    answer::{ModelUse, OpenQuestion},
    call::CallRequest,
    id::SessionId,
    model::SessionModel,
    request::Complete,
    session::SessionPhase,
    session::WaitReason,
    turn::{TurnFailed, TurnPurpose},
};

use super::{due::Due, state::Session};
use crate::agent::{budget::Shortfall, conversation::Conversation, turn::Turn};

impl Session {
    /// The terms of its model, if it has one.
    pub fn model(&self) -> Option<&SessionModel> {
        self.opened.as_ref()?.model.as_deref()
    }

    /// The conversation with its model, if it has one.
    pub fn conversation(&self) -> Option<&Conversation> {
        self.conversation.as_deref()
    }

    /// The attempt of the call under way, as the actor of the model is asked for it.
    pub fn request_of(&self, turn: u32, session: SessionId) -> Option<Complete> {
        let (terms, conversation) = (self.model()?, self.conversation()?);
        let turn = conversation.turn().filter(|last| last.number == turn)?;
        let Turn { number, call_id, attempt, purpose, reserved, predecessor, kept, .. } = turn;
        conversation.spend().reserved()?;
        Some(Complete {
            call_id: *call_id,
            session_id: Some(session),
            turn: *number,
            attempt: *attempt,
            endpoint: terms.endpoint.clone(),
            prices: terms.prices,
            request: call_request(terms, *purpose, conversation),
            predecessor: *predecessor,
            kept: *kept,
            reserved: *reserved,
        })
    }

    /// The question that waits for a person.
    pub fn open_question(&self) -> Option<OpenQuestion> {
        self.concluded.is_none().then(|| self.conversation()?.question()).flatten().map(|asked| {
            OpenQuestion {
                question_id: asked.question_id,
                question: asked.question.clone(),
                expires: asked.expires,
            }
        })
    }

    /// What its model took, if it has one.
    pub fn model_use(&self) -> Option<ModelUse> {
        Some(self.conversation()?.model_use(self.model()?))
    }

    /// What is lacking, and as much again as the next call sets aside: the call after it is about
    /// as large, and offers tools.
    fn with_one_more(&self, short: Shortfall) -> Option<Shortfall> {
        let (terms, used) = (self.model()?, self.model_use()?.budget);
        let free = used.tokens_max.saturating_sub(used.tokens_spent);
        let offer = terms.tools_bytes.saturating_add(terms.prompts_bytes);
        let tokens = short.tokens.saturating_add(free).saturating_add(offer);
        let cost_max = used.cost_micros_max.unwrap_or_default();
        let free = cost_max.saturating_sub(used.cost_micros_spent.unwrap_or_default());
        let cost = short.cost_micros.saturating_add(free);
        let offer = terms.prices.map_or(0, |prices| prices.cost_micros_max(offer, 0));
        Some(Shortfall {
            tokens: short.tokens.saturating_add(tokens),
            cost_micros: short.cost_micros.saturating_add(cost).saturating_add(offer),
        })
    }

    /// Whether it waits for another day: the day's budget had no room.
    pub fn is_waiting_for_day(&self) -> bool {
        self.due() == Some(Due::Day)
    }

    /// What a session with a model waits for.
    pub(super) fn wait(&self) -> Option<WaitReason> {
        match self.due()? {
            Due::Question => Some(WaitReason::Question),
            Due::Budget(_) | Due::Day => Some(WaitReason::Budget),
            _ => None,
        }
    }

    /// What it waits for, and what to do; `None` if it does not wait.
    pub fn waits_for(&self, id: SessionId) -> Option<String> {
        if self.phase() == SessionPhase::Waiting(WaitReason::Decision) {
            return Some(format!(
                "a decision about the step whose end is unknown: `ai-factory resolve {id} repeat` \
                 runs it again, `ai-factory resolve {id} skip` counts it as failed"
            ));
        }
        match self.due()? {
            Due::Question => {
                let expires = self.open_question()?.expires;
                Some(format!(
                    "an answer to the model's question, until {expires}: \
                     `ai-factory answer {id} \"…\"`"
                ))
            }
            Due::Budget(short) => Some(needs(id, &short, &self.with_one_more(short)?)),
            Due::Day => {
                let refused = self.conversation()?.turn()?.failed.as_deref();
                let reason = refused.map_or("", |TurnFailed { reason, .. }| reason);
                Some(format!(
                    "the budget of another day: it goes on after midnight UTC, or with a larger \
                     `model_day_tokens_max`. {reason}"
                ))
            }
            _ => None,
        }
    }
}

/// What a session lacks, and the command that adds enough.
fn needs(id: SessionId, short: &Shortfall, advised: &Shortfall) -> String {
    let (mut lacks, mut adds) = (Vec::new(), Vec::new());
    if short.tokens > 0 {
        lacks.push(format!("{} tokens", short.tokens));
        adds.push(format!("--add-tokens {}", advised.tokens));
    }
    if short.cost_micros > 0 {
        let cost = |micros: u64| {
            let cents = micros.div_ceil(10_000);
            format!("{}.{:02}", cents / 100, cents % 100)
        };
        lacks.push(format!("a cost of {}", cost(short.cost_micros)));
        adds.push(format!("--add-cost {}", cost(advised.cost_micros)));
    }
    format!(
        "a larger budget: the next call needs {} more. With `ai-factory budget {id} {}` there is room for the call \
         after it too",
        lacks.join(" and "),
        adds.join(" ")
    )
}

/// The request for what the conversation has come to.
pub(super) fn call_request(
    terms: &SessionModel,
    purpose: TurnPurpose,
    conversation: &Conversation,
) -> CallRequest {
    let is_work = purpose == TurnPurpose::Work;
    CallRequest {
        model: terms.endpoint.model.clone(),
        parameters: terms.parameters,
        tools: is_work.then_some(terms.tools),
        schema: (!is_work).then_some(terms.plan_schema),
        messages: conversation.messages().to_vec(),
    }
}
