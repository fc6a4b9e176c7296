//! The process-tree sandbox, the factory's side: starts a guardian for each run and reads its
//! report.
//!
//! *Promises.* A run belongs to a task, not to the future that waits for it: when the future is
//! dropped, the task cuts the lifeline and waits for the guardian's end. A killed or stopped
//! guardian is detected, and the remains of its run are ended and removed from here.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use ai_factory_ports::{
    sandbox::{CapturedOutput, Language, Program, ProgramOutcome, Sandbox, SandboxError},
    trace::is_traceparent,
};
use ai_factory_schemas::run::{Isolation, IsolationLevel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{OnceCell, oneshot, watch},
};

use super::{
    answer::ProgramEnd,
    directory,
    frames::{self, GuardianOrder, GuardianReport},
    guardian::GUARD_ARGUMENT,
    interpreter,
    language::{LANGUAGES, LanguageSpec, PYTHON_START},
    settings::{SandboxSettings, WALL_MS_MAX},
};

/// The only language of this sandbox.
const PYTHON: &LanguageSpec = &LANGUAGES[0];
/// As in a jail, but without a stack dump on signals.
const PYTHON_ARGUMENTS: [&str; 7] = ["-I", "-B", "-u", "-X", "utf8", "-c", PYTHON_START];

/// The process-tree sandbox. The module [`super`] documents its guarantees and limits.
pub struct ProcessSandbox {
    settings: SandboxSettings,
    python: OnceCell<PathBuf>,
    /// Number of living guardians.
    guardians: watch::Sender<usize>,
}

impl ProcessSandbox {
    /// Creates the sandbox.
    pub fn new(mut settings: SandboxSettings) -> Arc<Self> {
        settings.tmp_dir =
            std::path::absolute(&settings.tmp_dir).unwrap_or_else(|_| settings.tmp_dir.clone());
        Arc::new(Self { settings, python: OnceCell::new(), guardians: watch::Sender::new(0) })
    }

    /// Ends processes and removes directories that runs of earlier factories left in `tmp_dir`,
    /// except those with a living guardian. Returns the number of such runs. Blocks; call it at
    /// start.
    pub fn sweep(tmp_dir: &Path) -> io::Result<usize> {
        directory::sweep(&std::path::absolute(tmp_dir)?)
    }

    /// Looks for the interpreter in the background, so that the first run need not; logs how little
    /// the sandbox isolates.
    pub fn warm_up(self: &Arc<Self>) {
        let isolation = isolation();
        tracing::warn!(
            active = isolation.active.join(", "),
            missing = isolation.missing.join(", "),
            "code runs with isolation `process` only: it can do whatever the factory's user can"
        );
        let sandbox = self.clone();
        tokio::spawn(async move {
            match sandbox.python().await {
                Ok(python) => tracing::info!(python = %python.display(), "Python found"),
                Err(error) => tracing::warn!(%error, "no Python: code will not run"),
            }
        });
    }

    /// Waits until no guardian is left: from then on no trace remains of runs whose future was
    /// dropped.
    pub async fn drained(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.guardians.subscribe().wait_for(|count| *count == 0).await;
    }

    async fn python(&self) -> Result<&PathBuf, SandboxError> {
        let settings = &self.settings;
        self.python
            .get_or_try_init(|| {
                let named = settings.interpreters.get(PYTHON.name);
                let search_path = settings.search_path.as_deref();
                interpreter::find(PYTHON, named.map(PathBuf::as_path), search_path)
            })
            .await
    }
}

fn isolation() -> Isolation {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Isolation {
        level: IsolationLevel::Process,
        active: names(&[
            "process-group",
            "private-directory",
            "empty-environment",
            "wall-limit",
            "output-limit",
        ]),
        missing: names(&["namespaces", "seccomp", "landlock", "cgroup", "network"]),
        limits: BTreeMap::new(),
    }
}

#[async_trait::async_trait]
impl Sandbox for ProcessSandbox {
    fn isolation(&self) -> Isolation {
        isolation()
    }

