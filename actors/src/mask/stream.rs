//! The mask of a text that arrives in parts: what may be the beginning of a secret is held back.
//!
//! A text is let through up to white space that no secret can cross, so a secret that arrives in
//! two parts is hidden as one that arrives in one.

use std::sync::Arc;

use super::{patterns::OpenKeys, whole::Mask};

/// Steps back from a place at which a secret may be open, before everything is held back until
/// there is more text. Bounds the work on a text that is made of openings.
const STEPS_BACK_MAX: usize = 16;

/// Hides secrets in a text that arrives in parts.
#[derive(Debug)]
pub struct StreamMask {
    mask: Arc<Mask>,
    held: String,
    /// Private keys that may be under way in what is held.
    keys: OpenKeys,
    /// Up to here no place was found that lets text through, and none will be: what may be open at
    /// a place depends on what precedes it.
    tried: usize,
}

impl StreamMask {
    /// Nothing has arrived yet.
    pub fn new(mask: Arc<Mask>) -> Self {
        Self { mask, held: String::new(), keys: OpenKeys::default(), tried: 0 }
    }

    /// The next part arrived; the answer is what can be let through.
    pub fn push(&mut self, part: &str) -> String {
        self.held.push_str(part);
        // Without new white space there is no new place to let text through.
        if !part.bytes().any(|byte| byte.is_ascii_whitespace()) {
            return String::new();
        }
        self.keys.read_on(&self.held);
        let end = self.safe_end();
        let through = self.mask.apply(&self.held[..end]);
        self.held.drain(..end);
        self.keys.forget(end);
        self.tried = self.held.len();
        through
    }

    /// The text is complete; the answer is the rest of it.
    pub fn finish(&mut self) -> String {
        (self.keys, self.tried) = (OpenKeys::default(), 0);
        self.mask.apply(&std::mem::take(&mut self.held))
    }

    /// The last place that no secret crosses, whatever follows; 0 if none is found.
    fn safe_end(&self) -> usize {
        let mut end = self.held.len();
        for _ in 0..STEPS_BACK_MAX {
            let untried = self.held.as_bytes().get(self.tried..end).unwrap_or_default();
            let space = untried.iter().rposition(u8::is_ascii_whitespace);
            let Some(space) = space.map(|at| self.tried + at) else { return 0 };
            match self.open_secret(space + 1) {
                None => return space + 1,
                Some(begin) => end = begin,
            }
        }
        0
    }

    /// Where a secret begins that may go on after the first so many bytes.
    fn open_secret(&self, length: usize) -> Option<usize> {
        let open = self.mask.open_secret(&self.held[..length]);
        open.into_iter().chain(self.keys.at(length)).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const PIECES: [&str; 36] = [
        "a",
        " ",
        "  ",
        "\n",
        "\t",
        "é",
        "\"",
        "'",
        "\\",
        "\\n",
        "=",
        ":",
        "=>",
        "-",
        ".",
        "0",
        "word ",
        "12345678",
        "password",
        "api_key",
        "PASSWD ",
        "secret = ",
        "bearer",
        "Bearer ",
        "sk-",
        "sk-ant-",
        "ghp_",
        "AKIAIOSFODNN7EXAMPLE",
        "a1B2c3D4e5F6g7H8",
        "os.environ[",
        "-----BEGIN ",
        "RSA PRIVATE KEY-----",
        "-----END ",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB",
        "horse battery",
        "correct horse battery staple",
    ];

    fn mask() -> Arc<Mask> {
        let known = ["correct horse battery staple", "battery staple ok", "12345678 12345678"];
        Arc::new(Mask::new(known.map(str::to_owned).to_vec()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn the_parts_let_through_are_the_masked_whole(
            pieces in vec(select(PIECES.to_vec()), 0..24),
            cuts in vec(0_usize..400, 0..12),
        ) {
            let text = pieces.concat();
            let mut cuts: Vec<_> =
                cuts.into_iter().map(|cut| text.floor_char_boundary(cut)).collect();
            cuts.sort_unstable();
            let (mut stream, mut through, mut from) = (StreamMask::new(mask()), String::new(), 0);
            for cut in cuts {
                through += &stream.push(&text[from..cut]);
                from = cut;
            }
            through += &stream.push(&text[from..]);
            through += &stream.finish();
            prop_assert_eq!(through, mask().apply(&text));
        }
    }

    #[test]
    fn plain_words_are_let_through_as_they_come() {
        let mut stream = StreamMask::new(mask());
        assert_eq!(stream.push("The answer "), "The answer ");
        assert_eq!(stream.push("is 4"), "is ");
        assert_eq!(stream.push("2 and"), "42 ");
        assert_eq!(stream.finish(), "and");
    }

    #[test]
    fn a_secret_in_two_parts_is_held_back_and_hidden() {
        let mut stream = StreamMask::new(mask());
        assert_eq!(stream.push("use api_key = "), "use ");
        assert_eq!(stream.push("a1B2c3D4"), "");
        assert_eq!(stream.push("e5F6g7H8 now "), "api_key = [masked] now ");
    }

    #[test]
    fn what_is_held_back_is_tried_once() {
        let opened = format!("{}-----BEGIN ", "a".repeat(100_000));
        let (mut stream, mut through) = (StreamMask::new(mask()), String::new());
        through += &stream.push(&opened);
        // Many minutes, if each part were a new beginning.
        for _ in 0..200_000 {
            through += &stream.push("b ");
            assert_eq!(stream.tried, stream.held.len());
        }
        assert_eq!(through, "", "it could be a private key");
        through += &stream.push("but is none. ");
        assert_eq!(through, opened + &"b ".repeat(200_000) + "but is none. ");
        assert_eq!((&*stream.held, stream.tried), ("", 0));
        assert_eq!(stream.push("secret = a"), "");
        assert_eq!(stream.push("1B2c3D4e5F6g7H8 "), "secret = [masked] ");
    }
}
