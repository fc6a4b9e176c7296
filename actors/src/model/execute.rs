//! Execution of one attempt of a call, from its request to its recorded end.
//!
//! *Promises.* The attempt is on disk before the request leaves, its end before it is answered. The
//! day's ledger contains every reservation that is on disk.

use std::sync::Arc;

use ai_factory_schemas::{
    answer::{CallEnd, Completed, StreamEnd},
    call::{CallEvent, CallFailed, CallRequested},
    event::Event,
    id::CallId,
    model::{Charge, ModelErrorClass},
    problem::Problem,
    request::Complete,
    text::Blob,
};
use tokio::{
    sync::{Mutex, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    content::CallContents,
    day::DayLedger,
    decider::{Call, CallCommand, CallRejection},
    live::LiveText,
    perform::{AnswerPlace, millis, perform},
};
use crate::{
    decider::Decider,
    deps::Deps,
    effect::{
        active::ActiveEffects,
        loaded::{Loaded, Streamed},
        orphans::orphans,
        slots::{EffectSlots, NoSlot},
    },
    request::RequestContext,
};

/// Executes calls and tracks those under way.
pub(super) struct CallExecutor {
    deps: Arc<Deps>,
    slots: EffectSlots,
    active: ActiveEffects<CallId>,
    contents: CallContents,
    /// The day's ledger, once it is read. Held over every append of a call, so that it is the fold
    /// of what is on disk.
    day: Mutex<Option<DayLedger>>,
}

impl Streamed for Call {
    fn own(event: Event) -> Option<CallEvent> {
        match event {
            Event::Call(event) => Some(event),
            _ => None,
        }
    }
}

fn check(asked: &Complete) -> Result<(), Problem> {
    let request = &asked.request;
    if request.messages.is_empty() {
        return Err(Problem::bad_request("a call has at least one message"));
    }
    if request.tools.is_some() && request.schema.is_some() {
        return Err(Problem::bad_request("a call has tools or a schema, never both"));
    }
    if asked.kept as usize > request.messages.len() {
        return Err(Problem::bad_request("`kept` counts messages of the request"));
    }
    Ok(())
}

/// The attempt as it is recorded.
fn requested(asked: &Complete, day: String) -> CallRequested {
    let request = &asked.request;
    CallRequested {
        session_id: asked.session_id,
        turn: asked.turn,
        attempt: asked.attempt,
        endpoint: asked.endpoint.clone(),
        parameters: request.parameters,
        request: request.hash(),
        predecessor: asked.predecessor,
        kept: asked.kept,
        appended: request.messages.iter().skip(asked.kept as usize).copied().collect(),
        tools: request.tools,
        schema: request.schema,
        reserved: asked.reserved,
        prices: asked.prices,
        day,
    }
}

impl CallExecutor {
    /// An executor with no call under way.
    pub(super) fn new(deps: Arc<Deps>) -> Self {
        let slots = EffectSlots::new(deps.limits.model.calls_max);
        let (active, contents) = (ActiveEffects::default(), CallContents::default());
        Self { deps, slots, active, contents, day: Mutex::default() }
    }

    /// Makes one attempt of a call; joins it if it is under way, and answers its recorded end if it
    /// has one.
    pub(super) async fn complete(
        &self,
        context: &RequestContext,
        asked: &Complete,
    ) -> Result<Completed, Problem> {
        check(asked)?;
        let entry = self.active.claim(asked.call_id).await;
        let mut loaded = self.load(asked.call_id).await?;
        if let Some(end) = self.known_end(context, asked, &mut loaded).await? {
            return Ok(Completed { waited_ms: 0, end });
        }
        let began = Instant::now();
        let _slot = self.slot(entry.cancel()).await?;
        let waited_ms = millis(began.elapsed());
        let end = self.attempt(context, asked, &mut loaded, entry.cancel()).await?;
        Ok(Completed { waited_ms, end })
    }

    /// Ends a call that is under way, and closes the record of one whose end is unknown. The result
    /// says whether it was under way.
    pub(super) async fn cancel(&self, call_id: CallId) -> Result<bool, Problem> {
        if self.active.cancel(call_id) {
            return Ok(true);
        }
        self.abandon(call_id, "its end is unknown, and nobody waits for it").await?;
        Ok(false)
    }

    /// The end of the attempt if there is one, after the end of what a crash left under way.
    async fn known_end(
        &self,
        context: &RequestContext,
        asked: &Complete,
        loaded: &mut Loaded<Call>,
    ) -> Result<Option<CallEnd>, Problem> {
        // The claim is held: no task of this process works on it.
        if let Ok(events) = loaded.state.decide(CallCommand::Lose) {
            let mut day = self.day.lock().await;
            self.append(&mut day, context, asked.call_id, loaded, &events, None).await?;
        }
        let recorded = loaded.state.requested(asked.attempt);
        if recorded.is_some_and(|recorded| recorded.request != asked.request.hash()) {
            let (call, attempt) = (asked.call_id, asked.attempt);
            let sentence = format!("attempt {attempt} of call {call} was another request before");
            return Err(Problem::conflict(sentence));
        }
        Ok(loaded.state.end(asked.attempt).cloned())
    }

    /// Waits for a place among the calls under way.
    async fn slot(&self, cancel: &CancellationToken) -> Result<SemaphorePermit<'_>, Problem> {
        self.slots.take(cancel).await.map_err(|reason| match reason {
            NoSlot::Cancelled => Problem::conflict("cancelled before it was sent"),
            NoSlot::Full | NoSlot::Stopping => {
                Problem::unavailable("the model's actor is stopping")
            }
        })
    }

    /// Records, sends, and records the end.
    async fn attempt(
        &self,
        context: &RequestContext,
        asked: &Complete,
        loaded: &mut Loaded<Call>,
        cancel: &CancellationToken,
    ) -> Result<CallEnd, Problem> {
        let deps = &*self.deps;
        let Complete { call_id, session_id, turn, attempt, .. } = *asked;
        let call = self.contents.load(&*deps.journal, asked).await?;
        if let Some(refused) = self.request(context, asked, loaded).await? {
            deps.metrics.call_failed(refused.class);
            return Ok(CallEnd::Failed(refused));
        }
        let (sink, mut live) = LiveText::open(deps, session_id, call_id, attempt);
        let place = AnswerPlace { call_id, session_id, turn };
        let (outcome, blob) = perform(deps, place, call, (sink, &mut live), cancel).await;
        let events = loaded.state.settle(outcome);
        let recorded = {
            let mut day = self.day.lock().await;
            self.append(&mut day, context, call_id, loaded, &events, blob).await
        };
        let end = loaded.state.end(attempt).cloned();
        live.close(match end {
            Some(CallEnd::Answered(_)) => StreamEnd::End,
            Some(CallEnd::Failed(_)) | None => StreamEnd::Void,
        })
        .await;
        recorded?;
        end.ok_or_else(|| Problem::internal("the call has no end"))
    }

    /// Records the beginning of the attempt; a failure, of which nothing is recorded, if the day
    /// has no room for it.
    async fn request(
        &self,
        context: &RequestContext,
        asked: &Complete,
        loaded: &mut Loaded<Call>,
    ) -> Result<Option<CallFailed>, Problem> {
        let deps = &*self.deps;
        let mut day = self.day.lock().await;
        if day.is_none() {
            let newest = deps.views.newest_call_day().await.map_err(Problem::from)?;
            *day = Some(DayLedger::new(newest));
        }
        let ledger = day.get_or_insert_default();
        let now = deps.clock.now();
        if let Err(full) = ledger.check(now, &asked.reserved, &deps.limits.model.day) {
            return Ok(Some(CallFailed {
                attempt: asked.attempt,
                class: match full.ends_in_ms {
                    Some(_) => ModelErrorClass::DayBudget,
                    None => ModelErrorClass::Refused,
                },
                reason: full.reason,
                retry_after_ms: full.ends_in_ms,
                usage: None,
                charged: Charge::nothing(),
                duration_ms: 0,
            }));
        }
        let command = CallCommand::Request(Box::new(requested(asked, ledger.day(now))));
        let refused = |reason: CallRejection| Problem::conflict(reason.to_string());
        let events = loaded.state.decide(command).map_err(refused)?;
        self.append(&mut day, context, asked.call_id, loaded, &events, None).await?;
        Ok(None)
    }

    /// Appends and folds, into the day's ledger too once it is read.
    async fn append(
        &self,
        day: &mut Option<DayLedger>,
        context: &RequestContext,
        call_id: CallId,
        loaded: &mut Loaded<Call>,
        events: &[CallEvent],
        blob: Option<Blob>,
    ) -> Result<(), Problem> {
        let blobs = blob.into_iter().collect();
        loaded.append(&self.deps, context, call_id.into(), events, None, blobs).await?;
        for event in events {
            let attempt = match event {
                CallEvent::Requested(requested) => requested.attempt,
                CallEvent::Answered(answered) => {
                    self.deps.metrics.call_answered();
                    answered.attempt
                }
                CallEvent::Failed(failed) => {
                    self.deps.metrics.call_failed(failed.class);
                    failed.attempt
                }
                CallEvent::Abandoned(abandoned) => abandoned.attempt,
            };
            if let (Some(ledger), Some(requested)) = (&mut *day, loaded.state.requested(attempt)) {
                ledger.apply(event, requested);
            }
        }
        Ok(())
    }

    async fn load(&self, call_id: CallId) -> Result<Loaded<Call>, Problem> {
        Loaded::load(&*self.deps.journal, call_id.into()).await
    }

    /// Closes the records of calls that were under way when the process died and that nobody waits
    /// for. Open sessions ask for theirs again.
    pub(super) async fn abandon_orphans(&self) {
        if let Err(problem) = self.try_abandon_orphans().await {
            tracing::warn!(%problem, "the records of abandoned calls could not be closed");
        }
    }

    async fn try_abandon_orphans(&self) -> Result<(), Problem> {
        let views = &*self.deps.views;
        let open = async {
            let open = views.open_calls().await?;
            Ok(open.into_iter().map(|open| (open.call_id, open.session_id)).collect())
        };
        for call_id in orphans(views, open).await? {
            if !self.active.contains(call_id) {
                let reason = "the factory stopped while it was under way, and nobody waits for it";
                self.abandon(call_id, reason).await?;
            }
        }
        Ok(())
    }

    /// Closes the record of a call; no effect if no attempt is under way.
    async fn abandon(&self, call_id: CallId, reason: &str) -> Result<(), Problem> {
        let _entry = self.active.claim(call_id).await;
        let mut loaded = self.load(call_id).await?;
        let reason = reason.to_owned();
        let Ok(events) = loaded.state.decide(CallCommand::Abandon { reason }) else {
            return Ok(());
        };
        let context = RequestContext::internal(&*self.deps.ids);
        let mut day = self.day.lock().await;
        self.append(&mut day, &context, call_id, &mut loaded, &events, None).await
    }
}
