//! A running factory, reached over HTTP or NATS.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use ai_factory_ports::{
    bus::{Bus as _, Headers},
    journal::RawRecord,
    request_reply,
};
use ai_factory_schemas::{
    answer::{SessionCalls, SessionRow, SessionStory},
    id::SessionRef,
    problem::Problem,
    request::{ListSessions, SessionSelector},
    session_files::{ListSessionFiles, SessionFiles},
    subject::{Operation, SubjectFilter, Subjects, operation},
};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::runtime::Builder;
use url::Url;

use super::{context::CommandContext, exit::CommandError, http_client::FactoryClient};
use crate::{
    clock::new_key,
    config::{Settings, nats_context_file},
    connections::nats_settings,
    nats::{EventHistory, NatsBus, NatsSettings, StreamsSettings},
    wiring,
};

/// Timeout for reading recorded data.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// Pause before a broken event stream is resumed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Capacity of the queue between NATS and the terminal, in events.
const EVENTS_WAITING_MAX: usize = 65_536;

/// Which factory.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct FactoryTarget {
    /// A running factory's address for HTTP
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The NATS server that the running factory is connected to
    #[arg(long, value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// A context of the nats command line with that NATS server
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

impl FactoryTarget {
    /// Whether a factory is named at all.
    pub(crate) fn is_named(&self) -> bool {
        self.server.is_some() || self.is_nats()
    }

    /// Whether it is reached over NATS.
    pub(crate) fn is_nats(&self) -> bool {
        self.nats.is_some() || self.context.is_some()
    }

    /// A client for it.
    pub(crate) fn open(&self, context: &CommandContext) -> Result<RemoteFactory, CommandError> {
        let settings = context.settings();
        if self.is_nats() {
            let nats = nats_of(context, self.nats.as_deref(), self.context.as_deref())?;
            return Ok(RemoteFactory::Nats {
                nats: Box::new(nats),
                settings: Box::new(settings.clone()),
            });
        }
        RemoteFactory::http(self.server.as_deref(), settings)
    }
}

/// A client of a running factory.
pub(crate) enum RemoteFactory {
    /// Over HTTP.
    Http(Box<FactoryClient>),
    /// Over NATS.
    Nats { nats: Box<NatsSettings>, settings: Box<Settings> },
}

impl RemoteFactory {
    fn http(server: Option<&str>, settings: &Settings) -> Result<Self, CommandError> {
        let base = match server {
            Some(url) if url.contains("://") => url.trim_end_matches('/').to_owned(),
            Some(authority) => format!("http://{}", authority.trim_end_matches('/')),
            None if settings.host.contains(':') => {
                format!("http://[{}]:{}", settings.host, settings.port)
            }
            None => format!("http://{}:{}", settings.host, settings.port),
        };
        Ok(Self::Http(Box::new(FactoryClient::new(base, settings.token.reveal())?)))
    }

