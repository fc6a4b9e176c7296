//! Decoding of files and standard input as text.
//!
//! *Promises.* A leading byte order mark is no part of the text (Unicode 16.0, section 23.8). Text
//! in another encoding is refused with a sentence that says how to fix it.

/// The byte order mark; some editors write it before UTF-8, where it has no meaning.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// The byte order marks of UTF-16 and UTF-32, in both byte orders. That of little-endian UTF-32
/// begins like that of UTF-16.
const OTHER_MARKS: [&[u8]; 3] = [&[0xff, 0xfe], &[0xfe, 0xff], &[0, 0, 0xfe, 0xff]];

/// Bytes that are not UTF-8 text.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeTextError {
    /// Their byte order mark names another encoding.
    #[error("it is UTF-16 or UTF-32 text: save it as UTF-8")]
    OtherEncoding,
    /// They are not UTF-8.
    #[error("line {line} is not UTF-8 text: save it as UTF-8")]
    NotUtf8 {
        /// The first invalid line, from 1.
        line: usize,
    },
}

/// Whether bytes begin with a byte order mark of UTF-16 or UTF-32.
pub fn has_other_mark(bytes: &[u8]) -> bool {
    OTHER_MARKS.iter().any(|mark| bytes.starts_with(mark))
}

/// Text without leading byte order marks. There are several if files with one each were
/// concatenated.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches(BYTE_ORDER_MARK)
}

/// `bytes` decoded as UTF-8, without a byte order mark.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, DecodeTextError> {
    if has_other_mark(&bytes) {
        return Err(DecodeTextError::OtherEncoding);
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.starts_with(BYTE_ORDER_MARK) => Ok(without_mark(&text).to_owned()),
        Ok(text) => Ok(text),
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.split(|byte| *byte == b'\n').count();
            Err(DecodeTextError::NotUtf8 { line })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"\xef\xbb\xbf", ""),
            (b"\xef\xbb\xbf{}", "{}"),
            (b"\xef\xbb\xbf\xef\xbb\xbfa", "a"),
            (b"a\xef\xbb\xbfb", "a\u{feff}b"),
        ] {
            assert_eq!(decode_text(bytes.to_vec()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn text_in_another_encoding_is_refused_with_what_to_do() {
        for bytes in [utf16("{}", u16::to_le_bytes), utf16("{}", u16::to_be_bytes)] {
            assert_eq!(decode_text(bytes), Err(DecodeTextError::OtherEncoding));
        }
        let utf32 = b"\0\0\xfe\xff\0\0\0a".to_vec();
        assert_eq!(decode_text(utf32), Err(DecodeTextError::OtherEncoding));
        let latin1 = b"one\ntw\xf6\n".to_vec();
        assert_eq!(decode_text(latin1), Err(DecodeTextError::NotUtf8 { line: 2 }));
        assert!(DecodeTextError::OtherEncoding.to_string().contains("save it as UTF-8"));
    }
}
