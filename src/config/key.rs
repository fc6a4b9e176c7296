//! All settings: name, type, default, accepted values, meaning.

use std::path::PathBuf;

use ai_factory_schemas::{
    model::TokenPrices,
    run::IsolationLevel,
    subject::{ParseSubjectError, Subject, Subjects},
};
use figment::value::Dict;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IntoDeserializer as _},
};

use super::{
    allowed::{AllowedValues, DefaultValue},
    data_mode::DataMode,
    model::{ModelTools, ProviderKeys, money, prices, seed, temperature},
    secret::Secret,
};

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// As in `ai-factory.toml`; the variable is `AI_FACTORY_` with the name in capitals.
    pub name: &'static str,
    /// The value if no source sets it.
    pub default: DefaultValue,
    /// The accepted values.
    pub allowed: AllowedValues,
    /// Its meaning.
    pub about: &'static str,
}

/// Minimum level of logged events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Events of normal operation.
    Info,
    /// Events that deserve attention.
    Warning,
    /// Failures.
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

/// What happens to a step that was dispatched and has an unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// It is run again where that is harmless, under the same id with the next attempt number.
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

fn subject(text: &str) -> Result<Subject, String> {
    text.parse().map_err(|fault: ParseSubjectError| fault.to_string())
}

fn level(text: &str) -> Result<IsolationLevel, String> {
    let word = text.to_ascii_lowercase();
    IsolationLevel::deserialize(word.into_deserializer())
        .map_err(|fault: serde::de::value::Error| fault.to_string())
}

/// The value of a setting. A derived `Deserialize` of all settings would be the largest function of
/// the program, instantiated once for each of figment's six deserializers.
fn read<T: DeserializeOwned>(values: &Dict, name: &str) -> Result<T, String> {
    let value = values.get(name).ok_or_else(|| format!("`{name}` has no value"))?;
    value.deserialize().map_err(|fault| fault.to_string())
}

/// Reads a setting, by a function of its own if one is named.
macro_rules! read_setting {
    ($values:ident, $name:ident) => {
        read($values, stringify!($name))?
    };
    ($values:ident, $name:ident, $with:ident) => {
        $with(&read::<String>($values, stringify!($name))?)?
    };
}

