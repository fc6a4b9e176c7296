//! Every setting there is: its name, type, default, what it takes, and what it means.

use std::path::PathBuf;

use ai_factory_schemas::{
    run::IsolationLevel,
    subject::{Subject, Subjects},
};
use serde::{Deserialize, Deserializer, de::IntoDeserializer as _};

use super::{
    data_mode::DataMode,
    secret::{HIDDEN, Secret, without_passwords},
};

/// The longest prefix of subjects, in bytes: a subject is at most 255, and event subjects need 80 of them.
const PREFIX_BYTES_MAX: usize = 100;
/// The longest name of a stream, in bytes.
const STREAM_NAME_BYTES_MAX: usize = 64;
/// The longest name of a node, in bytes: a NATS token.
const NODE_BYTES_MAX: usize = 63;

/// The longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 512;

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// As in `ai-factory.toml`; variables have it in capitals after `AI_FACTORY_`.
    pub name: &'static str,
    /// The value where nobody says otherwise.
    pub default: Preset,
    /// What it takes.
    pub allowed: Allowed,
    /// What it means.
    pub about: &'static str,
}

/// A default value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A text.
    Text(&'static str),
    /// A whole number.
    Number(u64),
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The path of a file or directory; relative ones start at the current directory.
    Path,
    /// The path of a file, or nothing.
    PathOrNothing,
    /// An address or host name.
    Host,
    /// The URLs of NATS servers, or nothing.
    Servers,
    /// The base of an HTTP API, or nothing.
    BaseUrl,
    /// A text that is not shown, or nothing.
    Secret,
    /// A text without white space, or nothing.
    WordOrNothing,
    /// The name of a stream, or nothing.
    StreamName,
    /// The name of this node.
    Node,
    /// The first tokens of every subject.
    Prefix,
    /// One token of a subject, or nothing.
    TokenOrNothing,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// A whole number between two others.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
}

impl Allowed {
    /// Whether a text (or a number written out) is one of the values it takes. Numbers are checked here
    /// for their range.
    pub(super) fn takes(self, text: &str) -> bool {
        let token = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        match self {
            Self::Path => !text.is_empty() && !text.contains('\0'),
            Self::PathOrNothing => !text.contains('\0'),
            Self::Host => !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()),
            Self::Servers => text.chars().all(|c| c.is_ascii_graphic() || c == ' '),
            Self::BaseUrl => {
                let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
                // A password there would be shown: there is a setting for it.
                let is_plain = |c: char| c.is_ascii_graphic() && !"@?#".contains(c);
                text.is_empty() || rest.is_some_and(|r| !r.is_empty() && r.chars().all(is_plain))
            }
            Self::Secret | Self::WordOrNothing => {
                text.len() <= SECRET_BYTES_MAX && text.chars().all(|c| c.is_ascii_graphic())
            }
            Self::StreamName => {
                text.len() <= STREAM_NAME_BYTES_MAX
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            }
            Self::Node => {
                (1..=NODE_BYTES_MAX).contains(&text.len())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            }
            Self::Prefix => {
                text.len() <= PREFIX_BYTES_MAX
                    && text.split('.').all(|part| !part.is_empty() && part.chars().all(token))
            }
            Self::TokenOrNothing => text.len() <= NODE_BYTES_MAX && text.chars().all(token),
            Self::OneOf(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            Self::Number { min, max } => {
                text.parse::<u64>().is_ok_and(|number| (min..=max).contains(&number))
            }
        }
    }

