//! What an attempt without an answer is charged.

use ai_factory_schemas::model::{Charge, ModelErrorClass, Reservation, TokenPrices, TokenUsage};

/// The charge of a failed attempt: nothing if the provider bills nothing, otherwise the whole
/// reservation; more, or something, only if the provider says so.
pub(super) fn of_failure(
    class: ModelErrorClass,
    usage: Option<&TokenUsage>,
    reserved: &Reservation,
    prices: Option<&TokenPrices>,
) -> Charge {
    let told = Some(Charge::of(usage, reserved, prices)).filter(|charge| !charge.estimated);
    match class {
        // The answer was complete, so what it took is known.
        ModelErrorClass::Truncated => told.unwrap_or_else(|| Charge::whole(reserved)),
        class if class.is_free() => told.unwrap_or_else(Charge::nothing),
        _ => told.filter(|charge| charge.overrun).unwrap_or_else(|| Charge::whole(reserved)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: Reservation =
        Reservation { input_tokens: 100, output_tokens: 50, cost_micros: None };

    fn charged(class: ModelErrorClass, usage: Option<(u64, u64)>) -> (u64, bool, bool) {
        let usage =
            usage.map(|(input, output)| TokenUsage { input, output, ..TokenUsage::default() });
        let charge = of_failure(class, usage.as_ref(), &RESERVED, None);
        (charge.tokens, charge.estimated, charge.overrun)
    }

    #[test]
    fn what_the_provider_bills_nothing_for_is_released() {
        for class in [
            ModelErrorClass::Credentials,
            ModelErrorClass::NoSuchModel,
            ModelErrorClass::ContextTooLong,
            ModelErrorClass::RateLimited,
            ModelErrorClass::Overloaded,
        ] {
            assert_eq!(charged(class, None), (0, false, false), "{class}");
            assert_eq!(charged(class, Some((0, 0))), (0, false, false), "{class}");
            assert_eq!(charged(class, Some((7, 1))), (8, false, false), "{class}");
        }
    }

    #[test]
    fn what_may_have_been_billed_is_kept_whole_and_more_if_the_provider_says_more() {
        for class in [
            ModelErrorClass::TimedOut,
            ModelErrorClass::Cut,
            ModelErrorClass::Malformed,
            ModelErrorClass::Unknown,
            ModelErrorClass::Cancelled,
        ] {
            assert_eq!(charged(class, None), (150, true, false), "{class}");
            assert_eq!(charged(class, Some((7, 1))), (150, true, false), "{class}");
            assert_eq!(charged(class, Some((200, 1))), (201, false, true), "{class}");
        }
        assert_eq!(charged(ModelErrorClass::Truncated, Some((7, 1))), (8, false, false));
        assert_eq!(charged(ModelErrorClass::Truncated, None), (150, true, false));
    }
}
