//! The actor around every service: takes requests in, and handles them in place or in tasks.
//!
//! *Promises.* What needs no wait is answered in the actor's own task. A request that waits, or
//! takes long, holds up no other. When the actor dies, every caller of a request in progress or
//! unread is told at once to retry.

use std::{marker::PhantomData, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::{
    deps::Deps,
    intake::{Intake, ServedVerbs},
    request::{Answer, Request},
    tasks::Tasks,
};

/// The work on one request, up to its answer.
pub enum Handling {
    /// Short: runs in the actor's task up to its first wait, and what is left of it in a task of
    /// its own.
    InPlace(BoxFuture<'static, ()>),
    /// Has effects, or takes long: runs in a task of its own.
    Beside(BoxFuture<'static, ()>),
}

impl Handling {
    /// Work that is short, or waits: a question to a pure function, or to an index.
    pub fn in_place(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::InPlace(work.boxed())
    }

    /// Work with effects.
    pub fn beside(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::Beside(work.boxed())
    }

    /// An answer that is there already.
    pub fn answer(request: Request, answer: Answer) -> Self {
        Self::in_place(request.reply.send(answer))
    }
}

/// The behaviour of one kind of service actor.
pub trait Service: Send + Sync + Sized + 'static {
    /// The second token of its subjects.
    const ACTOR: &'static str;
    /// Verbs whose answers depend on their body and the journal alone, and which change nothing.
    const QUESTIONS: &'static [&'static str] = &[];
    /// Verbs that handle an unusable key themselves
    /// ([`crate::request::RequestContext::fault`]) because they record refusals.
    const RECORDED: &'static [&'static str] = &[];

    /// A new service: what must survive its death is in the journal or in `deps`.
    fn new(deps: Arc<Deps>) -> Self;

    /// Work at each start, after the subjects are served.
    fn started(&mut self, _tasks: &mut Tasks) {}

    /// Handles one request. Returns at once: the work is in what it returns.
    fn handle(&mut self, request: Request) -> Handling;
}

/// The ractor actor of a [`Service`]: ractor supervises it, and its requests come from the bus.
pub struct ServiceActor<S>(PhantomData<S>);

impl<S> Default for ServiceActor<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The state of a [`ServiceActor`]: the task that serves, which ends with the actor.
pub struct ServiceState {
    _serving: JoinSet<()>,
}

#[ractor::async_trait]
impl<S: Service> Actor for ServiceActor<S> {
    type Msg = ();
    type State = ServiceState;
    type Arguments = Arc<Deps>;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        deps: Arc<Deps>,
    ) -> Result<ServiceState, ActorProcessingErr> {
        let verbs = ServedVerbs { actor: S::ACTOR, questions: S::QUESTIONS, recorded: S::RECORDED };
        let intake = Intake::open(&deps, verbs).await?;
        let (mut service, mut tasks) = (S::new(Arc::clone(&deps)), Tasks::default());
        service.started(&mut tasks);
        let mut serving = JoinSet::new();
        serving.spawn(Serving { service, tasks, intake, actor: myself }.run());
        deps.started.add_permits(1);
        Ok(ServiceState { _serving: serving })
    }
}

/// The serving task of an actor. It ends the actor when it ends itself: an actor that serves no
/// longer must be restarted.
struct Serving<S> {
    service: S,
    tasks: Tasks,
    intake: Intake,
    actor: ActorRef<()>,
}

impl<S> Drop for Serving<S> {
    fn drop(&mut self) {
        self.actor.stop(Some("it serves no longer".to_owned()));
    }
}

impl<S: Service> Serving<S> {
    async fn run(mut self) {
        while let Some(request) = self.intake.next().await {
            let span = request.reply.span().clone();
            span.in_scope(|| match self.service.handle(request) {
                Handling::InPlace(work) => self.tasks.run_in_place(work),
                Handling::Beside(work) => self.tasks.spawn(work),
            });
        }
    }
}