    /// A value as it may be shown.
    pub fn shown(self, text: &str) -> String {
        match self {
            Self::Secret if !text.is_empty() => HIDDEN.to_owned(),
            Self::Servers => without_passwords(text),
            _ => text.to_owned(),
        }
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path => f.write_str("a path"),
            Self::PathOrNothing => f.write_str("a path, or nothing"),
            Self::Host => f.write_str("an address or host name without white space"),
            Self::Servers => f.write_str(
                "URLs such as nats://127.0.0.1:4222 with commas between them, or nothing",
            ),
            Self::BaseUrl => f.write_str(
                "a URL such as http://127.0.0.1:11434/v1, without user, `?` and `#`, or nothing",
            ),
            Self::Secret | Self::WordOrNothing => write!(
                f,
                "at most {SECRET_BYTES_MAX} printable ASCII characters without white space, or nothing"
            ),
            Self::StreamName => {
                write!(f, "at most {STREAM_NAME_BYTES_MAX} of letters, digits and `-_`, or nothing")
            }
            Self::Node => write!(f, "1 to {NODE_BYTES_MAX} of letters, digits and `-_.`"),
            Self::Prefix => write!(
                f,
                "tokens of `a-z0-9_-` with single dots between them, at most {PREFIX_BYTES_MAX} bytes"
            ),
            Self::TokenOrNothing => {
                write!(f, "at most {NODE_BYTES_MAX} of `a-z0-9_-`, or nothing")
            }
            Self::OneOf(words) => match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => {
                    write!(f, "{} or {last}", rest.join(", "))
                }
                _ => f.write_str(&words.join("")),
            },
            Self::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
        }
    }
}

/// How much is told in the telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens in the normal course of things.
    Info,
    /// What somebody should look at.
    Warning,
    /// What failed.
    Error,
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(Self::Debug),
            "INFO" => Ok(Self::Info),
            "WARNING" => Ok(Self::Warning),
            "ERROR" => Ok(Self::Error),
            _ => Err(serde::de::Error::custom(format!("`{word}` is not a log level"))),
        }
    }
}

/// What happens to a step whose run was dispatched and whose end is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// It is run again where that does no harm, under the same id with the next attempt number.
    Repeat,
    /// The session waits for a decision.
    Ask,
}

impl<'de> Deserialize<'de> for OnUnknown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.to_ascii_lowercase().as_str() {
            "repeat" => Ok(Self::Repeat),
            "ask" => Ok(Self::Ask),
            _ => Err(serde::de::Error::custom(format!("`{word}` is neither repeat nor ask"))),
        }
    }
}

fn subject<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IsolationLevel, D::Error> {
    let word = String::deserialize(deserializer)?.to_ascii_lowercase();
    IsolationLevel::deserialize(word.into_deserializer())
}

