//! The mask of a whole text.

use std::{fmt, ops::Range};

use super::patterns;

/// The text in the place of a secret.
pub const MASKED: &str = "[masked]";
/// The shortest value that is hidden wherever it stands, in bytes: shorter ones would stand in any
/// text.
const KNOWN_BYTES_MIN: usize = 8;

/// Hides secrets.
#[derive(Default)]
pub struct Mask {
    /// Values that are secret wherever they stand.
    known: Vec<String>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask").field("known", &self.known.len()).finish()
    }
}

impl Mask {
    /// Hides these values, and what looks like a secret. Values shorter than eight bytes are
    /// ignored: they would stand in any text.
    pub fn new(known: Vec<String>) -> Self {
        Self { known: known.into_iter().filter(|value| value.len() >= KNOWN_BYTES_MIN).collect() }
    }

    /// The text without secrets.
    pub fn apply(&self, text: &str) -> String {
        self.hide(text, patterns::find(text))
    }

    /// The text without the values that are known as secret: what only looks like a secret stays.
    /// For what a model wrote, which is carried out as it is.
    pub fn apply_known(&self, text: &str) -> String {
        self.hide(text, Vec::new())
    }

    /// Whether a text has a secret.
    pub fn finds_in(&self, text: &str) -> bool {
        !self.places(text, patterns::find(text)).is_empty()
    }

    /// The text without what was found in it and without the known values.
    fn hide(&self, text: &str, found: Vec<Range<usize>>) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut after = 0;
        for secret in self.places(text, found) {
            masked.push_str(&text[after..secret.start]);
            masked.push_str(MASKED);
            after = secret.end;
        }
        masked.push_str(&text[after..]);
        masked
    }

    /// The places of what was found in a text and of the known values, in order, those that overlap
    /// as one.
    fn places(&self, text: &str, mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
        for value in &self.known {
            found.extend(text.match_indices(value).map(|(at, value)| at..at + value.len()));
        }
        found.sort_unstable_by_key(|secret| (secret.start, secret.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for secret in found {
            match merged.last_mut() {
                Some(last) if secret.start < last.end => last.end = last.end.max(secret.end),
                _ => merged.push(secret),
            }
        }
        merged
    }

    /// Where a secret may begin that goes on after the end of this text. The text ends with white
    /// space.
    pub(super) fn open_secret(&self, text: &str) -> Option<usize> {
        let begins = |value: &String| {
            let from = text.len().saturating_sub(value.len() - 1);
            (from..text.len())
                .filter(|at| text.is_char_boundary(*at))
                .find(|at| value.starts_with(&text[*at..]))
        };
        self.known.iter().filter_map(begins).chain(patterns::open(text)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> bool {
        Mask::default().apply(text).contains(MASKED)
    }

    #[test]
    fn known_values_are_hidden_wherever_they_stand() {
        let mask = Mask::new(vec!["hunter2 hunter2".into(), "short".into()]);
        assert_eq!(mask.apply("xhunter2 hunter2x short"), "x[masked]x short");
        // One that reaches into another hides both.
        let mask = Mask::new(vec!["abcdefgh".into(), "efghijkl".into()]);
        assert_eq!(mask.apply("-abcdefghijkl-"), "-[masked]-");
        assert!(!format!("{mask:?}").contains("abcdefgh"), "{mask:?}");
    }

    #[test]
    fn what_only_looks_like_a_secret_stays_where_known_values_alone_are_hidden() {
        let mask = Mask::new(vec!["hunter2 hunter2".into()]);
        let text = "api_key = \"a1b2c3d4e5f6a7b8\" # hunter2 hunter2";
        assert_eq!(mask.apply_known(text), "api_key = \"a1b2c3d4e5f6a7b8\" # [masked]");
        assert!(mask.finds_in(text) && mask.finds_in("hunter2 hunter2"));
        assert!(!mask.finds_in("api_key = \"[masked]\""));
    }

    #[test]
    fn keys_of_the_usual_services_are_hidden() {
        let long = "0123456789abcdefABCDEF0123456789abcdefAB";
        for secret in [
            format!("sk-{long}"),
            format!("sk-ant-api03-{long}"),
            format!("ghp_{long}"),
            format!("github_pat_{long}"),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "xoxb-123456789012-abcdefABCDEF".to_owned(),
            format!("AIza{}", &long[..35]),
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4".to_owned(),
        ] {
            let masked = Mask::default().apply(&format!("use {secret}, please"));
            assert_eq!(masked, "use [masked], please", "{secret}");
        }
        let masked = Mask::default().apply("Authorization: Bearer abc123.def456-ghi789\n");
        assert_eq!(masked, "Authorization: Bearer [masked]\n");
    }

    #[test]
    fn of_an_assignment_the_value_alone_is_hidden() {
        for (text, expected) in [
            ("DB_PASSWORD=Abc123Abc123Abc123\n", "DB_PASSWORD=[masked]\n"),
            ("api_key = \"a1b2c3d4e5f6a7b8\"", "api_key = \"[masked]\""),
            ("{\"client_secret\": \"a1b2c3d4e5f6a7b8\"}", "{\"client_secret\": \"[masked]\"}"),
            ("{\\\"api-key\\\":\\\"a1b2c3d4e5f6a7b8\\\"}", "{\\\"api-key\\\":\\\"[masked]\\\"}"),
            ("?api_key=a1b2c3d4e5f6a7b8&x=1", "?api_key=[masked]&x=1"),
        ] {
            assert_eq!(Mask::default().apply(text), expected);
        }
    }

    #[test]
    fn code_that_reads_a_secret_from_elsewhere_stays() {
        for text in [
            "api_key = os.environ[\"OPENAI_API_KEY_2\"]",
            "password = get_password_from_vault_2(name)",
            "client(api_key=settings.providers2.api_key, password=user_password_2024)",
            "password: String,\nsecret: SecretString,",
            "export API_KEY=$PRODUCTION_API_KEY_1",
            "password = \"change-me-please-soon\"",
            "auth_token=/run/secrets/auth_token_2",
            "if secret_key == expected_secret_key_1 {",
            "a disk-0123456789abcdef0123456789 and a task-0123456789abcdef01234567",
            "<div class=\"sk-chase-dot-before-animation\">",
            "the Bearer authentication-mechanism-of-http",
            "if \"-----BEGIN RSA PRIVATE KEY-----\" in text: raise ValueError(text)",
            "commit 0123456789abcdef0123456789abcdef01234567",
        ] {
            assert!(!hidden(text), "{text} -> {}", Mask::default().apply(text));
        }
    }

    #[test]
    fn a_private_key_is_hidden_as_a_block_also_when_it_is_cut_or_escaped() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        let whole = format!(
            "a\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
             {line}\n{line}\nabc=\n-----END RSA PRIVATE KEY-----\nb"
        );
        assert_eq!(Mask::default().apply(&whole), "a\n[masked]\nb");
        let escaped = format!(
            "\"-----BEGIN PRIVATE KEY-----\\n{line}\\nabc=\\n-----END PRIVATE KEY-----\\n\""
        );
        assert_eq!(Mask::default().apply(&escaped), "\"[masked]\\n\"");
        let cut = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{line}\n{line}");
        assert_eq!(Mask::default().apply(&cut), MASKED);
    }
}