    async fn languages(&self) -> Vec<Language> {
        let settings = &self.settings;
        let named = settings.interpreters.get(PYTHON.name);
        let search_path = settings.search_path.as_deref();
        match interpreter::find_interpreter(PYTHON, named.map(PathBuf::as_path), search_path).await
        {
            Ok(found) => vec![PYTHON.describe(found)],
            Err(_) => Vec::new(),
        }
    }

    fn is_repeatable(&self) -> bool {
        self.settings.repeat_unknown
    }

    fn supports(&self, language: &str) -> bool {
        LanguageSpec::of(language).is_some_and(|spec| spec.name == PYTHON.name)
    }

    fn check(&self, program: &Program) -> Result<(), SandboxError> {
        if program.workspace.is_some() {
            let message = "the sandbox level `process` gives programs no workspace, and runs no \
                           check: set `sandbox` to `full` or `reduced`, and start again";
            return Err(SandboxError::Refused(message.to_owned()));
        }
        self.settings.limits.check(program)?;
        if program.stdin.is_some() || !program.files.is_empty() || !program.return_files.is_empty()
        {
            let message =
                "the sandbox level `process` gives programs no input and no files: use `full`";
            return Err(SandboxError::Refused(message.to_owned()));
        }
        Ok(())
    }

    async fn run(&self, program: Program) -> Result<ProgramOutcome, SandboxError> {
        if !self.supports(&program.language) {
            return Err(SandboxError::UnsupportedLanguage(program.language));
        }
        self.check(&program)?;
        let limits = &self.settings.limits;
        let bytes = program.source.len();
        let order = GuardianOrder {
            directory: self.settings.tmp_dir.join(directory::new_name()),
            interpreter: self.python().await?.clone(),
            arguments: PYTHON_ARGUMENTS.map(str::to_owned).to_vec(),
            wall_ms_max: u64::try_from(program.wall_max.as_millis())
                .map_or(WALL_MS_MAX, |wall_ms| wall_ms.min(WALL_MS_MAX)),
            output_bytes_max: usize::try_from(limits.output_bytes).unwrap_or(usize::MAX),
            source_bytes: bytes,
            traceparent: program.traceparent.filter(|text| is_traceparent(text)),
        };
        let directory = format!("{}/", order.directory.display());
        let guard_max = Duration::from_millis(self.settings.guard_ms_max);
        let guardian = Guardian::start(&self.settings.guardian, order)?;
        let (asker, answer) = oneshot::channel();
        let living = GuardianCount::new(&self.guardians);
        tokio::spawn(async move {
            guardian.conduct(program.source, guard_max, asker).await;
            drop(living);
        });
        let outcome = answer.await.unwrap_or_else(|_| broken("the runtime stopped during the run"));
        outcome.map(|outcome| ProgramOutcome {
            stdout: without(&directory, outcome.stdout),
            stderr: without(&directory, outcome.stderr),
            ..outcome
        })
    }
}

/// The captured text without the path of the run's directory, which no longer exists.
fn without(directory: &str, mut captured: CapturedOutput) -> CapturedOutput {
    if captured.text.contains(directory) {
        captured.text = captured.text.replace(directory, "");
    }
    captured
}

/// The layer name for a failed guardian.
const GUARDIAN: &str = "guardian";

fn broken<T>(message: impl Into<String>) -> Result<T, SandboxError> {
    Err(SandboxError::Broken { layer: GUARDIAN, message: message.into() })
}

/// Counts a guardian during its lifetime.
struct GuardianCount(watch::Sender<usize>);

