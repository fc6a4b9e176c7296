//! The goals of one `run`, from their request to their answer.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    io::IsTerminal as _,
    time::Duration,
};

use ai_factory_actors::session::story;
use ai_factory_ports::bus::{Headers, Message, Subscription, header};
use ai_factory_schemas::{
    answer::{GoalAnswer, SessionAnswer, SessionPending, SessionStatusAnswer, StreamPart},
    envelope::Recorded,
    event::Event,
    id::{Category, CommandId, RequestId, SessionId, StreamId},
    plan::TaskType,
    problem::Problem,
    request::{Goal, SessionSelector},
    session::{Ingress, SessionEnd, SessionEvent, SessionStatus},
    subject::operation,
    text::BlobHash,
    workspace::WorkspaceFile,
};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::{REQUEST_MS_MAX, goal_input::GoalInput};
use crate::{
    cli::{
        ending::{Interrupts, unless_interrupted},
        exit::{CommandError, Exit},
        files::{
            arguments::GoalWorkspace,
            changes,
            out_directory::OutDirectory,
            recorded::{self, RecordedFiles},
            write_out,
        },
        flag_words,
        follow::{self, RecordedEvents},
        live_text::SpokenLines,
        narrate::end_word,
        output::Output,
        pending,
        progress::Progress,
        session_lookup,
        silence::{self, NO_OUTPUT, Silence, StepEnd},
        text::{one_line, short},
    },
    config::Settings,
    services::AnswerLimits,
    wiring::Factory,
};

/// Parts of what models say that wait for the terminal; further ones are not shown.
const PARTS_WAITING_MAX: usize = 4_096;
/// The longest that the answer of a session with a model is waited for.
const MODEL_ANSWER_MAX: Duration = Duration::from_hours(24 * 365);
/// Length of a goal in its heading, in characters.
const HEADING_CHARS_MAX: usize = 60;

/// A submitted goal.
struct RequestedGoal {
    /// Prefix of its progress lines; empty for a single goal.
    name: String,
    number: usize,
    request: RequestId,
    key: CommandId,
    /// Whether the key was given, so that it may have been used before.
    is_keyed: bool,
    body: Goal,
}

/// The goals of one `run`.
pub(super) struct GoalBatch<'a> {
    factory: &'a Factory,
    settings: &'a Settings,
    several: bool,
    waiting: VecDeque<RequestedGoal>,
    /// Keys of unanswered goals, by number.
    under_way: HashMap<usize, CommandId>,
    /// Prefixes of progress lines, by request.
    names: HashMap<RequestId, String>,
    /// Prefixes by session, once it is known.
    sessions: HashMap<Uuid, String>,
    /// Requests whose session was named.
    named: HashSet<RequestId>,
    exit: Exit,
    nobody_reads: bool,
    /// The trace of the command.
    pub(super) traceparent: Option<&'a str>,
    /// The hashes of what went in, by path.
    came_in: BTreeMap<String, BlobHash>,
    /// Where changed files are written.
    pub(super) out: Option<&'a OutDirectory>,
    /// Whether questions are put at the prompt.
    pub(super) is_asked_here: bool,
    /// Sessions of this batch that wait for somebody.
    left_waiting: HashSet<SessionId>,
    /// What models say, by session.
    live: HashMap<Uuid, SpokenLines>,
}

/// What a goal of the batch waits for.
type Awaited<'a> = BoxFuture<'a, (RequestedGoal, Arrived)>;

/// What came for a goal.
enum Arrived {
    /// Its answer.
    Answer(Result<GoalAnswer, Problem>),
    /// What was typed for its question.
    Typed(Box<SessionPending>, Option<String>),
}

