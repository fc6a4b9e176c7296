//! The sender of a prompt (§13): proven by a signature, or only claimed.
//!
//! *Promises.* A sender counts as proven only if this payload was signed for this subject with the
//! named key, within `CLOCKS_APART_MAX`, and not used before. An invalid signature is refused and
//! never treated as a mere claim (§13.7).
//!
//! *Limits.* The signatures of `NONCES_MAX` prompts are remembered, each for as long as it could be
//! replayed. Only signatures over the subject itself are accepted (§13.7.1 (a)): not those behind
//! an export that inserts accounts. The sender's part of §13 is not implemented: the agent does not
//! publish a key (§13.10) or sign heartbeats (§13.11), so it does not declare `min_sender_trust`.

use std::{collections::HashMap, time::Duration};

use ai_factory_schemas::{problem::Problem, time::Timestamp};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use nkeys::{KeyPair, KeyPairType};
use parking_lot::Mutex;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Number;
use sha2::{Digest as _, Sha256};

/// Permitted difference between the clocks of sender and factory (§13.7).
const CLOCKS_APART_MAX: Duration = Duration::from_secs(30);
/// Number of remembered signed prompts.
const NONCES_MAX: usize = 65_536;
/// The longest nonce, in characters (§13.5).
const NONCE_CHARS_MAX: usize = 64;
/// Prefix of the signed text (§13.6.1).
const TAG: &str = "AGENT-SENDER-V1";
/// Length of a public key in text form, in characters.
const KEY_CHARS: usize = 56;

/// The sender of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The claimed name.
    pub claims_to_be: Option<String>,
    /// The agent id (§13.3) whose user key signed the prompt. Its account is the signer's claim
    /// (§13.7.2).
    pub proven_to_be: Option<String>,
}

/// The header `Agent-Sender` (§13.5). Unknown fields are ignored.
#[derive(Deserialize)]
struct SenderHeader {
    account: String,
    user: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    ts: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    sig: Option<String>,
}

/// Seen signatures, against replay.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<HashMap<(String, String), Timestamp>>);

impl Nonces {
    /// Records a signature made at `signed`; refuses a known one.
    fn note(
        &self,
        user: &str,
        nonce: &str,
        signed: Timestamp,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let mut seen = self.0.lock();
        if seen.len() >= NONCES_MAX {
            seen.retain(|_, signed| is_fresh(*signed, now));
        }
        if seen.len() >= NONCES_MAX {
            let sentence = format!("{NONCES_MAX} signed prompts are already remembered: try again");
            return Err(Problem::busy(sentence, CLOCKS_APART_MAX));
        }
        match seen.insert((user.to_owned(), nonce.to_owned()), signed) {
            None => Ok(()),
            Some(_) => Err(unproven("its `nonce` was used before")),
        }
    }
}

fn is_fresh(signed: Timestamp, now: Timestamp) -> bool {
    let apart = now.as_micros().saturating_sub(signed.as_micros()).unsigned_abs();
    u128::from(apart) <= CLOCKS_APART_MAX.as_micros()
}

fn malformed(what: &str) -> Problem {
    Problem::bad_request(format!("`Agent-Sender` {what}"))
}

fn unproven(what: &str) -> Problem {
    Problem::unauthorized(format!("the signature in `Agent-Sender` is invalid: {what}"))
}

