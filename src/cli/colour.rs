//! Colours of a terminal, and when they are used.

use std::ffi::{OsStr, OsString};

use ai_factory_schemas::session::{SessionPhase, SessionStatus};

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColourChoice {
    pub(crate) fn on(self, terminal: bool, environment: &[(OsString, OsString)]) -> bool {
        let value = |name: &str| {
            environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str())
        };
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                terminal
                    && value("NO_COLOR").is_none_or(OsStr::is_empty)
                    && value("TERM") != Some(OsStr::new("dumb"))
            }
        }
    }
}

/// A text colour (ECMA-48 SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Success.
    Green,
    /// Attention.
    Yellow,
    /// Failure.
    Red,
    /// Secondary text.
    Dim,
    /// Headings.
    Bold,
}

impl Colour {
    /// The colour of a status word: of a session, of a run, or of a check.
    pub(crate) fn of_status(status: &str) -> Option<Self> {
        if let Ok(phase) = status.parse() {
            return Some(Self::of_phase(phase));
        }
        match status {
            "ok" => Some(Self::Green),
            "timeout" | "abandoned" | "warning" => Some(Self::Yellow),
            "failed" => Some(Self::Red),
            _ => None,
        }
    }

    fn of_phase(phase: SessionPhase) -> Self {
        match phase {
            SessionPhase::Running => Self::Bold,
            SessionPhase::Waiting(_) | SessionPhase::Concluded(SessionStatus::Partial) => {
                Self::Yellow
            }
            SessionPhase::Concluded(SessionStatus::Success) => Self::Green,
            SessionPhase::Concluded(SessionStatus::Error) => Self::Red,
        }
    }

    /// The text in this colour.
    pub(crate) fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
            Self::Dim => 2,
            Self::Bold => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_and_no_color_is_honoured() {
        let set = |name: &str, value: &str| vec![(name.into(), value.into())];
        let auto = ColourChoice::Auto;
        assert!(auto.on(true, &[]));
        assert!(!auto.on(false, &[]));
        assert!(!auto.on(true, &set("NO_COLOR", "1")));
        assert!(auto.on(true, &set("NO_COLOR", "")));
        assert!(!auto.on(true, &set("TERM", "dumb")));
        assert!(ColourChoice::Always.on(false, &set("NO_COLOR", "1")));
        assert!(!ColourChoice::Never.on(true, &[]));
    }
}
