//! Secrets in files: by the name of the file, or by well-known patterns in its content.
//!
//! *Limits.* Only what is told with near certainty is found: a password in plain text is not.
//! Placeholders, such as a token of equal characters, are none.

use regex::bytes::{Regex, RegexBuilder};

/// Names of examples without secrets, behind `.env`.
const ENV_EXAMPLES: [&str; 3] = ["example", "sample", "template"];
/// File names that hold secrets, with what they are.
const NAMES: [(&str, &str); 6] = [
    (".env", "a file of environment variables"),
    (".git-credentials", "a file of passwords"),
    (".netrc", "a file of passwords"),
    ("_netrc", "a file of passwords"),
    ("credentials", "a file of credentials"),
    ("credentials.json", "a file of credentials"),
];
/// Extensions of key files.
const EXTENSIONS: [&str; 4] = ["pem", "key", "p12", "pfx"];
/// How the names of SSH keys begin.
const SSH_KEYS: [&str; 4] = ["id_rsa", "id_ed25519", "id_ecdsa", "id_dsa"];

/// What contents are searched for: the pattern, and what it is.
const CONTENTS: [(&str, &str); 15] = [
    (
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[A-Za-z-]+: [^\n]*\n)*[A-Za-z0-9+/]{32}",
        "a private key",
    ),
    (r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", "an AWS access key id"),
    (r"\bgh[opsur]_[A-Za-z0-9]{36}", "a GitHub token"),
    (r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{40}", "a GitHub token"),
    (r"\bglpat-[A-Za-z0-9_-]{20}", "a GitLab token"),
    (r"\bxox[abeoprs]-[0-9]{6,}-[A-Za-z0-9-]{16}", "a Slack token"),
    (r"hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}", "a Slack hook"),
    (r"\bsk-ant-[a-z]+[0-9]{2}-[A-Za-z0-9_-]{32}", "an Anthropic key"),
    (r"\bsk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40}", "an OpenAI key"),
    (r"\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}\b", "an OpenAI key"),
    (r"\bAIza[A-Za-z0-9_-]{35}", "a Google key"),
    (r"\b[rs]k_live_[A-Za-z0-9]{24}", "a Stripe key"),
    (r"\bnpm_[A-Za-z0-9]{36}\b", "an npm token"),
    (r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{40}", "a PyPI token"),
    (r"\bhf_[A-Za-z0-9]{34}\b", "a Hugging Face token"),
];
/// A token in the settings of npm, given as it is and not as the name of a variable.
const NPM_SETTING: &str = r"(?m)^[^#;\n]*_(?:authToken|auth|password)\s*=\s*[^\s$]";

/// Fewest different characters of a token that is no placeholder.
const DIFFERENT_CHARS_MIN: usize = 9;

/// The patterns, ready for use.
pub(crate) struct SecretPatterns {
    contents: Vec<(Regex, &'static str)>,
    npm_setting: Regex,
}

impl SecretPatterns {
    /// Compiles them.
    pub(crate) fn new() -> Result<Self, regex::Error> {
        let compiled = |(pattern, what): &(&str, &'static str)| Ok((bytes(pattern)?, *what));
        Ok(Self {
            contents: CONTENTS.iter().map(compiled).collect::<Result<_, regex::Error>>()?,
            npm_setting: bytes(NPM_SETTING)?,
        })
    }

    /// What secret a file is or holds, for people: `a private key in line 3`.
    pub(crate) fn found(&self, path: &str, content: &[u8]) -> Option<String> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        if let Some(what) = by_name(&name) {
            return Some(what.to_owned());
        }
        if name == ".npmrc" && self.npm_setting.is_match(content) {
            return Some("settings of npm with a token".to_owned());
        }
        self.contents.iter().find_map(|(pattern, what)| {
            let real =
                pattern.find_iter(content).find(|found| !is_placeholder(found.as_bytes()))?;
            let line = content[..real.start()].split(|byte| *byte == b'\n').count();
            Some(format!("{what} in line {line}"))
        })
    }
}

fn bytes(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).build()
}

/// What secret a file with this name is, in lower case.
fn by_name(name: &str) -> Option<&'static str> {
    if let Some((_, what)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(what);
    }
    if let Some(kind) = name.strip_prefix(".env.") {
        let is_example = kind.rsplit('.').next().is_some_and(|last| ENV_EXAMPLES.contains(&last));
        return (!is_example).then_some("a file of environment variables");
    }
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    if SSH_KEYS.iter().any(|key| name.starts_with(key)) && extension != "pub" {
        return Some("an SSH key");
    }
    EXTENSIONS.contains(&extension).then_some("a key file")
}

/// Whether a match is an example in a text: it says so, or it hardly varies.
fn is_placeholder(found: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in found {
        seen[usize::from(*byte)] = true;
    }
    let different = seen.iter().filter(|seen| **seen).count();
    let names_itself = found.windows(7).any(|part| part.eq_ignore_ascii_case(b"example"));
    names_itself || different < DIFFERENT_CHARS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, content: &str) -> Option<String> {
        SecretPatterns::new().unwrap().found(path, content.as_bytes())
    }

    /// A token that no scanner of this repository takes for a real one.
    fn token(parts: [&str; 2]) -> String {
        parts.concat()
    }

    #[test]
    fn files_of_secrets_are_known_by_their_names() {
        for path in [
            ".env",
            "app/.env",
            ".env.production",
            "tls/server.pem",
            "a.key",
            "Store.P12",
            "id_rsa",
            "keys/id_ed25519_work",
            ".netrc",
            ".aws/credentials",
        ] {
            assert!(found(path, "").is_some(), "{path}");
        }
        for path in [
            ".env.example",
            ".env.sample",
            ".env.local.template",
            ".envrc",
            "env.py",
            "id_rsa.pub",
            "id_ed25519.pub",
            "keyboard.rs",
            "monkey",
            "credentials.py",
            "credentials/load.py",
            ".npmrc",
        ] {
            assert_eq!(found(path, ""), None, "{path}");
        }
    }

    #[test]
    fn settings_of_npm_are_a_secret_if_they_hold_a_token() {
        let line = "//registry.npmjs.org/:_authToken=";
        assert!(found(".npmrc", &format!("a=b\n{line}0f1e2d\n")).is_some());
        for text in [format!("{line}${{NPM_TOKEN}}\n"), format!("# {line}x\n"), "save=true".into()]
        {
            assert_eq!(found(".npmrc", &text), None, "{text}");
        }
    }

    #[test]
    fn tokens_and_keys_are_found_with_their_line() {
        let body = "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/yGaXLMs8";
        let key = |kind: &str, between: &str| {
            format!("{}{kind}PRIVATE KEY-----{between}{body}", token(["-----BEG", "IN "]))
        };
        for (text, what) in [
            (key("RSA ", "\n"), "a private key"),
            (key("", "\\n"), "a private key"),
            (key("EC ", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,00\n\n"), "a private key"),
            (token(["AKI", "AZ7QXK2M4PLW3NDYV"]), "an AWS access key id"),
            (token(["gh", "p_a8Kd02mXqLz71PfRtYb5WnCs93GhJv64EuTo"]), "a GitHub token"),
            (token(["glp", "at-x9Kd_2mXqLz71PfRtYb5"]), "a GitLab token"),
            (token(["xox", "b-123456789012-a8Kd02mXqLz71PfRtYb5"]), "a Slack token"),
            (token(["sk-a", "nt-api03-a8Kd02mXqLz71PfRtYb5WnCs93GhJv64EuTo"]), "an Anthropic key"),
            (token(["sk-p", "roj-a8Kd02mXqLz71PfRtYb5WnCs93GhJv64EuTo_12-x"]), "an OpenAI key"),
        ] {
            let told = found("a.py", &format!("one\ntwo\nKEY = \"{text}\"\n"));
            assert_eq!(told.as_deref(), Some(&*format!("{what} in line 3")), "{text}");
        }
    }

    #[test]
    fn what_only_speaks_of_secrets_is_none() {
        let begin = token(["-----BEG", "IN "]);
        for text in [
            format!("if text.startswith('{begin}RSA PRIVATE KEY-----'): load(text)"),
            format!("{begin}CERTIFICATE-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/yGaXLMs8"),
            format!("{begin}PUBLIC KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/yGaXLMs8"),
            token(["AKI", "AIOSFODNN7EXAMPLE"]),
            "token = 'ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'".to_owned(),
            "sk-learn is not scikit-learn-extra-with-a-very-long-name".to_owned(),
            "task-project-manager".to_owned(),
            "xoxb-your-token".to_owned(),
            "class=\"risk-proj-overview\"".to_owned(),
            "hf_hub_download_and_more".to_owned(),
        ] {
            assert_eq!(found("a.py", &text), None, "{text}");
        }
    }
}
