//! Serving one endpoint.

use ai_factory_ports::bus::{Message, Subscription};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;

/// Runs `handle` for every request, all concurrently in one task, so that an immediate reply costs
/// no task switch. After `ended` it accepts no more, and returns when all requests are done.
///
/// `handle` has to bound the number of concurrent requests: it is never kept waiting.
pub async fn serve<W: Future<Output = ()> + Send>(
    mut requests: Subscription,
    ended: CancellationToken,
    handle: impl Fn(Message) -> W + Send,
) {
    let mut under_way = FuturesUnordered::new();
    let (mut is_open, mut is_asking) = (true, true);
    while is_open || !under_way.is_empty() {
        tokio::select! {
            request = requests.next(), if is_open => match request {
                Some(request) => under_way.push(handle(request)),
                None => is_open = false,
            },
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            () = ended.cancelled(), if is_asking => {
                is_asking = false;
                requests.drain();
            }
        }
    }
}
