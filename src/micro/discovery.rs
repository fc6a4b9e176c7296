//! Replies on `$SRV` subjects.

use std::sync::Arc;

use ai_factory_ports::bus::{Bus, Message, SubscribeError, Subscription};
use ai_factory_schemas::subject::SubjectFilter;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::{service::MicroService, wire::DiscoveryVerb};

/// Discovery requests that are queued per subject; beyond it they are lost.
const QUESTIONS_WAITING_MAX: usize = 256;

/// Answers discovery requests about the service until `ended` or until the bus is closed.
pub async fn answer_discovery(
    service: Arc<MicroService>,
    bus: Arc<dyn Bus>,
    ended: CancellationToken,
) {
    let mut questions = match subscribed(&service, &*bus).await {
        Ok(questions) => questions,
        Err(error) => {
            tracing::warn!(%error, service = service.name, "a service cannot be discovered");
            return;
        }
    };
    loop {
        let asked = tokio::select! {
            () = ended.cancelled() => return,
            asked = questions.next() => asked,
        };
        let Some((verb, question)) = asked else { return };
        let Some(reply) = question.reply else { continue };
        let sent = match service.answer(verb) {
            Ok(told) => bus.publish(Message::new(reply, told)).await.map_err(|e| e.to_string()),
            Err(fault) => Err(fault.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(error, service = service.name, "a discovery request was not answered");
        }
    }
}

/// Every discovery subject of a service.
fn subjects(service: &MicroService, verb: DiscoveryVerb) -> [String; 3] {
    let (verb, name, id) = (verb.token(), &service.name, &service.id);
    [format!("$SRV.{verb}"), format!("$SRV.{verb}.{name}"), format!("$SRV.{verb}.{name}.{id}")]
}

async fn subscribed(
    service: &MicroService,
    bus: &dyn Bus,
) -> Result<SelectAll<BoxStream<'static, (DiscoveryVerb, Message)>>, SubscribeError> {
    let mut all = SelectAll::new();
    for verb in DiscoveryVerb::ALL {
        for subject in subjects(service, verb) {
            let filter: SubjectFilter = subject
                .parse()
                .map_err(|wrong| SubscribeError::Broken(format!("{subject}: {wrong}")))?;
            let questions = bus.subscribe(filter, None, QUESTIONS_WAITING_MAX).await?;
            all.push(messages(questions).map(move |message| (verb, message)).boxed());
        }
    }
    Ok(all)
}

fn messages(subscription: Subscription) -> impl futures_util::Stream<Item = Message> + Send {
    stream::unfold(subscription, async |mut subscription| {
        subscription.next().await.map(|message| (message, subscription))
    })
}