    /// Sends a request with a body and waits for its answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &(impl Serialize + Sync),
        key: &str,
        wait: Duration,
    ) -> Result<T, CommandError> {
        Ok(self.try_ask(operation, body, key, wait)??)
    }

    /// The same for callers that handle a refusal.
    pub(crate) fn try_ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &(impl Serialize + Sync),
        key: &str,
        wait: Duration,
    ) -> Result<Result<T, Problem>, CommandError> {
        match self {
            Self::Http(client) => {
                let url = format!("{}/{}/{}", client.base(), operation.actor, operation.verb);
                let json = serde_json::to_vec(body).map_err(CommandError::failed)?;
                client.post(&url, key, json, wait)
            }
            Self::Nats { nats, settings } => over_nats(nats, async |bus| {
                let mut headers = Headers::default();
                headers.set(ai_factory_ports::bus::header::MESSAGE_ID, key);
                let subjects = settings.subjects();
                Ok(request_reply::call(&*bus, &subjects, operation, body, headers, wait).await)
            }),
        }
    }

    /// The story of the named session; the newest of several.
    pub(crate) fn session(&self, name: &SessionRef) -> Result<SessionStory, CommandError> {
        let which = SessionSelector { id: Some(name.clone()), ..SessionSelector::default() };
        let path = ["supervisor", "sessions", name.as_str()];
        self.look(operation::SUPERVISOR_SESSION, &path, &[], &which)
    }

    /// All files of the named session, page after page.
    pub(crate) fn session_files(&self, name: &SessionRef) -> Result<SessionFiles, CommandError> {
        let mut files = self.session_files_page(name, None)?;
        let id = files.session_id.into();
        while let Some(after) = files.next.take() {
            files.append(self.session_files_page(&id, Some(after))?);
        }
        Ok(files)
    }

    fn session_files_page(
        &self,
        name: &SessionRef,
        after: Option<String>,
    ) -> Result<SessionFiles, CommandError> {
        let path = ["supervisor", "sessions", name.as_str(), "files"];
        let query: Vec<_> = after.iter().map(|after| ("after", after.clone())).collect();
        let which = SessionSelector { id: Some(name.clone()), ..SessionSelector::default() };
        let asked = ListSessionFiles { which, after, limit: None };
        self.look(operation::SUPERVISOR_FILES, &path, &query, &asked)
    }

    /// The model calls of the named session.
    pub(crate) fn calls(&self, name: &SessionRef) -> Result<SessionCalls, CommandError> {
        let which = SessionSelector { id: Some(name.clone()), ..SessionSelector::default() };
        let path = ["supervisor", "sessions", name.as_str(), "calls"];
        self.look(operation::SUPERVISOR_CALLS, &path, &[], &which)
    }

    /// Changes the named session: by its path over HTTP, by the body over NATS.
    pub(crate) fn change<T: DeserializeOwned>(
        &self,
        operation: Operation,
        name: &SessionRef,
        body: &(impl Serialize + Sync),
    ) -> Result<T, CommandError> {
        match self {
            Self::Http(client) => {
                let path = ["supervisor", "sessions", name.as_str(), operation.verb];
                let url = address(client.base(), &path, &[])?;
                let json = serde_json::to_vec(body).map_err(CommandError::failed)?;
                Ok(client.post(url.as_str(), new_key().as_str(), json, LOOK_MAX)??)
            }
            Self::Nats { .. } => self.ask(operation, body, new_key().as_str(), LOOK_MAX),
        }
    }

    /// The newest sessions.
    pub(crate) fn sessions(&self, limit: u32) -> Result<Vec<SessionRow>, CommandError> {
        let newest = ListSessions { limit: Some(limit), ..ListSessions::default() };
        let query = [("limit", limit.to_string())];
        self.look(operation::SUPERVISOR_SESSIONS, &["supervisor", "sessions"], &query, &newest)
    }

    /// Reads recorded data, by path over HTTP and by body over NATS.
    fn look<T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &[&str],
        query: &[(&str, String)],
        body: &(impl Serialize + Sync),
    ) -> Result<T, CommandError> {
        match self {
            Self::Http(client) => {
                let url = address(client.base(), path, query)?;
                Ok(client.get(url.as_str(), LOOK_MAX)??)
            }
            Self::Nats { nats, settings } => over_nats(nats, async |bus| {
                let (subjects, headers) = (settings.subjects(), Headers::default());
                Ok(request_reply::call(&*bus, &subjects, operation, body, headers, LOOK_MAX)
                    .await?)
            }),
        }
    }

    /// Delivers events as they come; those after `after` first, if the transport allows it. Ends
    /// with an error, or when `each` says so.
    pub(crate) fn follow(
        &self,
        after: Option<u64>,
        filter: &SubjectFilter,
        mut each: impl FnMut(RawRecord) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        match self {
            Self::Http(client) => {
                let mut after = after;
                // The first connection must succeed; later failures are resumed at the point of the
                // break.
                let mut stream = client.events(after)?;
                loop {
                    pass_on(stream, &mut after, &mut each)?;
                    stream = loop {
                        sleep(AGAIN_AFTER);
                        if let Ok(again) = client.events(after) {
                            break again;
                        }
                    };
                }
            }
            Self::Nats { nats, settings } => over_nats(nats, async |bus| {
                if after.is_some() {
                    let stream = wiring::streams(settings).events;
                    let past = EventHistory::open(&bus, &stream, filter).await;
                    let mut events = past.map_err(CommandError::failed)?;
                    loop {
                        let bytes = events.next().await.map_err(CommandError::failed)?;
                        each(RawRecord { position: position(&bytes), bytes })?;
                    }
                }
                let events = bus.subscribe(filter.clone(), None, EVENTS_WAITING_MAX).await;
                let mut events = events.map_err(CommandError::failed)?;
                while let Some(message) = events.next().await {
                    let position = position(&message.payload);
                    each(RawRecord { position, bytes: message.payload })?;
                }
                Ok(())
            }),
        }
    }
}