impl<'a> GoalBatch<'a> {
    /// The goals, not yet handed in; `terms` are those of a model.
    pub(super) fn new(
        factory: &'a Factory,
        settings: &'a Settings,
        goals: Vec<GoalInput>,
        (task_type, workspace): (TaskType, &GoalWorkspace),
        terms: impl Fn(Goal) -> Goal,
    ) -> Self {
        let several = goals.len() > 1;
        let waiting: VecDeque<_> = goals
            .into_iter()
            .zip(1..)
            .map(|(wanted, number)| {
                let id = factory.ids.new_id();
                RequestedGoal {
                    name: if several { format!("[{number}] ") } else { String::new() },
                    number,
                    request: id.into(),
                    is_keyed: wanted.key.is_some(),
                    key: wanted.key.unwrap_or_else(|| id.into()),
                    body: terms(workspace.goal(wanted.goal, wanted.task_type.unwrap_or(task_type))),
                }
            })
            .collect();
        Self {
            factory,
            settings,
            several,
            names: waiting.iter().map(|a| (a.request.clone(), a.name.clone())).collect(),
            waiting,
            under_way: HashMap::new(),
            sessions: HashMap::new(),
            named: HashSet::new(),
            exit: Exit::DONE,
            nobody_reads: false,
            traceparent: None,
            came_in: workspace.hashes(),
            out: None,
            is_asked_here: false,
            left_waiting: HashSet::new(),
            live: HashMap::new(),
        }
    }

