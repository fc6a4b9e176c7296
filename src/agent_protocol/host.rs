//! The agent's NATS service: its endpoints and its heartbeat.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ai_factory_actors::intake::REQUESTS_UNREAD_MAX;
use ai_factory_micro::{Endpoint, Metadata, MicroService};
use ai_factory_ports::{
    bus::{Bus, Message, SubscribeError},
    clock::{Clock, IdSource},
    ingress,
    journal::Journal,
    request_reply,
};
use ai_factory_schemas::{
    problem::Problem,
    session::Ingress,
    subject::{ParseSubjectError, Subject, Subjects, operation},
};
use ai_factory_tail::Tail;
use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    claims::{Claims, ClaimsSettings},
    envelope::PROMPT_BYTES_MAX,
    events,
    identity::{AGENT, AgentIdentity, PROTOCOL_VERSION, QUEUE_GROUP, SERVICE_NAME},
    peers::Peers,
    prompt::Prompt,
    refusal,
    sender::Nonces,
    state::{AgentEndpoint, AgentState},
};

/// Limits of the agent.
#[derive(Clone, Copy, Debug)]
pub struct AgentLimits {
    /// Concurrent prompts.
    pub prompts_max: usize,
    /// Timeout of the supervisor for operations without work.
    pub submit_max: Duration,
    /// Silence on a stream before a keep-alive status.
    pub silence_max: Duration,
    /// Timeout for a caller's answer to a question (§7.3).
    pub question_max: Duration,
    /// Whether a model may ask the callers: only where one is configured.
    pub may_ask: bool,
    /// Heartbeat interval in seconds (§8.2).
    pub heartbeat_s: u64,
}

/// The factory as an agent: its ports and its identity.
pub struct Agent {
    /// The bus that prompts arrive on.
    pub outside: Arc<dyn Bus>,
    /// The current payload limit of the outside bus, in bytes.
    pub message_bytes_max: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Changes with each new connection of the outside bus.
    pub connections: watch::Receiver<u64>,
    /// The bus of the supervisor.
    pub inside: Arc<dyn Bus>,
    /// Subjects on the inside bus.
    pub subjects: Subjects,
    /// Source of a session's events.
    pub journal: Arc<dyn Journal>,
    /// The same journal's tail.
    pub tail: Arc<Tail>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// The agent's identity.
    pub identity: AgentIdentity,
    /// The bucket of claims.
    pub claims: ClaimsSettings,
    /// How much of everything.
    pub limits: AgentLimits,
}

fn no_subject(wrong: &ParseSubjectError) -> SubscribeError {
    SubscribeError::Broken(wrong.to_string())
}