/// The position in an event's envelope; 0 if it has none.
fn position(bytes: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct ProblemEnvelope {
        position: u64,
    }
    serde_json::from_slice::<ProblemEnvelope>(bytes).map_or(0, |envelope| envelope.position)
}

/// A URL below `base`, with path and query percent-encoded.
pub(crate) fn address(
    base: &str,
    path: &[&str],
    query: &[(&str, String)],
) -> Result<Url, CommandError> {
    let refused = || CommandError::usage(format_args!("`{base}` is not an HTTP address"));
    let mut url = Url::parse(base).map_err(|_| refused())?;
    url.path_segments_mut().map_err(|()| refused())?.pop_if_empty().extend(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Reads server-sent events (WHATWG HTML, section 9.2) until the stream breaks. Fails only if
/// `each` does.
fn pass_on(
    stream: impl Read,
    after: &mut Option<u64>,
    each: &mut impl FnMut(RawRecord) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let (mut position, mut data) = (None, None);
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        if let Some(id) = line.strip_prefix("id:") {
            position = id.trim().parse().ok();
        } else if let Some(text) = line.strip_prefix("data:") {
            data = Some(text.strip_prefix(' ').unwrap_or(text).to_owned());
        } else if line.is_empty()
            && let (Some(at), Some(text)) = (position.take(), data.take())
        {
            each(RawRecord { position: at, bytes: text.into_bytes().into() })?;
            *after = Some(at);
        }
    }
    Ok(())
}

/// The NATS server, for commands that need one.
#[derive(Args, Debug)]
pub(crate) struct NatsTarget {
    /// The NATS server, instead of the setting `nats`
    #[arg(long, global = true, value_name = "URL")]
    nats: Option<String>,
    /// A context of the nats command line, instead of the setting `nats`
    #[arg(long = "context", global = true, value_name = "NAME")]
    name: Option<String>,
}

impl NatsTarget {
    /// Runs work on the factory's streams there.
    pub(crate) fn over_streams<T>(
        &self,
        context: &CommandContext,
        work: impl AsyncFnOnce(&NatsBus, &StreamsSettings, &Subjects) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let settings = context.settings();
        let nats = nats_of(context, self.nats.as_deref(), self.name.as_deref())?;
        let (streams, subjects) = (wiring::streams(settings), settings.subjects());
        over_nats(&nats, async |bus| work(&bus, &streams, &subjects).await)
    }
}

/// The NATS server at `url`, that of a context, or the configured one.
fn nats_of(
    context: &CommandContext,
    url: Option<&str>,
    name: Option<&str>,
) -> Result<NatsSettings, CommandError> {
    let mut settings = context.settings().clone();
    if let Some(name) = name {
        settings.nats = String::new();
        settings.nats_context = nats_context_file(name, &context.environment);
    }
    let found = nats_settings(&settings, url, "ai-factory command line".to_owned());
    found.map_err(CommandError::usage)?.ok_or_else(|| {
        CommandError::usage(
            "which NATS server? name it with --nats URL, with --context NAME (a context of the nats command line that has a \
             url), or with the setting `nats`",
        )
    })
}

/// Runs work over a NATS server. An unreachable server is a failure; an invalid address or a
/// refused login is wrong use.
pub(crate) fn over_nats<T>(
    nats: &NatsSettings,
    work: impl AsyncFnOnce(Arc<NatsBus>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| CommandError::failed(format_args!("no threads: {error}")))?;
    let done = runtime.block_on(async {
        let bus = NatsBus::connect(nats).await.map_err(CommandError::usage)?;
        if !bus.is_connected() {
            let shown = &nats.shown;
            return Err(CommandError::failed(format_args!("no NATS server answers at {shown}")));
        }
        let done = work(Arc::clone(&bus)).await;
        bus.close().await;
        done
    });
    runtime.shutdown_background();
    done
}
