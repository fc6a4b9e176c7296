//! Timestamps in records: RFC 3339, UTC, microseconds.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z.
///
/// The text form always has six fractional digits and a `Z`, so that texts sort like times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 timestamp.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-01-31T12:00:00.000000Z")]
pub struct ParseTimestampError(String);

impl Timestamp {
    /// The time `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// A time given by a user: RFC 3339, or a date, which means its first moment in UTC.
    pub fn parse_human(text: &str) -> Result<Self, ParseTimestampError> {
        match text.parse::<jiff::civil::Date>() {
            Ok(_) if !text.contains(['T', 't', ' ']) => format!("{text}T00:00:00Z").parse(),
            _ => text.parse(),
        }
    }

    /// A form for file names: `20260131T120000Z`.
    pub fn stamp(self) -> String {
        let text = self.to_string();
        let digits: String = text[..19].chars().filter(|c| *c != '-' && *c != ':').collect();
        digits + "Z"
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at:.6}"),
            // After the year 9999 there is no RFC 3339 text.
            Err(_) => f.write_str("9999-12-31T23:59:59.999999Z"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: jiff::Timestamp =
            text.parse().map_err(|_| ParseTimestampError(text.to_owned()))?;
        Ok(Self(parsed.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_has_six_digits_and_reads_back() {
        let at = Timestamp::from_micros(1_780_000_000_000_000);
        assert_eq!(at.to_string(), "2026-05-28T20:26:40.000000Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        assert_eq!(at.stamp(), "20260528T202640Z");
    }

    #[test]
    fn a_date_is_its_first_moment() {
        let given = Timestamp::parse_human("2026-05-28").unwrap();
        assert_eq!(given.to_string(), "2026-05-28T00:00:00.000000Z");
        assert_eq!(Timestamp::parse_human("2026-05-28T02:00:00+02:00").unwrap(), given);
        for refused in ["2026-13-01", "yesterday", "", "2026-05-28T"] {
            assert!(Timestamp::parse_human(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_text_that_is_no_time_is_named_in_the_error() {
        assert!("yesterday".parse::<Timestamp>().unwrap_err().to_string().contains("yesterday"));
    }
}
