//! The jail sandbox: a jail for each run, taken from the pool if one is ready.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_ports::sandbox::{Language, Program, ProgramOutcome, Sandbox, SandboxError};
use ai_factory_schemas::run::Isolation;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, oneshot};

use super::{
    interpreter,
    jail_factory::{JailFactory, JailSize},
    jail_handle::JailHandle,
    jail_layers::JailLevel,
    language::{FoundInterpreter, LANGUAGES, LanguageSpec},
    metrics::PoolMetrics,
    pool::{Pool, PoolSpec},
    sealed_tree::SealedTrees,
    settings::SandboxSettings,
    workspace::PackedWorkspace,
};

/// The sandbox of the levels `full` and `reduced`.
pub struct JailSandbox {
    settings: SandboxSettings,
    jails: Arc<JailFactory>,
    lanes: [LanguagePool; LANGUAGES.len()],
    trees: Arc<SealedTrees>,
    metrics: PoolMetrics,
}

/// State for one language.
struct LanguagePool {
    spec: &'static LanguageSpec,
    found: OnceCell<FoundInterpreter>,
    /// One for each size of jail, in the order of [`JailSize::ALL`]. Set at the first use, unless
    /// pools are disabled or closed.
    pools: [Mutex<PoolState>; JailSize::ALL.len()],
}

enum PoolState {
    Unused,
    Open(Arc<Pool>),
    Closed,
}

impl JailSandbox {
    /// A sandbox of level `full`. Blocks briefly.
    pub fn full(settings: SandboxSettings) -> Arc<Self> {
        Self::new(JailLevel::Full, settings)
    }

    /// A sandbox of level `reduced`: without namespaces, for machines that refuse them. Blocks
    /// briefly.
    pub fn reduced(settings: SandboxSettings) -> Arc<Self> {
        Self::new(JailLevel::Reduced(settings.tmp_dir.clone()), settings)
    }

    fn new(level: JailLevel, settings: SandboxSettings) -> Arc<Self> {
        let jails = Arc::new(JailFactory::new(level, &settings, &BTreeSet::new()));
        let lane = |spec| LanguagePool {
            spec,
            found: OnceCell::new(),
            pools: JailSize::ALL.map(|_| Mutex::new(PoolState::Unused)),
        };
        let lanes = LANGUAGES.each_ref().map(lane);
        let (trees, metrics) = Default::default();
        Arc::new(Self { settings, jails, lanes, trees, metrics })
    }

