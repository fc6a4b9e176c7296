//! Header policy of every ingress: which headers of an outside request reach the local bus.
//!
//! *Promises.* The policy is an allow-list: [`PASSED_ON`], and nothing else that a sender wrote.
//! [`header::INGRESS`] is set here. What only the factory may say ([`header::PROVEN`],
//! [`header::FAULT`], [`header::CORRELATION`], [`header::CAUSATION`], [`header::OUTPUTS`],
//! [`header::ANSWER_WITHIN`], [`header::TRUSTED`]) is added after the policy, by the ingress or by a
//! session: nobody outside chooses the cause or correlation of an event.
//!
//! *Not here.* Validation of values: the actors do it, alike for every ingress.

use ai_factory_schemas::session::Ingress;

use crate::bus::{Headers, header};

/// The headers of a sender that a request on the local bus has too.
pub const PASSED_ON: [&str; 4] =
    [header::MESSAGE_ID, header::REQUEST_ID, header::TRACEPARENT, header::SUBMITTER];

/// The headers of a request from outside on the local bus. `sent` looks up what the sender wrote,
/// and is called for [`PASSED_ON`] only.
pub fn headers(ingress: Ingress, sent: impl Fn(&str) -> Option<String>) -> Headers {
    let mut headers = Headers::default();
    for name in PASSED_ON {
        if let Some(value) = sent(name) {
            headers.set(name, value);
        }
    }
    headers.set(header::INGRESS, ingress.as_str());
    headers
}

/// The same for a request that came as a message.
pub fn of_message(ingress: Ingress, sent: &Headers) -> Headers {
    headers(ingress, |name| sent.get(name).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_sender_wrote_only_the_allowed_headers_are_passed_on() {
        let mut sent = Headers::default();
        for name in [
            header::MESSAGE_ID,
            header::REQUEST_ID,
            header::TRACEPARENT,
            header::SUBMITTER,
            header::INGRESS,
            header::PROVEN,
            header::FAULT,
            header::CORRELATION,
            header::CAUSATION,
            header::OUTPUTS,
            header::ANSWER_WITHIN,
            header::TRUSTED,
            header::POSITION,
            header::JOURNAL,
            header::ERROR_CODE,
            "Factory-Anything",
            "nats-msg-id",
        ] {
            sent.set(name, "forged");
        }
        let passed = of_message(Ingress::Nats, &sent);
        let passed: Vec<_> = passed.iter().collect();
        assert_eq!(
            passed,
            [
                (header::INGRESS, Ingress::Nats.as_str()),
                (header::SUBMITTER, "forged"),
                (header::MESSAGE_ID, "forged"),
                (header::REQUEST_ID, "forged"),
                (header::TRACEPARENT, "forged"),
            ]
        );
    }
}
