//! The jail sandbox: a jail for each run, taken from the pool if one is ready.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ai_factory_actors::ports::sandbox::{Language, Program, Ran, Sandbox, SandboxError};
use ai_factory_schemas::run::Isolation;
use tokio::sync::{OnceCell, oneshot};

use super::{
    interpreter,
    language::{Found, LANGUAGES, Spec},
    member::{Jailer, Level},
    pool::{Pool, Wanted},
    settings::SandboxSettings,
};

/// The sandbox of the levels `full` and `reduced`.
pub struct JailSandbox {
    settings: SandboxSettings,
    jailer: Arc<Jailer>,
    lanes: [Lane; LANGUAGES.len()],
}

/// State for one language.
struct Lane {
    spec: &'static Spec,
    found: OnceCell<Found>,
    /// Set at the first use, unless pools are disabled or closed.
    pool: Mutex<State>,
}

enum State {
    Unused,
    Open(Arc<Pool>),
    Closed,
}

impl JailSandbox {
    /// A sandbox of level `full`. Blocks briefly.
    pub fn full(settings: SandboxSettings) -> Arc<Self> {
        Self::new(Level::Full, settings)
    }

    /// A sandbox of level `reduced`: without namespaces, for machines that refuse them. Blocks
    /// briefly.
    pub fn reduced(settings: SandboxSettings) -> Arc<Self> {
        Self::new(Level::Reduced(settings.tmp_dir.clone()), settings)
    }

    fn new(level: Level, settings: SandboxSettings) -> Arc<Self> {
        let jailer = Arc::new(Jailer::new(level, &settings));
        let lane = |spec| Lane { spec, found: OnceCell::new(), pool: Mutex::new(State::Unused) };
        let lanes = LANGUAGES.each_ref().map(lane);
        Arc::new(Self { settings, jailer, lanes })
    }

    /// Looks for Python and fills its pool in the background, so that the first run need not wait.
    pub fn warm_up(self: &Arc<Self>) {
        let sandbox = Arc::clone(self);
        tokio::spawn(async move {
            let lane = &sandbox.lanes[0];
            match sandbox.found(lane).await {
                Ok(found) => {
                    tracing::info!(python = %found.path.display(), "Python found");
                    sandbox.pool(lane, found);
                }
                Err(error) => tracing::warn!(%error, "no Python: its programs will not run"),
            }
        });
    }

    /// Ends the waiting interpreters, closes the pools, and returns when no jail is left.
    pub async fn drained(&self) {
        for lane in &self.lanes {
            *lane.pool.lock().unwrap_or_else(PoisonError::into_inner) = State::Closed;
        }
        self.jailer.drained().await;
    }

    async fn found<'a>(&self, lane: &'a Lane) -> Result<&'a Found, SandboxError> {
        let named = self.settings.interpreters.get(lane.spec.name).map(PathBuf::as_path);
        let search_path = self.settings.search_path.as_deref();
        lane.found.get_or_try_init(|| interpreter::found(lane.spec, named, search_path)).await
    }

    fn pool(&self, lane: &Lane, found: &Found) -> Option<Arc<Pool>> {
        let mut state = lane.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Unused) && self.settings.pool_members > 0 {
            let wanted = Wanted {
                spec: lane.spec,
                found: found.clone(),
                members: self.settings.pool_members,
                age_max: self.settings.pool_age_max,
            };
            *state = State::Open(Arc::new(Pool::start(Arc::clone(&self.jailer), wanted)));
        }
        match &*state {
            State::Open(pool) => Some(Arc::clone(pool)),
            State::Unused | State::Closed => None,
        }
    }

    fn lane(&self, language: &str) -> Option<&Lane> {
        let spec = Spec::of(language)?;
        self.lanes.iter().find(|lane| lane.spec.name == spec.name)
    }
}

#[async_trait::async_trait]
impl Sandbox for JailSandbox {
    fn isolation(&self) -> Isolation {
        self.jailer.isolation(&self.jailer.expected(), None)
    }

    async fn languages(&self) -> Vec<Language> {
        let mut languages = Vec::new();
        for lane in &self.lanes {
            if let Ok(found) = self.found(lane).await {
                languages.push(lane.spec.told(found.clone()));
            }
        }
        languages
    }

    fn supports(&self, language: &str) -> bool {
        self.lane(language).is_some()
    }

    fn check(&self, program: &Program) -> Result<(), SandboxError> {
        self.settings.limits.check(program)?;
        if self.jailer.limits_box() { self.settings.limits.check_box(program) } else { Ok(()) }
    }

    fn is_repeatable(&self) -> bool {
        self.settings.repeat_unknown
    }

    async fn run(&self, program: Program) -> Result<Ran, SandboxError> {
        let Some(lane) = self.lane(&program.language) else {
            return Err(SandboxError::UnsupportedLanguage(program.language));
        };
        self.check(&program)?;
        let found = self.found(lane).await?;
        let waiting = match self.pool(lane, found) {
            Some(pool) => pool.take().await,
            None => None,
        };
        let mut member = match waiting {
            Some(member) => member,
            None => self.jailer.make(Some((lane.spec, found)), false).await?,
        };
        let file = lane.spec.file_beside(program.files.iter().map(|file| file.name.as_str()));
        let (mut asker, answer) = oneshot::channel();
        // A run belongs to a task: when its future is dropped, its jail ends at once.
        tokio::spawn(async move {
            tokio::select! {
                ran = member.run(program, file) => {
                    let _ = asker.send(ran);
                }
                () = asker.closed() => {}
            }
        });
        answer.await.unwrap_or_else(|_| {
            let message = "the runtime stopped during the run".to_owned();
            Err(SandboxError::Broken { layer: "jail", message })
        })
    }
}