impl GuardianCount {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for GuardianCount {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A started guardian.
struct Guardian {
    order: GuardianOrder,
    process: Child,
    life_line: ChildStdin,
    report: ChildStdout,
}

impl Guardian {
    fn start(guardian: &Path, order: GuardianOrder) -> Result<Self, SandboxError> {
        let unstarted = |error: &dyn std::fmt::Display| {
            let message = format!("cannot start `{}`: {error}", guardian.display());
            SandboxError::Broken { layer: GUARDIAN, message }
        };
        let mut process = Command::new(guardian)
            // The name shown in process lists.
            .arg0("ai-factory")
            .arg(GUARD_ARGUMENT)
            .args(order.directory.file_name())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| unstarted(&error))?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(life_line), Some(report)) => Ok(Self { order, process, life_line, report }),
            _ => Err(unstarted(&"it has no pipes")),
        }
    }

    /// From the order to the report, or until the caller is gone; in any case until nothing of the
    /// run is left.
    async fn conduct(
        mut self,
        source: String,
        guard_max: Duration,
        mut asker: oneshot::Sender<Result<ProgramOutcome, SandboxError>>,
    ) {
        let time_max = Duration::from_millis(self.order.wall_ms_max) + guard_max;
        let report = tokio::select! {
            report = converse(&mut self.life_line, &mut self.report, &self.order, &source) => Some(report),
            () = asker.closed() => None,
            () = tokio::time::sleep(time_max) => Some(Err(io::Error::other("it does not answer"))),
        };
        // Makes the guardian end everything, if it has not done so.
        drop(self.life_line);
        drop(self.report);
        let has_answered = matches!(report, Some(Ok(_)) | None);
        let ended = end(&mut self.process, has_answered.then_some(guard_max)).await;
        let is_clean = matches!(report, None | Some(Ok(Ok(_))))
            && ended.as_ref().is_ok_and(ExitStatus::success);
        let leftovers = if is_clean { Ok(()) } else { clear(self.order.directory).await };
        if let Err(error) = &leftovers {
            tracing::error!(%error, "the remains of a run cannot be removed");
        }
        let Some(report) = report else { return };
        let outcome = report.unwrap_or_else(|error| {
            let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            broken(format!("the guardian of the run was lost ({error}; {ended})"))
        });
        // The caller may have given up meanwhile.
        let _ = asker.send(outcome);
    }
}

/// Sends the order and waits for the report.
async fn converse(
    life_line: &mut ChildStdin,
    from: &mut ChildStdout,
    order: &GuardianOrder,
    source: &str,
) -> io::Result<Result<ProgramOutcome, SandboxError>> {
    life_line.write_all(&frames::frame(order)?).await?;
    life_line.write_all(source.as_bytes()).await?;
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut json = vec![0; frames::header_length(length)?];
    from.read_exact(&mut json).await?;
    let ended = match frames::header(&json)? {
        GuardianReport::Ended(ended) => ended,
        GuardianReport::MissingInterpreter(message) => {
            return Ok(Err(SandboxError::MissingInterpreter(message)));
        }
        GuardianReport::Failed(message) => return Ok(broken(message)),
    };
    let mut kept = [Vec::new(), Vec::new()];
    for (kept, stream) in kept.iter_mut().zip([ended.stdout, ended.stderr]) {
        if stream.kept_bytes() > order.output_bytes_max {
            return Err(io::Error::other("more output than is ever kept"));
        }
        kept.resize(stream.kept_bytes(), 0);
        from.read_exact(kept).await?;
    }
    let end = ProgramEnd { how: ended.how, duration: Duration::from_micros(ended.duration_us) };
    let [stdout, stderr] = kept;
    let isolation = isolation();
    Ok(Ok(end.outcome([(&stdout, &ended.stdout), (&stderr, &ended.stderr)], isolation)))
}

/// Waits for the guardian's end; kills it after `guard_max`, or at once if that is `None`.
async fn end(guardian: &mut Child, guard_max: Option<Duration>) -> io::Result<ExitStatus> {
    if let Some(guard_max) = guard_max
        && let Ok(status) = tokio::time::timeout(guard_max, guardian.wait()).await
    {
        return status;
    }
    guardian.start_kill()?;
    guardian.wait().await
}

/// Ends and removes the remains of a lost guardian's run.
async fn clear(directory: PathBuf) -> io::Result<()> {
    let cleared = tokio::task::spawn_blocking(move || directory::clear(&directory)).await;
    cleared.map_err(io::Error::other)?.map(|_| ())
}