    /// Hands the goals in, and shows each up to its end or its wait for somebody.
    pub(super) async fn run(mut self, output: &mut Output) -> Result<Exit, CommandError> {
        let mut interrupts = Interrupts::listen();
        let mut events = RecordedEvents::of(self.factory);
        self.note_known(output).await?;
        let mut progress = Progress::new(output);
        let mut answers: FuturesUnordered<Awaited<'a>> = FuturesUnordered::new();
        let mut spoken = self.spoken(output).await?;
        let mut given_up_at: Option<Instant> = None;
        loop {
            while answers.len() < self.settings.sessions_max
                && let Some(asked) = self.waiting.pop_front()
            {
                self.under_way.insert(asked.number, asked.key.clone());
                answers.push(self.asked(asked));
            }
            progress.under_way(answers.len());
            if answers.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = interrupts.next() => {
                    if given_up_at.is_some() {
                        return Err(CommandError::interrupted());
                    }
                    let wait = Duration::from_millis(self.settings.shutdown_ms_max);
                    given_up_at = Some(Instant::now() + wait);
                    progress.line(output, "cancelling; press Ctrl-C again to leave at once");
                    self.cancel().await;
                }
                () = events.changed() => {
                    events.each(|recorded| self.show(&mut progress, output, recorded)).await?;
                }
                Some((asked, arrived)) = answers.next() => {
                    // The answer is on disk: the session's whole story precedes its end.
                    events.each(|recorded| self.show(&mut progress, output, recorded)).await?;
                    match self.arrived(&mut progress, output, asked, arrived).await? {
                        Some(awaited) if given_up_at.is_none() => answers.push(awaited),
                        _ => {}
                    }
                }
                Some(part) = heard(&mut spoken) => self.say(&progress, output, &part),
                () = at(given_up_at) => break,
            }
        }
        drop(progress);
        if given_up_at.is_some() {
            return Err(CommandError::interrupted());
        }
        // Sessions that were interrupted by a crash were resumed with this factory, and must not be
        // cut off by its end.
        let unfinished = self.unfinished().await?;
        if !unfinished.is_empty() {
            output.note(&format!("unfinished from earlier: {}; finishing them", unfinished.len()));
            let finishing = follow::until_ended(self.factory, output, events, &unfinished);
            for row in unless_interrupted(finishing).await? {
                output.note(&follow::ending(&row));
            }
        }
        Ok(self.exit)
    }

    /// The open sessions that somebody works on: not those that wait for a person or a budget.
    async fn unfinished(&self) -> Result<Vec<SessionId>, CommandError> {
        let mut unfinished = Vec::new();
        for id in self.factory.views.open_sessions().await? {
            let Some(row) = self.factory.views.session(id).await? else { continue };
            let row = session_lookup::exact(&*self.factory.journal, row).await?;
            let waits = row.budget.is_some() && row.status.is_waiting();
            if !waits && !self.left_waiting.contains(&id) {
                unfinished.push(id);
            }
        }
        Ok(unfinished)
    }

    /// Names the sessions that were opened under one of the keys earlier. The progress of open ones
    /// is shown.
    async fn note_known(&mut self, output: &Output) -> Result<(), CommandError> {
        for asked in &self.waiting {
            if asked.is_keyed
                && let Some((_, appended)) = self.factory.journal.command(&asked.key).await?
                && appended.stream.category == Category::Session
            {
                let id = appended.stream.id;
                output.note(&already_open(&asked.name, id));
                self.named.insert(asked.request.clone());
                self.sessions.insert(id, asked.name.clone());
            }
        }
        Ok(())
    }

    fn show(&mut self, progress: &mut Progress, output: &Output, recorded: &Recorded) {
        if let Event::Session(SessionEvent::Opened(opened)) = &recorded.event
            && let Some(name) = self.names.get(&opened.request_id)
        {
            let id = recorded.stream.id;
            progress.line(output, &format!("{name}session {id} opened"));
            self.sessions.insert(id, name.clone());
            self.named.insert(opened.request_id.clone());
            return;
        }
        let session = recorded.trail.correlation.unwrap_or(recorded.stream.id);
        let Some(name) = self.sessions.get(&session) else { return };
        match &recorded.event {
            // Its end is reported with its answer.
            Event::Session(SessionEvent::Concluded(_)) => {}
            event => progress.event(output, name, event),
        }
    }

    /// The text for a session without output.
    async fn silence(&self, answer: &SessionAnswer) -> Result<Option<Silence>, CommandError> {
        if answer.result != NO_OUTPUT || answer.model.is_some() {
            return Ok(None);
        }
        let folded = story::fold(&*self.factory.journal, answer.session_id).await?;
        let events = folded.iter().flat_map(|folded| &folded.recorded);
        Ok(Some(Silence::of(&answer.plan.plan, events.filter_map(StepEnd::of_event))))
    }

    /// Cancels the open sessions and submits nothing more.
    async fn cancel(&mut self) {
        self.waiting.clear();
        let wait = Duration::from_millis(REQUEST_MS_MAX.min(self.settings.shutdown_ms_max));
        let factory = self.factory;
        let told = self.under_way.values().map(|key| {
            let which = SessionSelector::key(key.clone());
            async move {
                let cancel = operation::SUPERVISOR_CANCEL;
                factory.call::<SessionStatusAnswer>(cancel, &which, Headers::default(), wait).await
            }
        });
        // A session that ended meanwhile need not be cancelled; the refusal is ignored.
        join_all(told).await;
    }

    /// Asks for the answer to a goal.
    fn asked(&self, asked: RequestedGoal) -> Awaited<'a> {
        let (factory, settings, traceparent) = (self.factory, self.settings, self.traceparent);
        async move {
            let (asked, answer) = ask(factory, settings, traceparent, asked).await;
            (asked, Arrived::Answer(answer))
        }
        .boxed()
    }

    /// Takes what came for a goal; returns what it waits for next, if it is not done with.
    async fn arrived(
        &mut self,
        progress: &mut Progress,
        output: &mut Output,
        asked: RequestedGoal,
        arrived: Arrived,
    ) -> Result<Option<Awaited<'a>>, CommandError> {
        if matches!(arrived, Arrived::Typed(..)) {
            progress.typed(output);
        }
        match arrived {
            Arrived::Answer(Ok(GoalAnswer::Pending(pending))) => {
                pending::tell(progress, output, &asked.name, &pending);
                if pending.question.is_some() && self.is_asked_here {
                    progress.prompt();
                    let typed = async move {
                        let typed = pending::read_line().await;
                        (asked, Arrived::Typed(pending, typed))
                    };
                    return Ok(Some(typed.boxed()));
                }
                self.leave_waiting(output, &asked, &pending)?;
            }
            Arrived::Typed(pending, Some(text)) => {
                let Some(question) = &pending.question else { return Ok(None) };
                match pending::answer(self.factory, &pending, question, text).await {
                    Ok(()) => return Ok(Some(self.asked(asked))),
                    Err(problem) => self.refused(progress, output, &asked, &problem),
                }
            }
            Arrived::Typed(pending, None) => self.leave_waiting(output, &asked, &pending)?,
            Arrived::Answer(Ok(GoalAnswer::Concluded(answer))) => {
                self.under_way.remove(&asked.number);
                self.handle_answer(progress, output, &asked, *answer).await?;
            }
            Arrived::Answer(Err(problem)) => {
                self.under_way.remove(&asked.number);
                self.refused(progress, output, &asked, &problem);
            }
        }
        Ok(None)
    }

    /// Leaves a session that waits for somebody: nothing of it is lost.
    fn leave_waiting(
        &mut self,
        output: &mut Output,
        asked: &RequestedGoal,
        pending: &SessionPending,
    ) -> Result<(), CommandError> {
        self.under_way.remove(&asked.number);
        self.left_waiting.insert(pending.session_id);
        self.exit = self.exit.and(Exit::WAITING);
        if output.json {
            output.json(pending)?;
        }
        Ok(())
    }

    fn refused(
        &mut self,
        progress: &Progress,
        output: &Output,
        asked: &RequestedGoal,
        problem: &Problem,
    ) {
        let usage = (400..500).contains(&problem.status);
        self.exit = self.exit.and(if usage { Exit::USAGE } else { Exit::FAILED });
        let sentence = format!("{}{}", asked.name, flag_words::sentence(problem));
        progress.aside(|| output.error(&sentence));
    }

    /// What models say, where somebody sees it.
    async fn spoken(&self, output: &Output) -> Result<Option<Subscription>, CommandError> {
        if output.quiet || output.json || !std::io::stderr().is_terminal() {
            return Ok(None);
        }
        let streams = self.factory.subjects.streams();
        let spoken = self.factory.bus.subscribe(streams, None, PARTS_WAITING_MAX).await;
        spoken.map(Some).map_err(CommandError::failed)
    }

    /// Shows a part of what a model says.
    fn say(&mut self, progress: &Progress, output: &Output, message: &Message) {
        let id = message.subject.as_str().rsplit('.').next().and_then(|id| id.parse().ok());
        let Some(id) = id else { return };
        let Ok(part) = serde_json::from_slice::<StreamPart>(&message.payload) else { return };
        let Some(name) = self.sessions.get(&id) else { return };
        let live = self.live.entry(id).or_default();
        for line in live.add(&part) {
            progress.line(output, &format!("{name}| {line}"));
        }
        match live.rest() {
            Some(rest) => progress.doing(&format!("{name}| {rest}")),
            None => progress.idle(),
        }
    }

    async fn handle_answer(
        &mut self,
        progress: &Progress,
        output: &mut Output,
        asked: &RequestedGoal,
        answer: SessionAnswer,
    ) -> Result<(), CommandError> {
        if answer.status != SessionStatus::Success {
            self.exit = self.exit.and(Exit::FAILED);
        }
        if !self.named.contains(&asked.request) {
            progress.line(output, &already_open(&asked.name, answer.session_id.0));
        }
        let silence = self.silence(&answer).await?;
        let more = match (&answer.reason, &silence) {
            (Some(reason), _) => format!(", {}", short(reason, 200)),
            (None, Some(Silence::NothingRan(why))) => format!("; {why}"),
            (None, _) => String::new(),
        };
        let (name, end, status) = (&asked.name, end_word(answer.end), answer.status.as_str());
        progress.line(output, &format!("{name}{end}: {status}{more}"));
        if answer.status != SessionStatus::Success {
            let id = answer.session_id;
            progress.line(output, &format!("{}`ai-factory show {id}` tells more", asked.name));
        }
        // What is not among the results is told on standard error, whatever is shown there.
        if let (true, Some(reason)) = (output.quiet, own_reason(&answer)) {
            progress.aside(|| output.error(&format!("{name}{}", one_line(reason))));
        }
        if !self.nobody_reads {
            let text = silence::shown(&answer, silence.as_ref());
            let files = self.told_files(&answer);
            let printed =
                progress.aside(|| print(output, asked, &answer, &text, &files, self.several));
            match printed.map_err(CommandError::from) {
                // The sessions continue even if nobody reads the output.
                Err(CommandError::ClosedPipe) => self.nobody_reads = true,
                other => other?,
            }
        }
        self.write_out(progress, output, &answer).await
    }

    /// The changed files and the check's outcome, in lines.
    fn told_files(&self, answer: &SessionAnswer) -> Vec<String> {
        changes::of_answer(answer, |path| self.came_in.contains_key(path))
    }

    /// Writes changed files below the directory of `--out`.
    async fn write_out(
        &mut self,
        progress: &Progress,
        output: &Output,
        answer: &SessionAnswer,
    ) -> Result<(), CommandError> {
        let Some(out) = self.out else { return Ok(()) };
        let journal = &*self.factory.journal;
        // The answer names only the first changes.
        let records = journal.load(StreamId::from(answer.session_id), 0).await?;
        let Some(files) = RecordedFiles::load(journal, &records).await? else {
            let id = answer.session_id;
            let told = format!("nothing to write: session {id} was opened before, without --out");
            progress.aside(|| output.note(&told));
            return Ok(());
        };
        let content = async |_: &str, file: WorkspaceFile| recorded::blob(journal, file.blob).await;
        let (changes, protect) = (files.tree.changes(), &files.protect);
        let written = write_out::write_out(out, changes, protect, &self.came_in, content).await?;
        let exit = progress.aside(|| written.report(output, out.path()));
        self.exit = self.exit.and(exit);
        Ok(())
    }
}