impl Agent {
    /// Starts to serve, in tasks of its own. They accept nothing new after `closing`, and
    /// end after `ended`: then work in progress produces nothing more.
    pub async fn start(
        self,
        tasks: &mut JoinSet<()>,
        closing: &CancellationToken,
        ended: &CancellationToken,
    ) -> Result<(), SubscribeError> {
        let heartbeats = self.identity.subject("hb").map_err(|wrong| no_subject(&wrong))?;
        let description = format!("A goal comes in, a session comes out: {}", self.identity.name);
        let service_metadata = ai_factory_micro::metadata([
            ("agent", AGENT),
            ("owner", &self.identity.owner),
            ("session", &self.identity.name),
            ("protocol_version", PROTOCOL_VERSION),
        ]);
        let claims = Claims::new(Arc::clone(&self.outside), self.claims, &self.identity);
        let (connections, started) = (self.connections, self.clock.now());
        let state = Arc::new(AgentState {
            outside: self.outside,
            message_bytes_max: self.message_bytes_max,
            inside: self.inside,
            subjects: self.subjects,
            journal: self.journal,
            watchers: Arc::default(),
            prompt_permits: Semaphore::new(self.limits.prompts_max),
            prompts_max: self.limits.prompts_max,
            submit_max: self.limits.submit_max,
            silence_max: self.limits.silence_max,
            question_max: self.limits.question_max,
            may_ask: self.limits.may_ask,
            connections: connections.clone(),
            ended: ended.clone(),
            event_permits: Semaphore::new(events::AT_ONCE),
            nonces: Nonces::default(),
            peers: Peers::default(),
            claims,
            beat_now: Notify::new(),
            instance_id: self.ids.new_id().simple().to_string(),
            clock: self.clock,
            ids: self.ids,
            identity: self.identity,
            heartbeat_s: self.limits.heartbeat_s,
        });
        tasks.spawn({
            let (watchers, tail) = (Arc::clone(&state.watchers), self.tail);
            let ended = ended.clone();
            async move {
                tokio::select! {
                    () = watchers.run(tail) => {}
                    () = ended.cancelled() => {}
                }
            }
        });
        Arc::clone(&state).discover_peers(&heartbeats, tasks, closing).await?;
        let mut endpoints = Vec::new();
        for asked in AgentEndpoint::ALL {
            let subject =
                state.identity.subject(asked.verb()).map_err(|wrong| no_subject(&wrong))?;
            let metadata = state.metadata(asked);
            let endpoint = Endpoint::new(asked.verb(), subject, QUEUE_GROUP, metadata);
            endpoints.push(Arc::clone(&endpoint));
            let filter = (&endpoint.subject).into();
            let requests =
                state.outside.subscribe(filter, Some(QUEUE_GROUP), REQUESTS_UNREAD_MAX).await?;
            let state = Arc::clone(&state);
            tasks.spawn(ai_factory_micro::serve(requests, closing.clone(), move |request| {
                let (state, endpoint) = (Arc::clone(&state), Arc::clone(&endpoint));
                async move {
                    let begun = Instant::now();
                    match state.forward(asked, &request).await {
                        Ok(false) => {}
                        Ok(true) => return endpoint.count(None, begun.elapsed()),
                        Err(problem) => {
                            state.refuse(request.reply, &problem).await;
                            return endpoint.count(Some(&problem), begun.elapsed());
                        }
                    }
                    let (refused, prompt) = state.answer(asked, request).await;
                    endpoint.count(refused.as_ref(), begun.elapsed());
                    if let Some(prompt) = prompt {
                        prompt.finish().await;
                    }
                }
            }));
        }
        let service = MicroService {
            name: SERVICE_NAME.to_owned(),
            id: state.instance_id.clone(),
            version: env!("CARGO_PKG_VERSION"),
            description,
            metadata: service_metadata,
            started,
            endpoints,
        };
        let outside = Arc::clone(&state.outside);
        tasks.spawn(ai_factory_micro::answer_discovery(
            Arc::new(service),
            outside,
            closing.clone(),
        ));
        // §8.2: after the registration.
        tasks.spawn(state.beat(heartbeats, connections, closing.clone()));
        Ok(())
    }
}

impl AgentState {
    /// Receives heartbeats of other instances with the same name, and takes over their forwarded
    /// requests that belong here.
    async fn discover_peers(
        self: Arc<Self>,
        heartbeats: &Subject,
        tasks: &mut JoinSet<()>,
        closing: &CancellationToken,
    ) -> Result<(), SubscribeError> {
        let own = self
            .identity
            .subject_of("peer", &self.instance_id)
            .map_err(|wrong| no_subject(&wrong))?;
        let beats = self.outside.subscribe(heartbeats.into(), None, REQUESTS_UNREAD_MAX).await?;
        let forwarded = self.outside.subscribe((&own).into(), None, REQUESTS_UNREAD_MAX).await?;
        let state = Arc::clone(&self);
        tasks.spawn(ai_factory_micro::serve(beats, closing.clone(), move |beat| {
            if state.peers.hear(&state.instance_id, &beat.payload, Instant::now()) {
                state.beat_now.notify_one();
            }
            std::future::ready(())
        }));
        tasks.spawn(ai_factory_micro::serve(forwarded, closing.clone(), move |forwarded| {
            let state = Arc::clone(&self);
            async move {
                let Some((asked, request)) = state.claim(forwarded).await else { return };
                if let (_, Some(prompt)) = state.answer(asked, request).await {
                    prompt.finish().await;
                }
            }
        }));
        Ok(())
    }