/// Determines the sender of a payload to a subject from its header (§13.7).
pub fn classify(
    header: Option<&str>,
    (subject, payload): (&str, &[u8]),
    now: Timestamp,
    nonces: &Nonces,
) -> Result<Sender, Problem> {
    #[derive(Deserialize)]
    struct SenderVersion {
        v: Number,
    }
    let Some(text) = header else { return Ok(Sender::default()) };
    let SenderVersion { v } = read(text)?;
    // §13.5.1: another version counts as no header.
    if v.as_u64() != Some(1) {
        return Ok(Sender::default());
    }
    let header: SenderHeader = read(text)?;
    let id = agent_id(&header.account, &header.user).map_err(malformed)?;
    let Some(signature) = &header.sig else {
        let claims = header.name.map_or_else(|| id.clone(), |name| format!("{name} ({id})"));
        return Ok(Sender { claims_to_be: Some(claims), proven_to_be: None });
    };
    let (Some(sub), Some(ts), Some(nonce)) = (&header.sub, &header.ts, &header.nonce) else {
        return Err(malformed("has a `sig` without all of `sub`, `ts` and `nonce`"));
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if nonce.is_empty() || nonce.len() > NONCE_CHARS_MAX || !nonce.chars().all(is_plain) {
        return Err(malformed("has an invalid `nonce`: use 1 to 64 letters, digits, `-`, `_`"));
    }
    let Ok(signed) = ts.parse::<Timestamp>() else {
        return Err(malformed("has a `ts` that is not an RFC 3339 time"));
    };
    if sub != subject {
        return Err(unproven("it is for another subject"));
    }
    if !is_fresh(signed, now) {
        return Err(unproven("its `ts` is more than 30 s away from the factory's clock"));
    }
    let SenderHeader { account, user, .. } = &header;
    let digest = Sha256::digest(payload);
    let input = format!("{TAG}\n{account}\n{user}\n{sub}\n{ts}\n{nonce}\n{digest:x}\n");
    let holds = BASE64_URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| {
        KeyPair::from_public_key(user)
            .is_ok_and(|key| key.verify(input.as_bytes(), &signature).is_ok())
    });
    if !holds {
        return Err(unproven("it was made with another key, or over something else"));
    }
    nonces.note(user, nonce, signed, now)?;
    // The name is not signed (§13.5).
    Ok(Sender { claims_to_be: header.name, proven_to_be: Some(id) })
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|fault| malformed(&format!("cannot be read: {fault}")))
}

