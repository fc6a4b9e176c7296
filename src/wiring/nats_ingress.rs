//! The factory's services on a NATS server, beside events and goals: the actors, and an agent.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::deps::Deps;
use ai_factory_ports::bus::SubscribeError;
use ai_factory_tail::Tail;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::live_text;
use crate::{
    agent_protocol::{Agent, AgentIdentity, AgentLimits, ClaimsSettings, SILENCE_MAX, token},
    config::Settings,
    nats::{NatsBus, StreamsSettings},
    services::{AnswerLimits, Services},
};

/// How long requests in progress are awaited at the factory's end, before and after the end of the
/// actors.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// The tasks that serve NATS.
#[derive(Default)]
pub(super) struct NatsIngress {
    /// Cancelled when no further request is accepted.
    closing: CancellationToken,
    /// Cancelled when the actors have ended.
    ended: CancellationToken,
    tasks: JoinSet<()>,
}

impl NatsIngress {
    /// Starts the services.
    pub(super) async fn start(
        settings: &Settings,
        deps: &Deps,
        tail: &Arc<Tail>,
        nats: &Arc<NatsBus>,
    ) -> Result<Self, SubscribeError> {
        let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let answers = AnswerLimits::new(settings);
        let services = Services {
            outside: Arc::clone(nats) as Arc<_>,
            inside: Arc::clone(&deps.bus),
            subjects: deps.subjects.clone(),
            clock: Arc::clone(&deps.clock),
            ids: Arc::clone(&deps.ids),
            node: settings.node.clone(),
            requests_max: settings.requests_waiting_max,
            answers,
        };
        services.start(&mut tasks, &closing).await?;
        live_text::forward(deps, nats, &mut tasks, &closing).await?;
        let of_server = Arc::clone(nats);
        let agent = Agent {
            outside: Arc::clone(nats) as Arc<_>,
            message_bytes_max: Arc::new(move || of_server.message_bytes_max()),
            connections: nats.connections(),
            inside: Arc::clone(&deps.bus),
            subjects: deps.subjects.clone(),
            journal: Arc::clone(&deps.journal),
            tail: Arc::clone(tail),
            clock: Arc::clone(&deps.clock),
            ids: Arc::clone(&deps.ids),
            identity: identity(settings),
            claims: ClaimsSettings {
                bucket: StreamsSettings::name(&deps.subjects, "keys"),
                replicas: settings.nats_replicas,
            },
            limits: AgentLimits {
                prompts_max: settings.sessions_max,
                submit_max: answers.other,
                silence_max: SILENCE_MAX,
                question_max: Duration::from_secs(settings.agent_question_s_max),
                may_ask: !settings.model.is_empty(),
                heartbeat_s: settings.agent_heartbeat_s,
            },
        };
        agent.start(&mut tasks, &closing, &ended).await?;
        Ok(Self { closing, ended, tasks })
    }

    /// Accepts no more requests, and waits `DRAIN_MAX` for those in progress. The others learn from
    /// their actor's end that they have to be repeated.
    pub(super) async fn drain(&mut self) {
        self.closing.cancel();
        self.wait().await;
    }

    /// Waits until every request has a reply, after the actors have ended.
    pub(super) async fn finish(mut self) {
        self.ended.cancel();
        self.wait().await;
        self.tasks.shutdown().await;
    }

    async fn wait(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_MAX, all).await;
    }
}

/// The factory's identity as an agent.
fn identity(settings: &Settings) -> AgentIdentity {
    let node = token(&settings.node);
    let or = |set: &str, other: String| if set.is_empty() { other } else { set.to_owned() };
    let user = user_name().map_or_else(|| node.clone(), |name| token(&name));
    AgentIdentity { owner: or(&settings.agent_owner, user), name: or(&settings.agent_name, node) }
}

/// The name of the user that this process runs as.
#[cfg(target_os = "linux")]
fn user_name() -> Option<String> {
    use nix::unistd::{User, getuid};
    User::from_uid(getuid()).ok()?.map(|user| user.name)
}

#[cfg(not(target_os = "linux"))]
fn user_name() -> Option<String> {
    None
}
