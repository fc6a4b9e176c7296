//! The day's budget over all sessions: a pure fold of the events of calls.
//!
//! A call counts against the day in UTC of its reservation. That day is never before the newest one
//! recorded, so a clock that is set back gives no day a second budget.

use ai_factory_ports::views::CallDay;
use ai_factory_schemas::{
    call::{CallEvent, CallRequested},
    model::{Budget, Charge, Reservation},
    time::Timestamp,
};

/// The length of a day, in microseconds.
const DAY_MICROS: i64 = 86_400_000_000;
/// The length of a date, `2026-12-01`, in bytes.
const DATE_BYTES: usize = 10;

/// What the newest day has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DayLedger(CallDay);

/// Why the day has no room for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DayIsFull {
    /// What is missing, when the day ends, and the setting.
    pub(super) reason: String,
    /// Until the day ends, in milliseconds; `None` if no day has room for the call.
    pub(super) ends_in_ms: Option<u64>,
}

impl DayLedger {
    /// The newest day recorded, if there is one.
    pub(super) fn new(newest: Option<CallDay>) -> Self {
        Self(newest.unwrap_or_default())
    }

    /// The day of a reservation that is made now.
    pub(super) fn day(&self, now: Timestamp) -> String {
        let mut today = now.to_string();
        today.truncate(DATE_BYTES);
        today.max(self.0.day.clone())
    }

    /// Whether a reservation that is made now fits.
    pub(super) fn check(
        &self,
        now: Timestamp,
        reserved: &Reservation,
        limit: &Budget,
    ) -> Result<(), DayIsFull> {
        if let Some(reason) = beyond_any_day(reserved, limit) {
            return Err(DayIsFull { reason, ends_in_ms: None });
        }
        let day = self.day(now);
        let taken = if day == self.0.day { self.0.clone() } else { CallDay::new(day) };
        let mut with = taken.clone();
        with.reserve(reserved);
        let what = if with.tokens > limit.tokens_max {
            let (needs, max) = (reserved.tokens(), limit.tokens_max);
            format!(
                "the call may take {needs} tokens, and of the day's {max} are {} spent or set aside \
                 (`model_day_tokens_max`)",
                taken.tokens
            )
        } else if let Some(max) = limit.cost_micros_max.filter(|max| with.cost_micros > *max) {
            let needs = reserved.cost_micros.unwrap_or(0);
            format!(
                "the call may cost {}, and of the day's {} are {} spent or set aside \
                 (`model_day_cost_max`)",
                amount(needs),
                amount(max),
                amount(taken.cost_micros)
            )
        } else {
            return Ok(());
        };
        let ends = end_of(&taken.day);
        let left = ends.as_micros().saturating_sub(now.as_micros()) / 1000;
        Err(DayIsFull {
            reason: format!(
                "the day's budget has no room: {what}; it begins anew at {ends}, or raise the setting and restart"
            ),
            ends_in_ms: Some(u64::try_from(left).unwrap_or(0)),
        })
    }

    /// The ledger after an event of a call; `requested` is the attempt that it belongs to.
    pub(super) fn apply(&mut self, event: &CallEvent, requested: &CallRequested) {
        let charged: &Charge = match event {
            CallEvent::Requested(requested) => return self.reserve(requested),
            CallEvent::Answered(answered) => &answered.charged,
            CallEvent::Failed(failed) => &failed.charged,
            CallEvent::Abandoned(abandoned) => &abandoned.charged,
        };
        if requested.day == self.0.day {
            self.0.settle(&requested.reserved, charged);
        }
    }

    fn reserve(&mut self, requested: &CallRequested) {
        if requested.day > self.0.day {
            self.0 = CallDay::new(requested.day.clone());
        }
        if requested.day == self.0.day {
            self.0.reserve(&requested.reserved);
        }
    }
}

/// Why a whole day has no room for a reservation.
fn beyond_any_day(reserved: &Reservation, limit: &Budget) -> Option<String> {
    let (needs, max) = (reserved.tokens(), limit.tokens_max);
    if needs > max {
        return Some(format!(
            "the call may take {needs} tokens, and a whole day has {max}: raise `model_day_tokens_max` and restart, \
             or lower `model_output_tokens_max`"
        ));
    }
    let (needs, max) = (reserved.cost_micros?, limit.cost_micros_max?);
    (needs > max).then(|| {
        format!(
            "the call may cost {}, and a whole day has {}: raise `model_day_cost_max` and restart, or lower \
             `model_output_tokens_max`",
            amount(needs),
            amount(max)
        )
    })
}