/// Why a session ended before it could be decided whether its goal is done.
pub(super) fn own_reason(answer: &SessionAnswer) -> Option<&str> {
    let is_own = matches!(answer.end, SessionEnd::Failed | SessionEnd::Expired);
    answer.reason.as_deref().filter(|_| is_own)
}

/// The line for a goal whose session exists already.
fn already_open(name: &str, id: Uuid) -> String {
    format!("{name}session {id}, opened under this key before")
}

fn print(
    output: &mut Output,
    asked: &RequestedGoal,
    answer: &SessionAnswer,
    text: &str,
    files: &[String],
    several: bool,
) -> std::io::Result<()> {
    if output.json {
        output.json(answer)?;
    } else {
        if several {
            let status = output.status(answer.status.as_str());
            let goal = short(&asked.body.goal, HEADING_CHARS_MAX);
            output.line(&format!("== [{}] {goal}: {status}", asked.number))?;
        }
        output.text(text)?;
        for line in files {
            output.text(line)?;
        }
    }
    output.flush()
}

/// Submits a goal, and retries while the factory has no capacity for it.
async fn ask(
    factory: &Factory,
    settings: &Settings,
    traceparent: Option<&str>,
    asked: RequestedGoal,
) -> (RequestedGoal, Result<GoalAnswer, Problem>) {
    // A session with a model has a time limit of its own, and waits for people.
    let wait = match settings.model.as_str() {
        "" => AnswerLimits::new(settings).session,
        _ => MODEL_ANSWER_MAX,
    };
    let mut headers = Headers::default();
    headers.set(header::REQUEST_ID, asked.request.as_str());
    headers.set(header::MESSAGE_ID, asked.key.as_str());
    headers.set(header::INGRESS, Ingress::Cli.as_str());
    if let Some(traceparent) = traceparent {
        headers.set(header::TRACEPARENT, traceparent);
    }
    loop {
        let answer =
            factory.call(operation::SUPERVISOR_RUN, &asked.body, headers.clone(), wait).await;
        match answer {
            // I-5: the key makes the retry safe.
            Err(Problem { status: 503, retry_after: Some(after), .. }) => sleep(after).await,
            answer => return (asked, answer),
        }
    }
}

/// The next part of what models say.
async fn heard(spoken: &mut Option<Subscription>) -> Option<Message> {
    match spoken {
        Some(spoken) => spoken.next().await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
