//! How long an answer is waited for.
//!
//! *Promises.* Only parts of the answer count as progress: signs of life, such as comments and
//! pings, extend the wait by no more than the time limit of the first part.

use std::time::Duration;

use tokio::time::Instant;

/// Time limit of an attempt, whatever arrives.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_hours(1);
/// Time limit of the body of a refusal, or of what a server tells.
pub(crate) const BODY_MAX: Duration = Duration::from_secs(10);

/// Time limits of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    /// Of the connection's set-up.
    pub(crate) connect: Duration,
    /// From the request to the first part of the answer.
    pub(crate) first_byte: Duration,
    /// Between two parts of the content.
    pub(crate) idle: Duration,
}

/// A time limit that an answer can exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Nothing of the answer came.
    FirstByte,
    /// Nothing came.
    Idle,
    /// Signs of life came, and nothing more of the answer.
    Progress,
    /// The answer takes too long as a whole.
    Attempt,
}

/// The patience with one answer.
#[derive(Debug)]
pub(crate) struct Patience {
    limits: TimeLimits,
    began: Instant,
    heard: Instant,
    progressed: Option<Instant>,
}

impl Patience {
    /// The request leaves.
    pub(crate) fn new(limits: TimeLimits, began: Instant) -> Self {
        Self { limits, began, heard: began, progressed: None }
    }

    /// Something came.
    pub(crate) fn heard(&mut self, at: Instant) {
        self.heard = at;
    }

    /// A part of the answer came.
    pub(crate) fn progressed(&mut self, at: Instant) {
        self.progressed = Some(at);
    }

    /// Until when to wait for what comes next, and which limit is exceeded then.
    pub(crate) fn until(&self) -> (Instant, Waited) {
        let TimeLimits { first_byte, idle, .. } = self.limits;
        let next = match self.progressed {
            None => (self.began + first_byte, Waited::FirstByte),
            Some(at) => {
                let progress = (at + first_byte.max(idle), Waited::Progress);
                let heard = (self.heard.max(at) + idle, Waited::Idle);
                if progress.0 < heard.0 { progress } else { heard }
            }
        };
        let whole = (self.began + ATTEMPT_MAX.max(first_byte), Waited::Attempt);
        if whole.0 < next.0 { whole } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_keep_an_answer_open_no_longer_than_its_first_part_may_take() {
        let seconds = Duration::from_secs;
        let limits =
            TimeLimits { connect: seconds(1), first_byte: seconds(120), idle: seconds(60) };
        let began = Instant::now();
        let mut patience = Patience::new(limits, began);
        patience.heard(began + seconds(100));
        assert_eq!(patience.until(), (began + seconds(120), Waited::FirstByte));
        patience.progressed(began + seconds(110));
        assert_eq!(patience.until(), (began + seconds(170), Waited::Idle));
        patience.heard(began + seconds(165));
        assert_eq!(patience.until(), (began + seconds(225), Waited::Idle));
        patience.heard(began + seconds(220));
        assert_eq!(patience.until(), (began + seconds(230), Waited::Progress));
        let late = began + ATTEMPT_MAX - seconds(1);
        patience.heard(late);
        patience.progressed(late);
        assert_eq!(patience.until(), (began + ATTEMPT_MAX, Waited::Attempt));
    }
}
