//! Formats fields in log lines: `the message name=value`.
//!
//! *Promises.* An event takes one line in a terminal: control characters are escaped, except line
//! breaks and tabs. Fields with a dot in their name are for traces only.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format::Writer},
};

/// The field with the message.
const MESSAGE: &str = "message";

/// The field format of log lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlainFields;

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut line = LineVisitor::default();
        fields.record(&mut line);
        writer.write_str(&line.text)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let mut line = LineVisitor { text: std::mem::take(&mut current.fields) };
        fields.record(&mut line);
        current.fields = line.text;
        Ok(())
    }
}

#[derive(Default)]
struct LineVisitor {
    text: String,
}

impl Visit for LineVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if name.contains('.') {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        if name != MESSAGE {
            self.text.push_str(name);
            self.text.push('=');
        }
        // Writing to a string does not fail.
        let _ = write!(Escaped(&mut self.text), "{value:?}");
    }
}

/// Escapes control characters.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() && !matches!(character, '\n' | '\t') {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct FieldsSeparator(Arc<Mutex<Vec<u8>>>);

    impl io::Write for FieldsSeparator {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_plain_and_hold_nothing_for_traces_only() {
        let written = FieldsSeparator::default();
        let writer = written.clone();
        let layer = fmt::layer()
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(PlainFields)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!(
                "request",
                otel.kind = "server",
                verb = "run",
                id = tracing::field::Empty,
            );
            span.record("id", 7);
            let _entered = span.enter();
            tracing::warn!(word = "a\"b", shown = %"\x1b[31m", otel.name = "x", "said {}", "\x1b[1m");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let expected =
            " WARN request{verb=\"run\" id=7}: said \\u{1b}[1m word=\"a\\\"b\" shown=\\u{1b}[31m\n";
        assert_eq!(text, expected);
    }
}
