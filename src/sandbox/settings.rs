//! What an operator may change about running code, and what tests put in place of the real thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    time::Duration,
};

use super::{layer::Layer, limits::RunLimits};

/// How long a guardian or a jail may take for its own work, beyond the program's wall limit, unless settings say
/// otherwise, in milliseconds. Ordinarily it takes a few; the most goes into ending stubborn processes and into
/// removing large directories.
pub const GUARD_MS_MAX: u64 = 15_000;
/// The longest wall limit, in milliseconds: a week. A longer one is shortened to it.
pub const WALL_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// How many interpreters of each language wait for the next run, unless settings say otherwise.
pub const POOL_MEMBERS: usize = 2;
/// How long they wait before a fresh one takes their place, unless settings say otherwise.
pub const POOL_AGE_MAX: Duration = Duration::from_mins(10);

/// The settings of a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Where the private directories of runs are made, at the levels `process` and, for ordinary users, `reduced`. Absolute, or relative to the working
    /// directory at start.
    pub tmp_dir: PathBuf,
    /// The program to start as a guardian or a jail: it must do what this one's `main` does with their arguments.
    pub guardian: PathBuf,
    /// Interpreters by the name of their language; those that are not named are looked for.
    pub interpreters: BTreeMap<&'static str, PathBuf>,
    /// Where interpreters are looked for, as in the environment variable `PATH`.
    pub search_path: Option<OsString>,
    /// What a run may use. The level `process` keeps those of code and output, and no others.
    pub limits: RunLimits,
    /// How long a guardian or a jail may take beyond the program's wall limit, in milliseconds.
    pub guard_ms_max: u64,
    /// Whether a run whose end is unknown may be repeated.
    pub repeat_unknown: bool,
    /// How many interpreters of each language wait, locked down, for the next run; 0 starts each when it is needed.
    pub pool_members: usize,
    /// How long an interpreter waits before a fresh one takes its place.
    pub pool_age_max: Duration,
    /// Layers to leave out of every jail: for tests that prove that each is needed, and for nothing else.
    pub without: BTreeSet<Layer>,
}

impl SandboxSettings {
    /// The defaults, with private directories in `tmp_dir`.
    pub fn new(tmp_dir: impl Into<PathBuf>) -> Self {
        // On Linux this is the running program itself, also after its file was replaced by a newer one.
        let running = PathBuf::from("/proc/self/exe");
        let guardian = if cfg!(target_os = "linux") {
            running
        } else {
            std::env::current_exe().unwrap_or(running)
        };
        Self {
            tmp_dir: tmp_dir.into(),
            guardian,
            interpreters: BTreeMap::new(),
            search_path: std::env::var_os("PATH"),
            limits: RunLimits::default(),
            guard_ms_max: GUARD_MS_MAX,
            repeat_unknown: true,
            pool_members: POOL_MEMBERS,
            pool_age_max: POOL_AGE_MAX,
            without: BTreeSet::new(),
        }
    }
}