/// One row per setting: field and key are generated from the same line, so they cannot differ.
macro_rules! settings {
    ($($(#[doc = $about:literal])+ $(#[with($with:ident)])? $name:ident: $kind:ty = $default:expr, $allowed:expr;)*) => {
        /// The settings, complete and checked.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $about])+ pub $name: $kind,)*
            /// The keys of providers in the environment.
            pub provider_keys: ProviderKeys,
        }

        impl Settings {
            /// The settings among these values, which are those of all layers merged.
            pub(super) fn read(values: &Dict) -> Result<Self, String> {
                Ok(Self {
                    $($name: read_setting!(values, $name $(, $with)?),)*
                    provider_keys: ProviderKeys::default(),
                })
            }
        }

        /// All settings.
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

const fn number(min: u64, max: u64) -> AllowedValues {
    AllowedValues::Number { min, max }
}
use DefaultValue::{Number, Text};

settings! {
    /// The data directory: journal, projections, index, snapshots, logs.
    data_dir: PathBuf = Text("./data"), AllowedValues::Path;
    /// Access to the data directory: `private` for this user alone (files 0600, directories 0700),
    /// `group` also for the directory's group (0640, 0750). Independent of the umask.
    data_mode: DataMode = Text("private"), AllowedValues::OneOf(&["private", "group"]);
    /// The HTTP listen address.
    host: String = Text("127.0.0.1"), AllowedValues::Host;
    /// The HTTP listen port (TCP); 0 lets the system choose.
    port: u16 = Number(8000), number(0, 65_535);
    /// The token that HTTP callers must send; required to listen beyond this machine.
    token: Secret = Text(""), AllowedValues::Secret;
    /// The NATS servers to connect to; empty: none, only the bus inside the process.
    nats: String = Text(""), AllowedValues::Servers;
    /// The credentials file (`.creds`) for the NATS server.
    nats_credentials: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// A context of the `nats` command line, by name or file: its server and credentials are used
    /// where no other setting is given.
    nats_context: String = Text(""), AllowedValues::PathOrNothing;
    /// The file with the nkey seed for the NATS server.
    nats_nkey: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The user name at the NATS server.
    nats_user: String = Text(""), AllowedValues::WordOrNothing;
    /// The password of `nats_user`.
    nats_password: Secret = Text(""), AllowedValues::Secret;
    /// The token for the NATS server.
    nats_token: Secret = Text(""), AllowedValues::Secret;
    /// Certificates (PEM) trusted for the NATS server, in addition to the system's; requires TLS.
    nats_ca: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The client certificate (PEM) for the NATS server, with its key in `nats_key`.
    nats_certificate: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The key (PEM) of `nats_certificate`.
    nats_key: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The prefix of reply subjects, if the NATS server's permissions require one, such as
    /// `_INBOX_factory`.
    nats_inbox_prefix: String = Text(""), AllowedValues::WordOrNothing;
    /// The program that `up --start-nats` starts.
    nats_server: PathBuf = Text("nats-server"), AllowedValues::Path;
    /// The configuration of the server that `up --start-nats` starts; empty: the built-in one.
    nats_config: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The JetStream stream of events; empty: the prefix in capitals with `_EVENTS`.
    nats_events_stream: String = Text(""), AllowedValues::StreamName;
    /// Size of that stream when the factory creates it, in bytes; the oldest events are removed
    /// beyond it.
    nats_events_bytes_max: u64 = Number(4_294_967_296), number(1_048_576, 1_125_899_906_842_624);
    /// Retention of an event in that stream, in seconds; 0: no limit.
    nats_events_age_s_max: u64 = Number(0), number(0, 3_153_600_000);
    /// The JetStream stream of waiting goals; empty: the prefix in capitals with `_GOALS`.
    nats_goals_stream: String = Text(""), AllowedValues::StreamName;
    /// Number of goals waiting in that stream when the factory creates it; beyond it publishers are
    /// refused.
    nats_goals_max: u64 = Number(1_000_000), number(1, 1_000_000_000);
    /// Size of the goals waiting in that stream, in bytes.
    nats_goals_bytes_max: u64 = Number(1_073_741_824), number(1_048_576, 1_125_899_906_842_624);
    /// Number of deliveries of a goal without an acknowledgement before it becomes a dead letter.
    nats_goal_deliveries_max: u32 = Number(10), number(1, 1_000);
    /// The JetStream stream of dead letters; empty: the prefix in capitals with `_DEAD`.
    nats_dead_stream: String = Text(""), AllowedValues::StreamName;
    /// Size of that stream, in bytes; the oldest dead letters are removed beyond it.
    nats_dead_bytes_max: u64 = Number(268_435_456), number(1_048_576, 1_125_899_906_842_624);
    /// The JetStream key-value bucket with the state of each session; empty: the prefix in capitals
    /// with `_SESSIONS`.
    nats_sessions_bucket: String = Text(""), AllowedValues::StreamName;
    /// Size of that bucket, in bytes; the oldest states are removed beyond it.
    nats_sessions_bytes_max: u64 = Number(268_435_456), number(1_048_576, 1_125_899_906_842_624);
    /// Retention of a state after the session's last event, in seconds; 0: no limit.
    nats_sessions_age_s_max: u64 = Number(2_592_000), number(0, 3_153_600_000);
    /// Duplicate window: how long a stream created by the factory drops repetitions of a
    /// `Nats-Msg-Id`, in seconds.
    nats_duplicate_window_s: u64 = Number(120), number(1, 86_400);
    /// Replicas of a stream created by the factory, in a cluster.
    nats_replicas: usize = Number(1), number(1, 5);
    /// Minimum level of lines in `logs/app.log`.
    log_level: LogLevel = Text("INFO"), AllowedValues::OneOf(&["DEBUG", "INFO", "WARNING", "ERROR"]);
    /// The name of this node in recorded events.
    node: String = Text("local"), AllowedValues::Node;
    /// The first tokens of every subject on the bus.
    #[with(subject)]
    prefix: Subject = Text("factory"), AllowedValues::Prefix;
    /// The owner of this agent on NATS, one subject token; empty: the user the factory runs as.
    agent_owner: String = Text(""), AllowedValues::TokenOrNothing;
    /// The name of this agent on NATS, one subject token; empty: the node's name.
    agent_name: String = Text(""), AllowedValues::TokenOrNothing;
    /// Heartbeat interval of the agent on NATS, in seconds.
    agent_heartbeat_s: u64 = Number(30), number(1, 3_600);
    /// Timeout for a caller's answer to a question of the agent, in seconds.
    agent_question_s_max: u64 = Number(300), number(1, 86_400);
    /// Concurrent sessions.
    sessions_max: usize = Number(256), number(1, 65_536);
    /// Time limit of a session, in milliseconds.
    session_ms_max: u64 = Number(600_000), number(1, 604_800_000);
    /// Time limit of a session's step, waiting included, in milliseconds.
    step_ms_max: u64 = Number(120_000), number(1, 604_800_000);
    /// Number of resumptions of a session after crashes before it is given up; it is tried once
    /// more than this.
    session_resumes_max: u32 = Number(4), number(0, 1_000);
    /// Wall-clock limit of a run, in milliseconds.
    run_wall_ms_max: u64 = Number(5_000), number(1, 86_400_000);
    /// Wall-clock limit of one run of a check, in milliseconds; also the limit of its processor
    /// time.
    check_wall_ms_max: u64 = Number(300_000), number(1, 86_400_000);
    /// Number of files in a session's workspace.
    workspace_files_max: usize = Number(2_000), number(1, 2_000);
    /// Size of a file in a session's workspace, in bytes.
    workspace_file_bytes_max: u64 = Number(3_145_728), number(1, 3_145_728);
    /// Size of all files in a session's workspace together, in bytes.
    workspace_bytes_max: u64 = Number(25_165_824), number(1, 25_165_824);
    /// Required isolation of code: `full`, or a weaker level by name; `none` runs no code.
    #[with(level)]
    sandbox: IsolationLevel = Text("full"), AllowedValues::OneOf(&["full", "reduced", "process", "none"]);
    /// Size of a run's program text, in bytes.
    run_code_bytes_max: usize = Number(131_072), number(1, 131_072);
    /// Processor time of all processes of a run together, in seconds.
    run_cpu_s_max: u64 = Number(10), number(1, 86_400);
    /// Memory of all processes of a run together, in bytes; files count extra.
    run_memory_bytes_max: u64 = Number(536_870_912), number(33_554_432, 1_099_511_627_776);
    /// Concurrent processes and threads of a run.
    run_processes_max: u64 = Number(64), number(1, 65_536);
    /// Open files per process of a run.
    run_open_files_max: u64 = Number(256), number(16, 65_536);
    /// Size of a file written by a run, in bytes.
    run_file_bytes_max: u64 = Number(67_108_864), number(4_096, 1_099_511_627_776);
    /// Size of a run's working directory, in bytes.
    run_box_bytes_max: u64 = Number(67_108_864), number(65_536, 1_099_511_627_776);
    /// Number of files and directories in a run's working directory.
    run_box_inodes_max: u64 = Number(4_096), number(16, 16_777_216);
    /// Size of a run's `/tmp`, in bytes.
    run_tmp_bytes_max: u64 = Number(67_108_864), number(65_536, 1_099_511_627_776);
    /// Number of files and directories in a run's `/tmp`.
    run_tmp_inodes_max: u64 = Number(4_096), number(16, 16_777_216);
    /// Number of locked-down interpreters per language that wait for the next run; 0 starts each on
    /// demand.
    pool_members: usize = Number(2), number(0, 64);
    /// Age at which a waiting interpreter is replaced, in milliseconds.
    pool_age_ms_max: u64 = Number(600_000), number(1_000, 86_400_000);
    /// Kept bytes of each output stream of a run.
    run_output_bytes_max: usize = Number(1_048_576), number(1, 4_194_304);
    /// Concurrent runs; 0: twice the number of cores.
    runs_max: usize = Number(0), number(0, 4_096);
    /// Capacity of the queue of waiting runs.
    runs_waiting_max: usize = Number(256), number(0, 65_536);
    /// Inbox capacity of each actor, in requests.
    requests_waiting_max: usize = Number(1_024), number(1, 65_536);
    /// What happens to a step whose outcome a crash left unknown: run it again, or wait for
    /// `ai-factory resolve`.
    on_unknown: OnUnknown = Text("repeat"), AllowedValues::OneOf(&["repeat", "ask"]);
    /// The Python interpreter for code, or the directory of a virtual environment, whose packages
    /// programs can then import; empty: the first `python3` on the `PATH`.
    python: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The `node_modules` directory whose packages JavaScript programs can use; empty: none.
    node_modules: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The Node.js for JavaScript; empty: the first `node` on the `PATH`.
    nodejs: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// The bash for shell code; empty: the first `bash` on the `PATH`.
    bash: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// Actor restarts tolerated within the window; one more stops the factory.
    restarts_max: usize = Number(5), number(0, 1_000);
    /// The window in which restarts are counted, in milliseconds.
    restart_window_ms: u64 = Number(10_000), number(1, 3_600_000);
    /// Number of events per journal segment; a crash leaves at most one segment to repair.
    segment_events_max: u64 = Number(32_768), number(1, 16_777_216);
    /// Cache of the journal, in bytes.
    journal_cache_bytes_max: usize = Number(4_194_304), number(65_536, 68_719_476_736);
    /// Capacity of the journal writer's queue, in appends.
    append_queue_max: usize = Number(8_192), number(1, 1_048_576);
    /// Number of events that the projections keep in memory before they are flushed.
    flush_events_max: u64 = Number(4_096), number(256, 1_048_576);
    /// Number of documents that the search index keeps in memory before they are flushed.
    flush_documents_max: usize = Number(4_096), number(1, 1_048_576);
    /// Base URL of an OpenAI-compatible API whose `embeddings` are used for search by meaning;
    /// empty: the built-in model.
    embedding_url: String = Text(""), AllowedValues::BaseUrl;
    /// The name of the embedding model at `embedding_url`.
    embedding_model: String = Text(""), AllowedValues::WordOrNothing;
    /// The API key for `embedding_url`.
    embedding_key: Secret = Text(""), AllowedValues::Secret;
    /// Certificates (PEM) trusted for `embedding_url`, in addition to the system's; requires
    /// `https`.
    embedding_ca: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// Vector dimensions of `embedding_url`; 0: those of its answers.
    embedding_dimensions: usize = Number(0), number(0, 8_192);
    /// Number of texts per call of `embedding_url`.
    embedding_texts_max: usize = Number(64), number(1, 2_048);
    /// Timeout of a call of `embedding_url`, in milliseconds; a query waits at most one second.
    embedding_ms_max: u64 = Number(30_000), number(1, 600_000);
    /// Age at which a memory is forgotten, in seconds; 0: never. The journal keeps its events.
    memory_retention_s: u64 = Number(0), number(0, 3_155_760_000);
    /// Number of memories beyond which the oldest are forgotten; 0: no limit.
    memory_retention_max: u64 = Number(0), number(0, 1_000_000_000);
    /// The language model that does the work, as provider and name; empty: none, and nothing is
    /// sent anywhere.
    model: String = Text(""), AllowedValues::Model;
    /// Base URL of the model's API; empty: the usual one of its provider.
    model_url: String = Text(""), AllowedValues::BaseUrl;
    /// The API key for the model; empty: that of `model_key_file`, else the variable that its
    /// provider's own tools use, such as `ANTHROPIC_API_KEY`, for the provider's own host only.
    model_key: Secret = Text(""), AllowedValues::Secret;
    /// A file with the API key; nobody but its owner may read it.
    model_key_file: PathBuf = Text(""), AllowedValues::PathOrNothing;
    /// How the model calls tools: with its API's own tool calls (`native`), as fenced blocks in
    /// its text (`text`), or natively unless the server says that it cannot (`auto`).
    model_tools: ModelTools = Text("auto"), AllowedValues::OneOf(&["auto", "native", "text"]);
    /// The model's temperature; empty: its own.
    #[with(temperature)]
    model_temperature: Option<u32> = Text(""), AllowedValues::Temperature;
    /// The seed of the model's answers; empty: none.
    #[with(seed)]
    model_seed: Option<u64> = Text(""), AllowedValues::Seed;
    /// Length of an answer of the model, in tokens, reasoning included.
    model_max_output_tokens: u64 = Number(8_192), number(16, 1_048_576);
    /// The model's window: tokens of a request and its answer together.
    model_context_tokens: u64 = Number(32_768), number(1_024, 16_777_216);
    /// Prices per million tokens, in any one currency; empty: unknown.
    #[with(prices)]
    model_prices: Option<TokenPrices> = Text(""), AllowedValues::Prices;
    /// Timeout of connecting to the model's server, in milliseconds.
    model_connect_ms_max: u64 = Number(10_000), number(1, 600_000);
    /// Timeout of the first byte of an answer, in milliseconds.
    model_first_byte_ms_max: u64 = Number(120_000), number(1, 86_400_000);
    /// Timeout between two parts of an answer, in milliseconds.
    model_idle_ms_max: u64 = Number(60_000), number(1, 86_400_000);
    /// Number of attempts of a call after the first.
    model_retries_max: u32 = Number(4), number(0, 100);
    /// Concurrent calls.
    model_calls_max: usize = Number(4), number(1, 4_096);
    /// Number of turns of a session; a goal may ask for fewer.
    model_turns_max: u32 = Number(100), number(1, 4_000);
    /// Tokens that a session may spend, as billed; a goal may ask for fewer.
    model_session_tokens_max: u64 = Number(1_000_000), number(1, 1_000_000_000_000);
    /// Cost of a session, in the currency of `model_prices`, which it requires; empty: not limited.
    #[with(money)]
    model_session_cost_max: Option<u64> = Text(""), AllowedValues::Money;
    /// Tokens that all sessions together may spend in a day, by UTC.
    model_day_tokens_max: u64 = Number(10_000_000), number(1, 1_000_000_000_000);
    /// Cost of all sessions together in a day, in the currency of `model_prices`, which it
    /// requires; empty: not limited.
    #[with(money)]
    model_day_cost_max: Option<u64> = Text(""), AllowedValues::Money;
    /// Time limit of a session with a model, in milliseconds; waiting for a person or for a place
    /// among the calls does not count.
    model_session_ms_max: u64 = Number(14_400_000), number(1, 604_800_000);
    /// Limit of a run that the model asks for, in milliseconds of wall-clock and of processor time.
    tool_wall_ms_max: u64 = Number(60_000), number(1, 86_400_000);
    /// How long a question of the model waits for a person, in milliseconds.
    ask_ms_max: u64 = Number(86_400_000), number(1, 2_592_000_000);
    /// Sessions that wait for a person or for a larger budget.
    sessions_waiting_max: usize = Number(10_000), number(1, 10_000_000);
    /// Time limit of an orderly shutdown, in milliseconds.
    shutdown_ms_max: u64 = Number(10_000), number(1, 3_600_000);
    /// Size at which `logs/app.log` is rotated, in bytes.
    log_file_bytes_max: usize = Number(5_242_880), number(1_024, 1_073_741_824);
    /// Number of rotated log files that are kept.
    log_files_max: usize = Number(3), number(0, 100);
}

impl Settings {
    /// The subjects under [`Self::prefix`].
    pub fn subjects(&self) -> Subjects {
        Subjects::new(self.prefix.clone())
    }

    /// The values of all settings that are secret, and the keys of providers.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let named = [
            &self.token,
            &self.nats_password,
            &self.nats_token,
            &self.embedding_key,
            &self.model_key,
        ];
        named
            .into_iter()
            .filter_map(Secret::reveal)
            .chain(self.provider_keys.by_variable().map(|(_, key)| key))
    }

    /// Concurrent runs, with 0 resolved to twice the number of cores.
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
            assert!(key.allowed.accepts(&key.default.to_string()), "{}", key.name);
        }
    }

    #[test]
    fn a_base_url_has_no_password() {
        let accepts = |text| AllowedValues::BaseUrl.accepts(text);
        assert!(accepts("http://127.0.0.1:11434/v1") && accepts("https://api.example.com/v1/"));
        for refused in [
            "127.0.0.1",
            "http://",
            "https://",
            "ftp://a",
            "https://me:pass@a",
            "http://a b",
            "http://a?k=v",
        ] {
            assert!(!accepts(refused), "{refused}");
        }
    }

    #[test]
    fn prefixes_are_plain_tokens() {
        let accepts = |text| AllowedValues::Prefix.accepts(text);
        assert!(accepts("factory") && accepts("team-1.factory"));
        for refused in ["", ".", "a..b", "Factory", "$sys", "a b", "a.*", "a.>"] {
            assert!(!accepts(refused), "{refused}");
        }
    }
}
