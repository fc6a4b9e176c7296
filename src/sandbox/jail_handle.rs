//! A jail as the factory sees it: one process and one socket.
//!
//! *Promises.* However a member ends, its processes are ended and its control group is removed.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ai_factory_ports::{
    sandbox::{Program, ProgramFile, ProgramOutcome, SandboxError},
    trace::is_traceparent,
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Child,
    runtime::Handle,
    sync::watch,
};

use super::{
    answer::ProgramEnd,
    cgroup::{Cgroup, Cgroups},
    directory, frames,
    jail::message::{FileHeader, JailExit, JailFailure, JailOrder, JailReply},
    jail_layers::JailLayers,
    layer::IsolationLayer,
    limits::RunLimits,
    settings::WALL_MS_MAX,
    workspace::PackedWorkspace,
};

/// Timeout for a jail's end after its socket is closed; longer than stage one allows init. One with
/// a directory on disk, which may hold much, has the guard's time in addition.
const END_MAX: Duration = Duration::from_secs(3);
/// The layer that is named when the failure was in none of the layers.
const JAIL: &str = "jail";

/// A jail that is ready for one program.
pub(super) struct JailHandle {
    pub(super) layers: Arc<JailLayers>,
    /// Those of the jail; the processor time is that of a program that names none.
    pub(super) limits: RunLimits,
    pub(super) guard_max: Duration,
    pub(super) cgroups: Option<Arc<Cgroups>>,
    /// Number of living jails of its factory; counts this one until its clean-up.
    pub(super) living: watch::Sender<usize>,
    /// Taken on drop.
    pub(super) parts: Option<JailProcess>,
    /// The layers that were verified to be in force.
    pub(super) active: Vec<IsolationLayer>,
    pub(super) born: Instant,
}

/// The process of a jail, and what belongs to it.
pub(super) struct JailProcess {
    pub(super) process: Child,
    pub(super) socket: UnixStream,
    pub(super) cgroup: Option<Cgroup>,
    /// Its directory on disk, which it removes.
    pub(super) directory: Option<PathBuf>,
}

