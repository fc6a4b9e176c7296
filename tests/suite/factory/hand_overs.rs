//! How often a session's work passes from one task to another.

use ai_factory_actors::tasks::HAND_OVER;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry,
};

use super::harness::*;

/// Counts what the actors note.
#[derive(Clone, Default)]
struct Noted(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Noted {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == HAND_OVER
    }

    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One thread, so that all tasks tell the test's subscriber.
#[tokio::test]
async fn a_session_without_code_takes_12_hand_overs_between_tasks() {
    let noted = Noted::default();
    let _telling = tracing::subscriber::set_default(registry().with(noted.clone()));
    let factory = TestFactory::start().await;
    // Once before: what a start leaves to do is done by then.
    factory.run("Think of a name for a shop").await.unwrap();
    let mut bus = factory.deps.bus.subscribe(">".parse().unwrap(), None, 100).await.unwrap();
    let counts =
        || (noted.0.load(Ordering::SeqCst), factory.counted.appends.load(Ordering::SeqCst));
    let before = counts();
    factory.run("Think of another one").await.unwrap();
    let after = counts();

    let mut messages = Vec::new();
    while let Some(message) = bus.try_next() {
        messages.push(message.subject.as_str().to_owned());
    }
    messages.retain(|subject| !subject.starts_with("factory.events."));
    let answers = messages.iter().filter(|subject| subject.starts_with("_INBOX.")).count();
    // The goal, the plan and the memories: asked for and answered.
    assert_eq!((messages.len(), answers), (6, 3), "{messages:?}");
    let (in_actors, appends) = (after.0 - before.0, after.1 - before.1);
    // To the supervisor of sessions, to the session, to its questions, and back.
    assert_eq!((in_actors, appends), (4, 1));
    // An append goes to the writer's thread and back.
    assert!(messages.len() + in_actors + 2 * appends <= 12);
}