    fn metadata(&self, asked: AgentEndpoint) -> Metadata {
        match asked {
            // §2.1. Metadata values of NATS services are strings.
            AgentEndpoint::Prompt => {
                let message_bytes_max = Arc::clone(&self.message_bytes_max);
                Box::new(move || {
                    let bytes_max = message_bytes_max().min(PROMPT_BYTES_MAX);
                    [
                        ("max_payload".to_owned(), format!("{bytes_max}B")),
                        ("attachments_ok".to_owned(), "false".to_owned()),
                    ]
                    .into()
                })
            }
            AgentEndpoint::Status => ai_factory_micro::metadata([]),
            AgentEndpoint::Cancel => ai_factory_micro::metadata([(
                "description",
                "Ends a session: {\"id\": SESSION} or {\"key\": the Nats-Msg-Id of its prompt}.",
            )]),
            AgentEndpoint::Events => ai_factory_micro::metadata([(
                "description",
                "The events after a position: {\"after\": POSITION, \"session_id\": ID, \
                 \"limit\": COUNT}.",
            )]),
        }
    }

    /// Answers a request. Returns the problem if it was refused; for a prompt, the end of its
    /// stream is completed afterwards.
    async fn answer(
        &self,
        asked: AgentEndpoint,
        request: Message,
    ) -> (Option<Problem>, Option<Prompt<'_>>) {
        let refused = match asked {
            AgentEndpoint::Prompt => {
                let mut prompt = Prompt::new(self, &request);
                return (prompt.answer(request).await, Some(prompt));
            }
            AgentEndpoint::Status => self.status(request).await,
            AgentEndpoint::Cancel => self.cancel(request).await,
            AgentEndpoint::Events => events::answer(self, request).await,
        };
        (refused, None)
    }

    /// Refuses a request whose stream has not begun.
    async fn refuse(&self, reply: Option<Subject>, problem: &Problem) {
        let Some(reply) = reply else { return };
        let end = Message::new(reply.clone(), Bytes::new());
        let _ = self.outside.publish(refusal::message(reply, problem)).await;
        let _ = self.outside.publish(end).await;
    }

    fn heartbeat(&self) -> Result<Vec<u8>, serde_json::Error> {
        let now = self.clock.now();
        serde_json::to_vec(&self.identity.heartbeat(&self.instance_id, now, self.heartbeat_s))
    }

    /// §8.7: the content of a heartbeat, on request.
    async fn status(&self, request: Message) -> Option<Problem> {
        let reply = request.reply?;
        let beat = self
            .is_meant(&request.payload)
            .and_then(|()| self.heartbeat().map_err(|fault| Problem::internal(fault.to_string())));
        let (message, refused) = match beat {
            Ok(beat) => (Message::new(reply, beat), None),
            Err(problem) => (refusal::message(reply, &problem), Some(problem)),
        };
        let _ = self.outside.publish(message).await;
        refused
    }

    async fn cancel(&self, request: Message) -> Option<Problem> {
        let meant = self.is_meant(&request.payload);
        let mut inside =
            Message::new(self.subjects.operation(operation::SUPERVISOR_CANCEL), request.payload);
        inside.headers = ingress::of_message(Ingress::Agent, &request.headers);
        let answer = match meant {
            Ok(()) => request_reply::ask(&*self.inside, inside, self.submit_max).await,
            Err(problem) => Err(problem),
        };
        let refused = answer.as_ref().err().cloned();
        if let Some(reply) = request.reply {
            let message = match answer {
                Ok(answer) => Message::new(reply, answer),
                Err(problem) => refusal::message(reply, &problem),
            };
            let _ = self.outside.publish(message).await;
        }
        refused
    }

    /// §8: a heartbeat at start, with each new connection, and at each interval.
    async fn beat(
        self: Arc<Self>,
        subject: Subject,
        mut connections: watch::Receiver<u64>,
        closing: CancellationToken,
    ) {
        connections.mark_unchanged();
        let mut ticks = interval(Duration::from_secs(self.heartbeat_s.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                _ = ticks.tick() => {}
                Ok(()) = connections.changed() => ticks.reset(),
                () = self.beat_now.notified() => {}
            }
            match self.heartbeat() {
                Ok(beat) => {
                    // Without a connection nobody receives it; the next connection triggers
                    // another.
                    if let Err(error) =
                        self.outside.publish(Message::new(subject.clone(), beat)).await
                    {
                        tracing::debug!(%error, "a heartbeat was not sent");
                    }
                }
                Err(fault) => tracing::warn!(%fault, "a heartbeat cannot be written"),
            }
        }
    }
}