impl JailHandle {
    /// Ready once the jail has sent an unsolicited message: then it is lost.
    pub(super) fn poll_lost(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(JailProcess { socket, .. }) = &self.parts else { return Poll::Ready(()) };
        loop {
            match socket.poll_read_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => {}
            }
            // A socket counts as readable until a read fails, so only a read shows its state.
            let tried = socket.try_read(&mut [0; 1]);
            if !tried.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Poll::Ready(());
            }
        }
    }

    /// The layers that were verified to be in force.
    pub(super) fn active(&self) -> &[IsolationLayer] {
        &self.active
    }

    /// Runs a program, in a file with the name `file`, until it ends or the jail's time is over.
    pub(super) async fn run(
        &mut self,
        program: Program,
        file: String,
        workspace: Option<PackedWorkspace>,
    ) -> Result<ProgramOutcome, SandboxError> {
        let wall_ms = u64::try_from(program.wall_max.as_millis()).unwrap_or(u64::MAX);
        let wall_ms = wall_ms.min(WALL_MS_MAX);
        let time_max = Duration::from_millis(wall_ms) + self.guard_max;
        let ended =
            tokio::time::timeout(time_max, self.converse(program, file, workspace, wall_ms)).await;
        match ended.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            Ok(answer) => answer,
            Err(error) => Err(broken(None, format!("the jail of the run was lost ({error})"))),
        }
    }

    async fn converse(
        &mut self,
        program: Program,
        program_file: String,
        workspace: Option<PackedWorkspace>,
        wall_ms: u64,
    ) -> io::Result<Result<ProgramOutcome, SandboxError>> {
        let stdin = program.stdin.unwrap_or_default();
        let cpu_max = program.cpu_max.unwrap_or(Duration::from_secs(self.limits.cpu_s));
        let header = |file: &ProgramFile| FileHeader {
            name: file.name.clone(),
            bytes: file.bytes.len() as u64,
        };
        let order = JailOrder {
            file: program_file,
            source_bytes: program.source.len() as u64,
            stdin_bytes: stdin.len() as u64,
            files: program.files.iter().map(header).collect(),
            return_files: program.return_files,
            workspace: workspace.as_ref().map(PackedWorkspace::list_bytes),
            wall_ms,
            cpu_ms: u64::try_from(cpu_max.as_millis()).unwrap_or(u64::MAX),
            traceparent: program.traceparent.filter(|text| is_traceparent(text)),
        };
        let mut message = frames::frame(&order)?;
        message.extend_from_slice(program.source.as_bytes());
        message.extend_from_slice(stdin.as_bytes());
        program.files.iter().for_each(|file| message.extend_from_slice(&file.bytes));
        // If the write fails, the jail has reported why, or is gone.
        let mut written = self.socket()?.write_all(&message).await;
        if let (Ok(()), Some(workspace)) = (&written, &workspace) {
            written = workspace.send(self.socket()?).await;
        }
        let ended = match self.answer().await {
            Ok(JailReply::Ended(ended)) => ended,
            Ok(JailReply::Failed(failure)) => return Ok(Err(failed(&failure))),
            Ok(JailReply::Ready { .. }) => return Err(io::Error::other("it was ready twice")),
            Err(error) => return Err(written.err().unwrap_or(error)),
        };
        let limits = RunLimits { cpu_s: cpu_max.as_secs().max(1), ..self.limits.clone() };
        let (output_max, files_max) = (limits.output_bytes, limits.files_bytes);
        let stdout = self.raw(ended.stdout.kept_bytes() as u64, output_max).await?;
        let stderr = self.raw(ended.stderr.kept_bytes() as u64, output_max).await?;
        let files = self.files(&ended, files_max).await?;
        let workspace = match (ended.workspace, &workspace) {
            (Some(bytes), Some(packed)) => Some(packed.receive(bytes, self.socket()?).await?),
            _ => None,
        };
        let isolation = self.layers.isolation(&self.active, &limits, Some(wall_ms));
        let end = ProgramEnd { how: ended.how, duration: Duration::from_micros(ended.duration_us) };
        let outcome = end.outcome([(&stdout, &ended.stdout), (&stderr, &ended.stderr)], isolation);
        Ok(Ok(ProgramOutcome { files, files_left_out: ended.files_left_out, workspace, ..outcome }))
    }

    async fn files(&mut self, ended: &JailExit, bytes_max: u64) -> io::Result<Vec<ProgramFile>> {
        let mut files = Vec::with_capacity(ended.files.len());
        for FileHeader { name, bytes } in &ended.files {
            let bytes = self.raw(*bytes, bytes_max).await?;
            files.push(ProgramFile { name: name.clone(), bytes });
        }
        Ok(files)
    }

    /// Reads raw bytes; a jail is not trusted to respect its limits.
    async fn raw(&mut self, bytes: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        if bytes > bytes_max {
            return Err(io::Error::other("it sends more than it may"));
        }
        let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        self.socket()?.read_exact(&mut content).await?;
        Ok(content)
    }

    /// The jail's next message.
    pub(super) async fn answer<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut length = [0; 4];
        self.socket()?.read_exact(&mut length).await?;
        let mut json = vec![0; frames::header_length(length)?];
        self.socket()?.read_exact(&mut json).await?;
        frames::header(&json)
    }

    fn socket(&mut self) -> io::Result<&mut UnixStream> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.parts.as_mut().map(|parts| &mut parts.socket).ok_or_else(gone)
    }
}

impl Drop for JailHandle {
    /// Closes the socket, which ends everything in the jail; the clean-up follows in a task.
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        let JailProcess { mut process, socket, cgroup, directory } = parts;
        drop(socket);
        let end_max = END_MAX + directory.as_ref().map_or(Duration::ZERO, |_| self.guard_max);
        let living = JailCount(self.living.clone());
        let cgroups = self.cgroups.clone();
        let clean_up = async move {
            if tokio::time::timeout(end_max, process.wait()).await.is_err() {
                let _ = process.start_kill();
                let _ = process.wait().await;
                if let Some(directory) = directory {
                    let cleared = tokio::task::spawn_blocking(move || directory::clear(&directory));
                    if let Ok(Err(error)) = cleared.await {
                        tracing::error!(%error, "the remains of a run cannot be removed");
                    }
                }
            }
            if let (Some(cgroups), Some(cgroup)) = (cgroups, cgroup) {
                cgroups.remove(cgroup);
            }
            drop(living);
        };
        // Without a runtime this process is about to end, and the socket is already closed.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(clean_up);
        }
    }
}

/// Counts a jail during its lifetime.
struct JailCount(watch::Sender<usize>);

impl Drop for JailCount {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// The port's error for a failure of a layer, or of none.
pub(super) fn broken(layer: Option<IsolationLayer>, message: impl Into<String>) -> SandboxError {
    SandboxError::Broken {
        layer: layer.map_or(JAIL, IsolationLayer::name),
        message: message.into(),
    }
}

/// The port's error, with the remedy where one is known.
pub(super) fn failed(failure: &JailFailure) -> SandboxError {
    let message = match failure.layer {
        Some(layer) => format!("{}; to turn it on: {}", failure.message, layer.remedy()),
        None => failure.message.clone(),
    };
    broken(failure.layer, message)
}