/// The canonical text of an agent id (§13.3), or the error in it.
fn agent_id(account: &str, user: &str) -> Result<String, &'static str> {
    let is_key = |key: &str, wanted: KeyPairType| {
        key.len() == KEY_CHARS
            && KeyPair::from_public_key(key).is_ok_and(|key| key.key_pair_type() == wanted)
    };
    if !is_key(user, KeyPairType::User) {
        return Err("names a `user` that is not the public key of a user (U…)");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_name = account == "$G" || !account.is_empty() && account.chars().all(is_plain);
    let is_shaped_as_key = account.starts_with('A') && account.len() == KEY_CHARS;
    if !is_name || is_shaped_as_key && !is_key(account, KeyPairType::Account) {
        return Err("names an `account` that is neither a public key (A…) nor a name");
    }
    Ok(format!("{account}.{user}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ACCOUNT: &str = "AABYLMBR6Q2CDXTLGRQCFA2GP76BGCDF7NZF2OVHH4RQ7L3Y3TZWJDRL";
    const USER: &str = "UAWW24XPLGOX3R3JF4OZEZZ6RUXMB55DSWJCEFFSUDFBCKJD4MSCMQYI";
    const SUBJECT: &str = "agents.prompt.ai-factory.alice.bench";
    const NOW: Timestamp = Timestamp::from_micros(1_780_000_000_000_000);

    fn classified(header: &Value) -> Result<Sender, u16> {
        let header = header.to_string();
        let seen = classify(Some(&header), (SUBJECT, b"Greet"), NOW, &Nonces::default());
        seen.map_err(|problem| problem.status)
    }

    /// A header signed over that payload, with these fields changed before signing.
    fn signed(key: &KeyPair, payload: &[u8], changes: &[(&str, &str)]) -> Value {
        let mut header = json!({
            "v": 1, "account": "$G", "user": key.public_key(), "name": "cc", "sub": SUBJECT,
            "ts": NOW.to_string(), "nonce": "n-1",
        });
        for (field, value) in changes {
            header[*field] = json!(value);
        }
        let text = |field: &str| header[field].as_str().unwrap().to_owned();
        let lines = ["account", "user", "sub", "ts", "nonce"].map(text).join("\n");
        let input = format!("AGENT-SENDER-V1\n{lines}\n{:x}\n", Sha256::digest(payload));
        let signature = key.sign(input.as_bytes()).unwrap();
        header["sig"] = json!(BASE64_URL_SAFE_NO_PAD.encode(signature));
        header
    }

    #[test]
    fn an_id_is_what_the_protocols_fixtures_say() {
        for account in [ACCOUNT, "ACME", "$G"] {
            assert_eq!(agent_id(account, USER), Ok(format!("{account}.{USER}")));
        }
        let broken = ACCOUNT.replace("JDRL", "JDRM");
        for (account, user) in [
            (USER, ACCOUNT),
            (&*ACCOUNT.to_lowercase(), &*USER.to_lowercase()),
            (ACCOUNT, &USER[..55]),
            ("", USER),
            ("acme corp", USER),
            ("a.b", USER),
            (&broken, USER),
        ] {
            assert!(agent_id(account, user).is_err(), "{account}.{user}");
        }
    }

    #[test]
    fn without_a_signature_a_sender_is_a_claim_and_another_version_is_nobody() {
        let claim = json!({ "v": 1, "account": "$G", "user": USER, "name": "cc", "more": [1] });
        let sender = classified(&claim).unwrap();
        assert_eq!(sender.claims_to_be, Some(format!("cc ($G.{USER})")));
        assert_eq!(sender.proven_to_be, None);
        assert_eq!(classified(&json!({ "v": 2 })), Ok(Sender::default()));
        let absent = classify(None, (SUBJECT, b""), NOW, &Nonces::default());
        assert_eq!(absent.unwrap(), Sender::default());
    }

    #[test]
    fn a_header_that_is_malformed_is_refused_with_400() {
        for header in [
            json!("alice"),
            json!({}),
            json!({ "v": "1", "account": "$G", "user": USER }),
            json!({ "v": 1, "account": "$G" }),
            json!({ "v": 1, "account": "$G", "user": "UABC" }),
            json!({ "v": 1, "account": "$G", "user": USER, "name": 7 }),
            json!({ "v": 1, "account": "$G", "user": USER, "sig": "x", "sub": SUBJECT }),
        ] {
            assert_eq!(classified(&header), Err(400), "{header}");
        }
    }

    #[test]
    fn who_signed_is_proven_once_and_what_was_changed_or_repeated_is_refused_with_401() {
        let key = KeyPair::new_user();
        let header = signed(&key, b"Greet", &[]);
        let (text, nonces) = (header.to_string(), Nonces::default());
        let sender = classify(Some(&text), (SUBJECT, b"Greet"), NOW, &nonces).unwrap();
        assert_eq!(sender.proven_to_be, Some(format!("$G.{}", key.public_key())));
        assert_eq!(sender.claims_to_be.as_deref(), Some("cc"));
        let again = classify(Some(&text), (SUBJECT, b"Greet"), NOW, &nonces);
        assert_eq!(again.unwrap_err().status, 401, "repeated");

        let late = Timestamp::from_micros(NOW.as_micros() + 31_000_000).to_string();
        let mut others = vec![
            signed(&key, b"Something else", &[]),
            signed(&key, b"Greet", &[("sub", "agents.prompt.ai-factory.alice.other")]),
            signed(&key, b"Greet", &[("ts", &late)]),
            signed(&key, b"Greet", &[("user", USER)]),
        ];
        for (field, value) in [("account", "ACME"), ("nonce", "n-2"), ("sig", "AAAA"), ("sig", "!")]
        {
            let mut changed = header.clone();
            changed[field] = json!(value);
            others.push(changed);
        }
        for other in others {
            assert_eq!(classified(&other), Err(401), "{other}");
        }
    }
}