/// One row per setting. The field and the key cannot differ: both come from the same line.
macro_rules! settings {
    ($($(#[doc = $about:literal])+ $(#[serde($serde:meta)])? $name:ident: $kind:ty = $default:expr, $allowed:expr;)*) => {
        /// The settings, complete and checked.
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[doc = $about])+ $(#[serde($serde)])? pub $name: $kind,)*
        }

        /// Every setting there is.
        pub const KEYS: &[Key] = &[
            $(Key {
                name: stringify!($name),
                default: $default,
                allowed: $allowed,
                about: concat!($($about),+),
            }),*
        ];
    };
}

const fn number(min: u64, max: u64) -> Allowed {
    Allowed::Number { min, max }
}
use Preset::{Number, Text};

settings! {
    /// Where everything is kept: journal, projections, index, snapshots, logs.
    data_dir: PathBuf = Text("./data"), Allowed::Path;
    /// Who may read what is kept there: `private` is this user alone (files 0600, directories 0700), `group` is the directory's group too (0640, 0750). The umask does not matter.
    data_mode: DataMode = Text("private"), Allowed::OneOf(&["private", "group"]);
    /// The address that the HTTP door listens on.
    host: String = Text("127.0.0.1"), Allowed::Host;
    /// The TCP port that the HTTP door listens on; 0 lets the system choose.
    port: u16 = Number(8000), number(0, 65_535);
    /// The token that callers over HTTP must bear; needed to listen beyond this machine.
    token: Secret = Text(""), Allowed::Secret;
    /// The NATS servers to connect to; nothing stands for none: the bus is inside.
    nats: String = Text(""), Allowed::Servers;
    /// The credentials file (`.creds`) for the NATS server.
    nats_credentials: PathBuf = Text(""), Allowed::PathOrNothing;
    /// A context of the `nats` command line, by its name or its file: where nothing else is set, its server and login hold.
    nats_context: String = Text(""), Allowed::PathOrNothing;
    /// The file with the seed of an nkey for the NATS server.
    nats_nkey: PathBuf = Text(""), Allowed::PathOrNothing;
    /// The user at the NATS server.
    nats_user: String = Text(""), Allowed::WordOrNothing;
    /// The password of `nats_user`.
    nats_password: Secret = Text(""), Allowed::Secret;
    /// The token for the NATS server.
    nats_token: Secret = Text(""), Allowed::Secret;
    /// The certificates (PEM) of who may vouch for the NATS server, beside those that the system trusts; asks for TLS.
    nats_ca: PathBuf = Text(""), Allowed::PathOrNothing;
    /// The certificate (PEM) that the factory shows to the NATS server; `nats_key` belongs to it.
    nats_certificate: PathBuf = Text(""), Allowed::PathOrNothing;
    /// The key (PEM) of `nats_certificate`.
    nats_key: PathBuf = Text(""), Allowed::PathOrNothing;
    /// What subjects of answers begin with where the NATS server's permissions name it, such as `_INBOX_factory`.
    nats_inbox_prefix: String = Text(""), Allowed::WordOrNothing;
    /// The program that `up --start-nats` starts.
    nats_server: PathBuf = Text("nats-server"), Allowed::Path;
    /// The configuration of the server that `up --start-nats` starts; nothing stands for the built-in one.
    nats_config: PathBuf = Text(""), Allowed::PathOrNothing;
    /// The JetStream stream that keeps the events; nothing stands for the prefix in capitals with `_EVENTS`.
    nats_events_stream: String = Text(""), Allowed::StreamName;
    /// How much that stream keeps when it is made here, in bytes; the oldest events make room.
    nats_events_bytes_max: u64 = Number(4_294_967_296), number(1_048_576, 1_125_899_906_842_624);
    /// How long it keeps an event, in seconds; 0 stands for no limit.
    nats_events_age_s_max: u64 = Number(0), number(0, 3_153_600_000);
    /// The JetStream stream in which goals wait; nothing stands for the prefix in capitals with `_GOALS`.
    nats_goals_stream: String = Text(""), Allowed::StreamName;
    /// How many goals may wait in it when it is made here; a further one is refused to its publisher.
    nats_goals_max: u64 = Number(1_000_000), number(1, 1_000_000_000);
    /// How much the goals that wait in it may take, in bytes.
    nats_goals_bytes_max: u64 = Number(1_073_741_824), number(1_048_576, 1_125_899_906_842_624);
    /// How often a goal is handed out, because nobody acknowledged it, before it becomes a dead letter.
    nats_goal_deliveries_max: u32 = Number(10), number(1, 1_000);
    /// The JetStream stream of the dead letters; nothing stands for the prefix in capitals with `_DEAD`.
    nats_dead_stream: String = Text(""), Allowed::StreamName;
    /// How much dead letters may take, in bytes; the oldest make room.
    nats_dead_bytes_max: u64 = Number(268_435_456), number(1_048_576, 1_125_899_906_842_624);
    /// The JetStream key-value bucket with the state of each session; nothing stands for the prefix in capitals with `_SESSIONS`.
    nats_sessions_bucket: String = Text(""), Allowed::StreamName;
    /// How much the states of sessions may take, in bytes; the oldest make room.
    nats_sessions_bytes_max: u64 = Number(268_435_456), number(1_048_576, 1_125_899_906_842_624);
    /// How long a state is kept after the session's last event, in seconds; 0 stands for no limit.
    nats_sessions_age_s_max: u64 = Number(2_592_000), number(0, 3_153_600_000);
    /// How long a stream that is made here drops repeats of a `Nats-Msg-Id`, in seconds.
    nats_duplicate_window_s: u64 = Number(120), number(1, 86_400);
    /// On how many servers of a cluster a stream that is made here is kept.
    nats_replicas: usize = Number(1), number(1, 5);
    /// How much is written to `logs/app.log`.
    log_level: LogLevel = Text("INFO"), Allowed::OneOf(&["DEBUG", "INFO", "WARNING", "ERROR"]);
    /// The name of this node, as recorded events carry it.
    node: String = Text("local"), Allowed::Node;
    /// The first tokens of every subject on the bus.
    #[serde(deserialize_with = "subject")]
    prefix: Subject = Text("factory"), Allowed::Prefix;
    /// Whose agent this is on NATS, as one token of subjects; nothing stands for the user that it runs as.
    agent_owner: String = Text(""), Allowed::TokenOrNothing;
    /// What this agent is called on NATS, as one token of subjects; nothing stands for the node's name.
    agent_name: String = Text(""), Allowed::TokenOrNothing;
    /// How often the agent says on NATS that it lives, in seconds.
    agent_heartbeat_s: u64 = Number(30), number(1, 3_600);
    /// How long the agent waits for a caller's answer to a question in the middle of a stream, in seconds.
    agent_question_s_max: u64 = Number(300), number(1, 86_400);
    /// How many sessions may be under way at once.
    sessions_max: usize = Number(256), number(1, 65_536);
    /// How long a session may take, in milliseconds.
    session_ms_max: u64 = Number(600_000), number(1, 604_800_000);
    /// How long a step of a session may take, waiting included, in milliseconds.
    step_ms_max: u64 = Number(120_000), number(1, 604_800_000);
    /// How often a session is taken up again after a crash before it is given up: one less than how often it is tried.
    session_resumes_max: u32 = Number(4), number(0, 1_000);
    /// How long a run of code may take, in milliseconds.
    run_wall_ms_max: u64 = Number(5_000), number(1, 86_400_000);
    /// What must protect the machine from the code of a run: `full`, or less by name; `none` runs no code.
    #[serde(deserialize_with = "level")]
    sandbox: IsolationLevel = Text("full"), Allowed::OneOf(&["full", "reduced", "process", "none"]);
    /// How long the program of a run may be, in bytes.
    run_code_bytes_max: usize = Number(131_072), number(1, 131_072);
    /// How much processor time all processes of a run may use together, in seconds.
    run_cpu_s_max: u64 = Number(10), number(1, 86_400);
    /// How much memory all processes of a run may use together, in bytes; what they keep in files counts extra.
    run_memory_bytes_max: u64 = Number(536_870_912), number(33_554_432, 1_099_511_627_776);
    /// How many processes and threads a run may have at once.
    run_processes_max: u64 = Number(64), number(1, 65_536);
    /// How many files each process of a run may have open.
    run_open_files_max: u64 = Number(256), number(16, 65_536);
    /// How large a file that a run writes may be, in bytes.
    run_file_bytes_max: u64 = Number(67_108_864), number(4_096, 1_099_511_627_776);
    /// How much a run may keep in its working directory, in bytes.
    run_box_bytes_max: u64 = Number(67_108_864), number(65_536, 1_099_511_627_776);
    /// How many files and directories a run may keep in its working directory.
    run_box_inodes_max: u64 = Number(4_096), number(16, 16_777_216);
    /// How much a run may keep in its `/tmp`, in bytes.
    run_tmp_bytes_max: u64 = Number(67_108_864), number(65_536, 1_099_511_627_776);
    /// How many files and directories a run may keep in its `/tmp`.
    run_tmp_inodes_max: u64 = Number(4_096), number(16, 16_777_216);
    /// How many interpreters of each language wait, locked down, for the next run; 0 starts each when it is needed.
    pool_members: usize = Number(2), number(0, 64);
    /// How long an interpreter waits before a fresh one takes its place, in milliseconds.
    pool_age_ms_max: u64 = Number(600_000), number(1_000, 86_400_000);
    /// How much of each output stream of a run is kept, in bytes.
    run_output_bytes_max: usize = Number(1_048_576), number(1, 4_194_304);
    /// How many runs may be under way at once; 0 stands for twice the number of cores.
    runs_max: usize = Number(0), number(0, 4_096);
    /// How many runs may wait for their turn.
    runs_waiting_max: usize = Number(256), number(0, 65_536);
    /// How many requests may wait at each actor.
    requests_waiting_max: usize = Number(1_024), number(1, 65_536);
    /// What happens to a step whose end a crash left unknown: run it again, or wait for `ai-factory resolve`.
    on_unknown: OnUnknown = Text("repeat"), Allowed::OneOf(&["repeat", "ask"]);
    /// The Python interpreter that runs code; nothing stands for the first `python3` on the `PATH`.
    python: PathBuf = Text(""), Allowed::PathOrNothing;
    /// The Node.js that runs JavaScript; nothing stands for the first `node` on the `PATH`.
    nodejs: PathBuf = Text(""), Allowed::PathOrNothing;
    /// The bash that runs shell code; nothing stands for the first `bash` on the `PATH`.
    bash: PathBuf = Text(""), Allowed::PathOrNothing;
    /// How many restarts of actors within the window are normal; one more stops the factory.
    restarts_max: usize = Number(5), number(0, 1_000);
    /// The window in which restarts are counted, in milliseconds.
    restart_window_ms: u64 = Number(10_000), number(1, 3_600_000);
    /// How many events one segment of the journal holds; a crash leaves at most one to repair.
    segment_events_max: u64 = Number(32_768), number(1, 16_777_216);
    /// How much memory the journal may use as cache, in bytes.
    journal_cache_bytes_max: usize = Number(4_194_304), number(65_536, 68_719_476_736);
    /// How many appends may wait for the journal's writer.
    append_queue_max: usize = Number(8_192), number(1, 1_048_576);
    /// How many events the projections keep in memory before they are written.
    flush_events_max: u64 = Number(4_096), number(256, 1_048_576);
    /// How many documents the search index keeps in memory before they are written.
    flush_documents_max: usize = Number(4_096), number(1, 1_048_576);
    /// The base of an OpenAI-compatible API whose `embeddings` search by meaning uses; nothing stands for the built-in model.
    embedding_url: String = Text(""), Allowed::BaseUrl;
    /// The name of the embedding model at `embedding_url`; where that is nothing, the directory of a BERT model.
    embedding_model: String = Text(""), Allowed::PathOrNothing;
    /// The key for `embedding_url`.
    embedding_key: Secret = Text(""), Allowed::Secret;
    /// The certificates (PEM) of who may vouch for `embedding_url`, beside those that the system trusts; asks for `https`.
    embedding_ca: PathBuf = Text(""), Allowed::PathOrNothing;
    /// How many numbers a vector of `embedding_url` has; 0 takes what it answers.
    embedding_dimensions: usize = Number(0), number(0, 8_192);
    /// How many texts one call of `embedding_url` has.
    embedding_texts_max: usize = Number(64), number(1, 2_048);
    /// How long a call of `embedding_url` may take, in milliseconds; a query waits a second at most.
    embedding_ms_max: u64 = Number(30_000), number(1, 600_000);
    /// How long a memory is found before it is forgotten, in seconds; 0 stands for ever. The journal keeps its events.
    memory_retention_s: u64 = Number(0), number(0, 3_155_760_000);
    /// How many memories are found before the oldest are forgotten; 0 stands for all.
    memory_retention_max: u64 = Number(0), number(0, 1_000_000_000);
    /// How long an orderly shutdown may take, in milliseconds.
    shutdown_ms_max: u64 = Number(10_000), number(1, 3_600_000);
    /// How large `logs/app.log` grows before it is put aside, in bytes.
    log_file_bytes_max: usize = Number(5_242_880), number(1_024, 1_073_741_824);
    /// How many log files that were put aside are kept.
    log_files_max: usize = Number(3), number(0, 100);
}

impl Settings {
    /// The subjects under [`Self::prefix`].
    pub fn subjects(&self) -> Subjects {
        Subjects::new(self.prefix.clone())
    }

    /// How many runs may be under way at once, with 0 resolved to twice the number of cores.
    pub fn runs_at_once(&self) -> usize {
        match self.runs_max {
            0 => 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            set => set,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in KEYS {
            assert!(key.allowed.takes(&key.default.to_string()), "{}", key.name);
        }
    }

    #[test]
    fn a_base_url_has_no_password() {
        let takes = |text| Allowed::BaseUrl.takes(text);
        assert!(takes("http://127.0.0.1:11434/v1") && takes("https://api.example.com/v1/"));
        for refused in [
            "127.0.0.1",
            "http://",
            "https://",
            "ftp://a",
            "https://me:pass@a",
            "http://a b",
            "http://a?k=v",
        ] {
            assert!(!takes(refused), "{refused}");
        }
    }

    #[test]
    fn prefixes_are_plain_tokens() {
        let takes = |text| Allowed::Prefix.takes(text);
        assert!(takes("factory") && takes("team-1.factory"));
        for refused in ["", ".", "a..b", "Factory", "$sys", "a b", "a.*", "a.>"] {
            assert!(!takes(refused), "{refused}");
        }
    }
}