    /// Whether programs can use the interpreters and packages that the settings name.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn check_settings(&self) -> Result<(), String> {
        self.jails.check(&self.settings)
    }

    /// Whether programs can reach an interpreter.
    ///
    /// # Errors
    /// A sentence with what is in the way.
    pub fn check_interpreter(&self, interpreter: &Path) -> Result<(), String> {
        self.jails.check_interpreter(interpreter)
    }

    /// Looks for Python and fills its pool in the background, so that the first run need not wait.
    pub fn warm_up(self: &Arc<Self>) {
        let sandbox = Arc::clone(self);
        tokio::spawn(async move {
            let lane = &sandbox.lanes[0];
            match sandbox.interpreter(lane).await {
                Ok(found) => {
                    tracing::info!(python = %found.path.display(), "Python found");
                    sandbox.pool(lane, JailSize::Usual, found);
                }
                Err(error) => tracing::warn!(%error, "no Python: its programs will not run"),
            }
        });
    }

    /// Ends the waiting interpreters, closes the pools, and returns when no jail is left.
    pub async fn drained(&self) {
        for pool in self.lanes.iter().flat_map(|lane| &lane.pools) {
            *pool.lock() = PoolState::Closed;
        }
        self.jails.drained().await;
    }

    /// The metrics of its pools.
    pub(super) fn metrics(&self) -> &PoolMetrics {
        &self.metrics
    }

    async fn interpreter<'a>(
        &self,
        lane: &'a LanguagePool,
    ) -> Result<&'a FoundInterpreter, SandboxError> {
        let named = self.settings.interpreters.get(lane.spec.name).map(PathBuf::as_path);
        let search_path = self.settings.search_path.as_deref();
        lane.found
            .get_or_try_init(|| interpreter::find_interpreter(lane.spec, named, search_path))
            .await
    }

    fn pool(
        &self,
        lane: &LanguagePool,
        size: JailSize,
        found: &FoundInterpreter,
    ) -> Option<Arc<Pool>> {
        let mut state = lane.pools[size as usize].lock();
        if matches!(*state, PoolState::Unused) && self.settings.pool_members > 0 {
            let wanted = PoolSpec {
                spec: lane.spec,
                found: found.clone(),
                size,
                members: self.settings.pool_members,
                age_max: self.settings.pool_age_max,
            };
            let pool = Pool::start(Arc::clone(&self.jails), wanted, self.metrics.clone());
            *state = PoolState::Open(Arc::new(pool));
        }
        match &*state {
            PoolState::Open(pool) => Some(Arc::clone(pool)),
            PoolState::Unused | PoolState::Closed => None,
        }
    }

    /// A jail for one run: one that waits, or a new one.
    async fn member(
        &self,
        lane: &LanguagePool,
        size: JailSize,
        found: &FoundInterpreter,
    ) -> Result<JailHandle, SandboxError> {
        let waiting = match self.pool(lane, size, found) {
            Some(pool) => {
                let member = pool.acquire().await;
                let counter =
                    if member.is_some() { &self.metrics.hits } else { &self.metrics.misses };
                counter.inc();
                member
            }
            None => None,
        };
        match waiting {
            Some(member) => Ok(member),
            // Only an interpreter that is told where its workspace is looks for modules there.
            None => self.jails.make(Some((lane.spec, found)), size, size == JailSize::Large).await,
        }
    }

    fn lane(&self, language: &str) -> Option<&LanguagePool> {
        let spec = LanguageSpec::of(language)?;
        self.lanes.iter().find(|lane| lane.spec.name == spec.name)
    }
}

#[async_trait::async_trait]
impl Sandbox for JailSandbox {
    fn isolation(&self) -> Isolation {
        self.jails.isolation()
    }

    async fn languages(&self) -> Vec<Language> {
        let mut languages = Vec::new();
        for lane in &self.lanes {
            if let Ok(found) = self.interpreter(lane).await {
                languages.push(lane.spec.describe(found.clone()));
            }
        }
        languages
    }

    fn supports(&self, language: &str) -> bool {
        self.lane(language).is_some()
    }

    fn check(&self, program: &Program) -> Result<(), SandboxError> {
        self.settings.limits.check(program)?;
        let size = JailSize::of(program, &self.settings.limits);
        self.jails.box_limits(size).map_or(Ok(()), |limits| limits.check_box(program))
    }

    fn is_repeatable(&self) -> bool {
        self.settings.repeat_unknown
    }

    async fn run(&self, program: Program) -> Result<ProgramOutcome, SandboxError> {
        let Some(lane) = self.lane(&program.language) else {
            return Err(SandboxError::UnsupportedLanguage(program.language));
        };
        self.check(&program)?;
        let found = self.interpreter(lane).await?;
        // Before a jail is taken: what is missing costs none.
        let workspace = match &program.workspace {
            Some(workspace) => Some(PackedWorkspace::load(workspace, &self.trees).await?),
            None => None,
        };
        let size = JailSize::of(&program, &self.settings.limits);
        let mut member = self.member(lane, size, found).await?;
        let file = lane.spec.file_beside(program.files.iter().map(|file| file.name.as_str()));
        let (mut asker, answer) = oneshot::channel();
        // A run belongs to a task: when its future is dropped, its jail ends at once.
        tokio::spawn(async move {
            tokio::select! {
                ran = member.run(program, file, workspace) => {
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
