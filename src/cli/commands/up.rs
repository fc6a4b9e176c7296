//! `up`: runs the factory as a service until it is stopped.

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    bridge::{CONNECTIONS_MAX, SPARE_CONNECTIONS},
    cli::{
        context::{CommandContext, Served},
        ending::Interrupts,
        exit::{CommandError, Exit},
        output::Output,
    },
    http_server::HttpServer,
    wiring::UnfinishedSessions,
};

/// Open files the factory may need: every HTTP connection, and its own files, pipes and
/// connections. Many systems allow 1,024 unless a process asks for more.
const OPEN_FILES_MAX: u64 = (CONNECTIONS_MAX + SPARE_CONNECTIONS) as u64 + 1024;

/// Run as a service over HTTP and NATS until stopped.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory up
  curl -s http://127.0.0.1:8000/supervisor/run -H 'content-type: application/json' -d '{\"goal\": \"Greet\"}'
  ai-factory up --start-nats
  nats pub factory.goals 'Greet' ; nats sub 'factory.events.>'

It listens on this machine only; to listen elsewhere set a token (AI_FACTORY_TOKEN).")]
pub(crate) struct UpArgs {
    /// The NATS server to connect to, such as `nats://127.0.0.1:4222`
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// A context of the nats command line with the server and its credentials
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Start a nats-server, too, and stop it with the factory
    #[arg(long)]
    start_nats: bool,
    /// The address to listen on for HTTP [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// The port to listen on for HTTP; 0 lets the system choose [default: 8000]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
}

impl UpArgs {
    /// The flags that set a setting.
    pub(crate) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        [
            ("--nats", "nats", &self.nats),
            ("--context", "nats_context", &self.context),
            ("--host", "host", &self.host),
            ("--port", "port", &self.port),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| Some((flag, key, value.clone()?)))
        .collect()
    }

    /// Prints the addresses it listens on, and serves.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let serving = Served::Others { start_nats: self.start_nats };
        context.serve(
            output,
            UnfinishedSessions::Resume,
            serving,
            async |factory, connections, output, settings, mut endings| {
                allow_open_files();
                let mut interrupts = Interrupts::listen();
                let http = HttpServer::listen(settings).await?;
                output.note(&format!("listening on http://{}", http.address()));
                let told = async move {
                    tokio::select! {
                        () = interrupts.next() => {}
                        () = endings.signalled() => {}
                    }
                };
                http.serve(factory, connections, settings, told).await?;
                Ok(Exit::DONE)
            },
        )
    }
}

/// Raises the limit of open files. With a lower limit connections are closed earlier.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= OPEN_FILES_MAX) {
        return;
    }
    let wanted = limit.maximum.map_or(OPEN_FILES_MAX, |maximum| maximum.min(OPEN_FILES_MAX));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    if raised.is_err() || wanted < OPEN_FILES_MAX {
        tracing::warn!(
            allowed = wanted,
            wanted = OPEN_FILES_MAX,
            "few open files are allowed: raise the limit (`ulimit -n`) for many connections"
        );
    }
}
