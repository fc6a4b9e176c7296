//! Retries of model calls: which failure is followed by another attempt, and when.

use ai_factory_schemas::{id::CallId, text::BlobHash, turn::TurnFailed};

/// The wait before the first retry, in milliseconds; it doubles with each.
const BACK_OFF_MS: u64 = 1_000;
/// The longest wait that the factory chooses, in milliseconds.
const BACK_OFF_MS_MAX: u64 = 60_000;
/// The longest wait that a provider may ask for, in milliseconds.
const RETRY_AFTER_MS_MAX: u64 = 600_000;

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another attempt.
    Retry,
    /// Nothing, for this reason.
    GiveUp(String),
}

/// What follows `failed`, the last of `failures` attempts of its call.
pub fn after(failed: &TurnFailed, failures: u32, retries_max: u32) -> AfterFailure {
    let TurnFailed { class, reason, .. } = failed;
    if !class.is_retried() {
        return AfterFailure::GiveUp(format!("the model gave no answer ({class}): {reason}"));
    }
    if failures > retries_max {
        return AfterFailure::GiveUp(format!(
            "the model gave no answer in {failures} attempts (`model_retries_max` allows no more); \
             the last one ({class}): {reason}"
        ));
    }
    AfterFailure::Retry
}

/// The wait before an attempt of a call, in milliseconds, after so many failed ones. Equal for
/// equal arguments, different for different calls.
pub fn delay_ms(call_id: CallId, attempt: u32, failures: u32, retry_after_ms: Option<u64>) -> u64 {
    let Some(earlier) = failures.checked_sub(1) else { return 0 };
    if let Some(asked) = retry_after_ms {
        return asked.min(RETRY_AFTER_MS_MAX);
    }
    let whole = BACK_OFF_MS.saturating_mul(2_u64.saturating_pow(earlier)).min(BACK_OFF_MS_MAX);
    let half = whole / 2;
    half + jitter(call_id, attempt) % (whole - half + 1)
}

fn jitter(call_id: CallId, attempt: u32) -> u64 {
    let BlobHash(hash) = BlobHash::of(format!("{call_id} {attempt}").as_bytes());
    hash.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::model::{Charge, ModelErrorClass};
    use uuid::Uuid;

    use super::*;

    fn failed(class: ModelErrorClass) -> TurnFailed {
        TurnFailed {
            turn: 1,
            call_id: CallId(Uuid::nil()),
            attempt: 1,
            class,
            reason: "set `model_key`".to_owned(),
            retry_after_ms: None,
            charged: Charge::nothing(),
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_only_so_often() {
        let overloaded = failed(ModelErrorClass::Overloaded);
        assert_eq!(after(&overloaded, 4, 4), AfterFailure::Retry);
        let AfterFailure::GiveUp(reason) = after(&overloaded, 5, 4) else { panic!("it goes on") };
        assert!(reason.contains("5 attempts") && reason.contains("overloaded"), "{reason}");
        let refused = after(&failed(ModelErrorClass::Credentials), 1, 4);
        let AfterFailure::GiveUp(reason) = refused else { panic!("it goes on") };
        assert!(reason.contains("credentials") && reason.contains("set `model_key`"), "{reason}");
    }

    #[test]
    fn waits_double_up_to_a_minute_and_differ_between_calls_but_not_between_repetitions() {
        let (one, other) = (CallId(Uuid::from_u128(1)), CallId(Uuid::from_u128(2)));
        assert_eq!(delay_ms(one, 1, 0, None), 0);
        for (failures, most) in [(1, 1_000), (2, 2_000), (6, 32_000), (7, 60_000), (90, 60_000)] {
            let delay = delay_ms(one, failures + 1, failures, None);
            assert!((most / 2..=most).contains(&delay), "{failures}: {delay}");
            assert_eq!(delay, delay_ms(one, failures + 1, failures, None));
        }
        assert_ne!(delay_ms(one, 8, 7, None), delay_ms(other, 8, 7, None));
        assert_ne!(delay_ms(one, 8, 7, None), delay_ms(one, 9, 8, None));
    }

    #[test]
    fn a_provider_names_the_wait_up_to_ten_minutes() {
        let call = CallId(Uuid::nil());
        assert_eq!(delay_ms(call, 2, 1, Some(7)), 7);
        assert_eq!(delay_ms(call, 2, 1, Some(u64::MAX)), 600_000);
    }
}