/// The end of a day.
fn end_of(day: &str) -> Timestamp {
    let begin = Timestamp::parse_human(day).unwrap_or_default();
    Timestamp::from_micros(begin.as_micros().saturating_add(DAY_MICROS))
}

/// An amount of money, given in millionths.
fn amount(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::{super::samples::requested, *};

    const LIMIT: Budget = Budget { tokens_max: 1000, cost_micros_max: Some(5_000_000) };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn reserved(tokens: u64, cost_micros: u64) -> Reservation {
        Reservation { input_tokens: tokens, output_tokens: 0, cost_micros: Some(cost_micros) }
    }

    /// A call at that time, if it fits.
    fn ask(ledger: &mut DayLedger, now: &str, tokens: u64) -> Result<CallRequested, DayIsFull> {
        let reserved = reserved(tokens, 0);
        ledger.check(at(now), &reserved, &LIMIT)?;
        let day = ledger.day(at(now));
        let requested = CallRequested { day, reserved, ..requested(1) };
        ledger.apply(&requested.clone().into(), &requested);
        Ok(requested)
    }

    #[test]
    fn a_full_day_refuses_until_midnight_and_says_when_and_which_setting() {
        let mut ledger = DayLedger::default();
        ask(&mut ledger, "2026-12-01T10:00:00Z", 900).unwrap();
        let full = ask(&mut ledger, "2026-12-01T23:59:58Z", 101).unwrap_err();
        assert_eq!(full.ends_in_ms, Some(2000));
        for part in ["`model_day_tokens_max`", "2026-12-02T00:00:00.000000Z", "1000", "900", "101"]
        {
            assert!(full.reason.contains(part), "{}", full.reason);
        }
        ask(&mut ledger, "2026-12-01T23:59:59Z", 100).unwrap();
        ask(&mut ledger, "2026-12-02T00:00:00Z", 1000).unwrap();
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_day_a_second_budget() {
        let mut ledger = DayLedger::default();
        ask(&mut ledger, "2026-12-02T00:00:01Z", 1000).unwrap();
        let full = ask(&mut ledger, "2026-12-01T23:00:00Z", 1).unwrap_err();
        assert_eq!(full.ends_in_ms, Some(25 * 3_600_000));
        assert_eq!(ledger.day(at("2026-11-01T00:00:00Z")), "2026-12-02");
    }

    #[test]
    fn a_charge_takes_the_place_of_what_was_set_aside_also_over_midnight() {
        let mut ledger = DayLedger::default();
        let early = ask(&mut ledger, "2026-12-01T23:00:00Z", 600).unwrap();
        let charged = Charge { tokens: 100, ..Charge::default() };
        let failed = CallEvent::Abandoned(ai_factory_schemas::call::CallAbandoned {
            attempt: 1,
            reason: String::new(),
            charged,
        });
        ledger.apply(&failed, &early);
        assert_eq!(ledger.0.tokens, 100);
        let late = ask(&mut ledger, "2026-12-01T23:59:59Z", 900).unwrap();
        ask(&mut ledger, "2026-12-02T00:00:00Z", 500).unwrap();
        ledger.apply(&failed, &late);
        assert_eq!((ledger.0.day.as_str(), ledger.0.tokens), ("2026-12-02", 500));
    }

    #[test]
    fn a_call_that_no_day_has_room_for_does_not_wait_for_one() {
        let ledger = DayLedger::default();
        let now = at("2026-12-01T10:00:00Z");
        for (reserved, setting) in [
            (reserved(1001, 0), "`model_day_tokens_max`"),
            (reserved(1, 5_000_001), "`model_day_cost_max`"),
        ] {
            let full = ledger.check(now, &reserved, &LIMIT).unwrap_err();
            assert_eq!(full.ends_in_ms, None);
            assert!(full.reason.contains(setting), "{}", full.reason);
        }
        assert_eq!(ledger.check(now, &reserved(1000, 5_000_000), &LIMIT), Ok(()));
    }

    #[test]
    fn a_cost_beyond_the_day_is_refused_with_its_own_setting() {
        let ledger = DayLedger::default();
        let now = at("2026-12-01T10:00:00Z");
        assert!(ledger.check(now, &reserved(1, 5_000_000), &LIMIT).is_ok());
        let full = ledger.check(now, &reserved(1, 5_000_001), &LIMIT).unwrap_err();
        assert!(full.reason.contains("`model_day_cost_max`"), "{}", full.reason);
        assert!(full.reason.contains("5.000001"), "{}", full.reason);
    }
}
