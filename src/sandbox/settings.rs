//! Settings for running code, and substitutes for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    time::Duration,
};

use super::{layer::IsolationLayer, limits::RunLimits};

/// Default time for a guardian or a jail beyond the program's wall limit, in milliseconds.
/// Ordinarily it takes a few; ending stubborn processes and removing large directories take the
/// most.
pub const GUARD_MS_MAX: u64 = 15_000;
/// The longest wall limit, in milliseconds: a week. A longer one is reduced to it.
pub const WALL_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// Default number of waiting interpreters per language.
pub const POOL_MEMBERS: usize = 2;
/// Default age at which a waiting interpreter is replaced.
pub const POOL_AGE_MAX: Duration = Duration::from_mins(10);

/// The settings of a sandbox.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Parent of the private directories of runs, at level `process` and, for ordinary users,
    /// `reduced`. Absolute, or relative to the working directory at start.
    pub tmp_dir: PathBuf,
    /// The executable to start as a guardian or a jail: it must handle their arguments as this
    /// one's `main` does.
    pub guardian: PathBuf,
    /// Interpreters by language name; those missing are looked for.
    pub interpreters: BTreeMap<&'static str, PathBuf>,
    /// A `node_modules` whose packages JavaScript programs may use.
    pub node_modules: Option<PathBuf>,
    /// Search path for interpreters, in the format of the environment variable `PATH`.
    pub search_path: Option<OsString>,
    /// Limits of a run. Level `process` enforces only those of code and output.
    pub limits: RunLimits,
    /// Time for a guardian or a jail beyond the program's wall limit, in milliseconds.
    pub guard_ms_max: u64,
    /// Whether a run with an unknown outcome may be repeated.
    pub repeat_unknown: bool,
    /// Number of locked-down interpreters per language that wait for the next run; with 0 each is
    /// started on demand.
    pub pool_members: usize,
    /// Age at which a waiting interpreter is replaced.
    pub pool_age_max: Duration,
    /// Layers to leave out of every jail: only for tests that prove that each is needed.
    pub without: BTreeSet<IsolationLayer>,
}

impl SandboxSettings {
    /// The defaults, with private directories in `tmp_dir`.
    #[expect(clippy::disallowed_methods, reason = "where interpreters are found on this machine")]
    pub fn new(tmp_dir: impl Into<PathBuf>) -> Self {
        // On Linux this is the running executable, also after its file was replaced.
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
            node_modules: None,
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
