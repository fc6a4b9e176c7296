//! Selects the sandbox for the configured level; if it is unavailable, runs are refused, never run
//! with less isolation.

use std::{io, path::Path, sync::Arc};

use ai_factory_ports::{
    metrics::{MetricSource, Registry},
    sandbox::{Language, Program, ProgramOutcome, Sandbox, SandboxError},
};
use ai_factory_schemas::run::{Isolation, IsolationLevel};

#[cfg(target_os = "linux")]
use super::{
    directory, jail_sandbox::JailSandbox, language::LanguageSpec, metrics::PoolMetrics,
    process::ProcessSandbox, settings::SandboxSettings,
};

/// The selected sandbox.
pub struct SelectedSandbox(SandboxKind);

enum SandboxKind {
    #[cfg(target_os = "linux")]
    Jail(Arc<JailSandbox>),
    Process(Arc<ProcessSandbox>),
    /// Runs nothing and gives the reason.
    Nothing(&'static str),
}

/// Reasons for running nothing.
const FORBIDDEN: &str =
    "the settings forbid running code (`sandbox` is `none`): set it to `full`, and start again";
#[cfg(not(target_os = "linux"))]
const NOT_HERE: &str = "the sandbox levels `full` and `reduced` need Linux, and a weaker level \
    must be named: set `sandbox` to `process` if code may do whatever the factory's user can";

impl SelectedSandbox {
    /// The sandbox of a level. Blocks briefly.
    pub fn new(level: IsolationLevel, settings: SandboxSettings) -> Arc<Self> {
        let kind = match level {
            #[cfg(target_os = "linux")]
            IsolationLevel::Full => SandboxKind::Jail(JailSandbox::full(settings)),
            #[cfg(target_os = "linux")]
            IsolationLevel::Reduced => SandboxKind::Jail(JailSandbox::reduced(settings)),
            #[cfg(not(target_os = "linux"))]
            IsolationLevel::Full | IsolationLevel::Reduced => SandboxKind::Nothing(NOT_HERE),
            IsolationLevel::Process => SandboxKind::Process(ProcessSandbox::new(settings)),
            IsolationLevel::None => SandboxKind::Nothing(FORBIDDEN),
        };
        Arc::new(Self(kind))
    }

    /// Whether programs can use the interpreters and packages that the settings name. Without a
    /// jail nothing but the interpreter of a run is looked at, when it begins.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn check_settings(&self) -> Result<(), String> {
        match &self.0 {
            #[cfg(target_os = "linux")]
            SandboxKind::Jail(sandbox) => sandbox.check_settings(),
            SandboxKind::Process(_) | SandboxKind::Nothing(_) => Ok(()),
        }
    }

    /// Whether programs can reach an interpreter, one of [`Sandbox::languages`].
    ///
    /// # Errors
    /// A sentence with what is in the way.
    pub fn check_interpreter(&self, interpreter: &Path) -> Result<(), String> {
        match &self.0 {
            #[cfg(target_os = "linux")]
            SandboxKind::Jail(sandbox) => sandbox.check_interpreter(interpreter),
            SandboxKind::Process(_) | SandboxKind::Nothing(_) => Ok(()),
        }
    }

    /// Ends processes and removes directories that runs of earlier factories left in `tmp_dir`, and
    /// returns the number of such runs. Blocks; call it at start.
    pub fn sweep(tmp_dir: &Path) -> io::Result<usize> {
        let left = ProcessSandbox::sweep(tmp_dir)?;
        // The directory is shared with other factories: its errors do not concern this one.
        let shared = ProcessSandbox::sweep(&directory::shared()).unwrap_or_default();
        Ok(left + shared)
    }

    /// Does the work that the first run would wait for, in the background.
    pub fn warm_up(&self) {
        match &self.0 {
            #[cfg(target_os = "linux")]
            SandboxKind::Jail(sandbox) => sandbox.warm_up(),
            SandboxKind::Process(sandbox) => sandbox.warm_up(),
            SandboxKind::Nothing(why) => tracing::warn!("no code will run: {why}"),
        }
    }

    /// Waits until all processes of runs and all waiting interpreters are gone.
    pub async fn drained(&self) {
        match &self.0 {
            #[cfg(target_os = "linux")]
            SandboxKind::Jail(sandbox) => sandbox.drained().await,
            SandboxKind::Process(sandbox) => sandbox.drained().await,
            SandboxKind::Nothing(_) => {}
        }
    }

    fn sandbox(&self) -> Result<&dyn Sandbox, &'static str> {
        match &self.0 {
            #[cfg(target_os = "linux")]
            SandboxKind::Jail(sandbox) => Ok(&**sandbox),
            SandboxKind::Process(sandbox) => Ok(&**sandbox),
            SandboxKind::Nothing(why) => Err(why),
        }
    }
}

impl MetricSource for SelectedSandbox {
    fn register_metrics(&self, registry: &mut Registry) {
        match &self.0 {
            #[cfg(target_os = "linux")]
            SandboxKind::Jail(sandbox) => sandbox.metrics().register(registry),
            // The same names at every level: nothing waits in a pool here.
            SandboxKind::Process(_) | SandboxKind::Nothing(_) => {
                PoolMetrics::default().register(registry);
            }
        }
    }
}

#[async_trait::async_trait]
impl Sandbox for SelectedSandbox {
    fn isolation(&self) -> Isolation {
        self.sandbox().map(Sandbox::isolation).unwrap_or_default()
    }

    async fn languages(&self) -> Vec<Language> {
        match self.sandbox() {
            Ok(sandbox) => sandbox.languages().await,
            Err(_) => Vec::new(),
        }
    }

    fn supports(&self, language: &str) -> bool {
        match self.sandbox() {
            Ok(sandbox) => sandbox.supports(language),
            // The run itself reports why it cannot be executed.
            Err(_) => LanguageSpec::of(language).is_some(),
        }
    }

    fn check(&self, program: &Program) -> Result<(), SandboxError> {
        // Without a sandbox the run itself reports why.
        self.sandbox().map_or(Ok(()), |sandbox| sandbox.check(program))
    }

    fn is_repeatable(&self) -> bool {
        self.sandbox().is_ok_and(Sandbox::is_repeatable)
    }

    async fn run(&self, program: Program) -> Result<ProgramOutcome, SandboxError> {
        match self.sandbox() {
            Ok(sandbox) => sandbox.run(program).await,
            Err(why) => Err(SandboxError::Refused(why.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_factory_that_runs_no_code_says_why() {
        let settings = SandboxSettings::new("/nonexistent");
        let sandbox = SelectedSandbox::new(IsolationLevel::None, settings);
        let program = Program {
            language: "python".into(),
            source: "print(1)".into(),
            stdin: None,
            files: Vec::new(),
            return_files: Vec::new(),
            wall_max: Duration::from_secs(1),
            traceparent: None,
            cpu_max: None,
            workspace: None,
        };
        let refused = sandbox.run(program).await.unwrap_err();
        assert!(refused.to_string().contains("`sandbox` is `none`"), "{refused}");
        assert_eq!(sandbox.isolation(), Isolation::default());
        assert!(sandbox.supports("python") && !sandbox.supports("cobol"));
    }
}
