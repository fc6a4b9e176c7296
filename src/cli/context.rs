//! The context of every command: settings, environment, and access to the factory.

use std::{ffi::OsString, io, sync::Arc, time::Duration};

use ai_factory_ports::trace::is_traceparent;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing::Instrument as _;

use super::{
    ending::{Endings, Interrupts},
    exit::CommandError,
    output::Output,
};
use crate::{
    config::{LoadedSettings, LogLevel, Settings},
    connections::Connections,
    telemetry::{self, LogFile, Telemetry},
    wiring::{Factory, Reader, UnfinishedSessions},
};

/// The context of a command.
pub(crate) struct CommandContext {
    /// The settings and their sources.
    pub(crate) loaded: LoadedSettings,
    /// The minimum level of log lines on the console.
    pub(crate) console: LogLevel,
    /// The environment at start.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The command's name.
    pub(crate) command: String,
    /// The umask at start: files of the user's own lack its bits.
    pub(crate) umask: u32,
}

impl CommandContext {
    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// An environment variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The trace that the command is part of, from the environment.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.variable("TRACEPARENT")?.to_str().filter(|text| is_traceparent(text))
    }

    fn telemetry(&self, output: &Output, file: LogFile) -> Result<Telemetry, CommandError> {
        let colour = output.colours_notes();
        telemetry::start(self.settings(), self.console, file, colour, &self.environment)
            .map_err(CommandError::usage)
    }

    /// The command's span, in the trace named by the environment.
    fn span(&self, telemetry: &Telemetry) -> tracing::Span {
        let span = tracing::info_span!(
            "command",
            otel.name = %format_args!("ai-factory {}", self.command),
            otel.status_code = tracing::field::Empty,
        );
        if let Some(traceparent) = self.traceparent() {
            telemetry.traces.adopt(&span, traceparent);
        }
        span
    }

    /// Reads while another process may have the journal open. Leaves no trace on disk.
    pub(crate) fn read<T>(
        &self,
        output: &mut Output,
        work: impl AsyncFnOnce(&Reader, &mut Output, &Settings) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        self.telemetry(output, LogFile::None)?;
        self.peek(output, work)
    }

    /// Reads before [`Self::work`].
    pub(crate) fn peek<T>(
        &self,
        output: &mut Output,
        work: impl AsyncFnOnce(&Reader, &mut Output, &Settings) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let runtime = started(Builder::new_current_thread().enable_all().build())?;
        let done = runtime.block_on(async {
            let reader = Reader::open(self.settings())?;
            work(&reader, output, self.settings()).await
        });
        runtime.shutdown_background();
        done
    }

    /// Opens the factory for writing, runs the work, and shuts down in order whatever the outcome.
    pub(crate) fn work<T>(
        &self,
        output: &mut Output,
        unfinished: UnfinishedSessions,
        work: impl AsyncFnOnce(&Factory, &mut Output, &Settings) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let work = async |factory: &Factory,
                          _: &Connections,
                          output: &mut Output,
                          settings: &Settings,
                          mut endings: Endings| {
            endings.unless_signalled(work(factory, output, settings), TOLD_TO_END).await
        };
        self.serve(output, unfinished, Served::Nobody, work)
    }

    /// The same with ingresses for other clients. Once there is a factory, the work itself handles
    /// termination signals.
    pub(crate) fn serve<T>(
        &self,
        output: &mut Output,
        unfinished: UnfinishedSessions,
        serving: Served,
        work: impl AsyncFnOnce(
            &Factory,
            &Connections,
            &mut Output,
            &Settings,
            Endings,
        ) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let telemetry = self.telemetry(output, LogFile::Written)?;
        let runtime = started(Builder::new_multi_thread().enable_all().build())?;
        let settings = self.settings();
        let done = runtime.block_on(async {
            // With SIGXFSZ handled, a file at its size limit is a failed write like any other
            // (EFBIG), not the end of the process.
            let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
            // From here on: a signal during the start must not look like a crash to the sessions
            // being resumed.
            let mut endings = Endings::listen();
            let traces = Arc::clone(&telemetry.traces);
            let mut connections = match serving {
                Served::Nobody => Connections::new(traces),
                Served::Others { start_nats } => {
                    let opening = async { Ok(Connections::open(settings, start_nats, traces).await?) };
                    Box::pin(endings.unless_signalled(opening, TOLD_TO_END)).await?
                }
            };
            connections.telemetry = telemetry.metrics.clone();
            let starting = async { Ok(Factory::start(settings, unfinished, &connections).await?) };
            let factory = match endings.unless_signalled(starting, TOLD_TO_END).await {
                Ok(factory) => factory,
                Err(failure) => {
                    connections.close().await;
                    return Err(failure);
                }
            };
            let span = self.span(&telemetry);
            let done = tokio::select! {
                biased;
                done = work(&factory, &connections, output, settings, endings).instrument(span.clone()) => done,
                reason = factory.stopped() => Err(CommandError::stopped(reason)),
            };
            if done.is_err() {
                span.record("otel.status_code", "ERROR");
            }
            drop(span);
            let mut interrupts = Interrupts::listen();
            let limit = Duration::from_millis(settings.shutdown_ms_max);
            let ending = async {
                let ended = factory.shutdown().await;
                connections.close().await;
                ended
            };
            let ended = tokio::select! {
                ended = timeout(limit, ending) => ended.unwrap_or_else(|_| {
                    Err(format!(
                        "shutting down took longer than `shutdown_ms_max` ({} ms); `ai-factory \
                         resume` finishes what is unfinished",
                        limit.as_millis()
                    ))
                }),
                // A second Ctrl-C leaves at once. Everything acknowledged is on disk.
                () = interrupts.next() => return Err(CommandError::interrupted()),
            };
            match (done, ended) {
                (Ok(_), Err(reason)) => Err(CommandError::stopped(reason)),
                (done, _) => done,
            }
        });
        // A thread that still blocks holds nothing that is not on disk.
        runtime.shutdown_timeout(Duration::from_millis(THREADS_MS_MAX));
        telemetry.shutdown();
        done
    }
}

/// The message after a termination signal.
const TOLD_TO_END: &str = "terminated: `ai-factory resume` finishes what is unfinished";

/// The clients that a command serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The command does one thing and ends.
    Nobody,
    /// Clients over the configured ingresses.
    Others {
        /// Whether a NATS server is started, too.
        start_nats: bool,
    },
}

/// Timeout for threads after an orderly shutdown, in milliseconds.
const THREADS_MS_MAX: u64 = 100;

fn started(runtime: io::Result<Runtime>) -> Result<Runtime, CommandError> {
    runtime
        .map_err(|error| CommandError::failed(format_args!("threads cannot be started: {error}")))
}
