//! Server-sent events: bytes in, events out, with bounds.
//!
//! The crates for it read lines of any length and take a stream that breaks off for one that ended;
//! the format itself is a page long.
//!
//! *Promises.* Lines end with LF, CR or CRLF, wherever the bytes are divided. Comments are skipped.
//! An event that no empty line completes is no event.
//!
//! *Limits.* A line, and the data of an event, have at most [`MODEL_ANSWER_BYTES_MAX`] bytes.

use ai_factory_schemas::limit::MODEL_ANSWER_BYTES_MAX;

/// Why a stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SseError {
    /// A line or an event is too long.
    #[error("a line of it is longer than {MODEL_ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Bytes that are no UTF-8.
    #[error("it is not UTF-8")]
    NotText,
}

/// Divides a stream into the data of its events.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    /// The last byte was a CR: an LF after it belongs to it.
    after_cr: bool,
    /// A line has been read: a byte order mark is none any more.
    begun: bool,
}

impl EventReader {
    /// Takes the next bytes, and answers the data of the events that they complete.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, SseError> {
        let mut events = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let is_rest_of_crlf = self.after_cr && end == 0 && bytes[0] == b'\n';
            self.after_cr = bytes[end] == b'\r';
            if !is_rest_of_crlf {
                self.append(&bytes[..end])?;
                events.extend(self.line_ended()?);
            }
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.after_cr = false;
            self.append(bytes)?;
        }
        Ok(events)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.line.len() + bytes.len() > MODEL_ANSWER_BYTES_MAX {
            return Err(SseError::TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line_ended(&mut self) -> Result<Option<String>, SseError> {
        let line = std::mem::take(&mut self.line);
        let line = str::from_utf8(&line).map_err(|_| SseError::NotText)?;
        let line = if self.begun { line } else { line.trim_start_matches('\u{feff}') };
        self.begun = true;
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return Ok(std::mem::take(&mut self.has_data).then_some(data));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            if self.data.len() + value.len() >= MODEL_ANSWER_BYTES_MAX {
                return Err(SseError::TooLong);
            }
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(value);
            self.has_data = true;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: usize) -> Result<Vec<String>, SseError> {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        for part in bytes.chunks(size) {
            events.extend(reader.take(part)?);
        }
        Ok(events)
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_divided_and_lines_end() {
        let stream = "\u{feff}: a comment\nevent: x\ndata: one\ndata:two\nid\n\ndata: drei ü\n\n\n\
                      data\n\nretry: 3\n\ndata: never completed\n";
        let expected = ["one\ntwo", "drei ü", ""];
        for ending in ["\n", "\r", "\r\n"] {
            let stream = stream.replace('\n', ending);
            for size in [1, 2, 3, 7, 1_000] {
                let found = read(stream.as_bytes(), size).unwrap();
                assert_eq!(found, expected, "{ending:?}, {size}");
            }
        }
    }

    #[test]
    fn a_line_without_end_and_bytes_that_are_no_text_are_refused() {
        let long = vec![b'x'; MODEL_ANSWER_BYTES_MAX + 1];
        assert_eq!(read(&long, 4_096), Err(SseError::TooLong));
        let lines = "data: xxxxxxxx\n".repeat(MODEL_ANSWER_BYTES_MAX / 8);
        assert_eq!(read(lines.as_bytes(), 4_096), Err(SseError::TooLong));
        assert_eq!(read(b"data: \xff\n\n", 4_096), Err(SseError::NotText));
        assert_eq!(read("data: ü\n\n".as_bytes(), 1).unwrap(), ["ü"], "divided, yet valid");
    }
}
