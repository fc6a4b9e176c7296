//! Progress on standard error: a line per event, and on a terminal a status line below.

use std::{
    collections::{HashMap, HashSet},
    io,
    io::IsTerminal as _,
    time::Duration,
};

use ai_factory_schemas::{event::Event, run::RunEvent, session::SessionEvent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    diagnosis_words::brief,
    line_words::left_out,
    narrate::narrate,
    output::{Output, prompt},
};

/// Period of the spinner, in milliseconds.
const TURN_MS: u64 = 120;

/// Progress of one or more sessions, or of other work.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// Questions whose answers are being typed: until they are, nothing is drawn over them.
    questions: usize,
    under_way: usize,
    /// The names of planned sessions.
    planned: HashSet<String>,
    /// Recalled memories of sessions without a plan yet, by name.
    recalled: HashMap<String, String>,
    /// Why the last run of a session failed, by name, until the session reports its end.
    diagnoses: HashMap<String, String>,
}

impl Progress {
    /// Starts with nothing in progress. On a terminal a spinner shows activity.
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            bar: spinner(output),
            questions: 0,
            under_way: 0,
            planned: HashSet::new(),
            recalled: HashMap::new(),
            diagnoses: HashMap::new(),
        }
    }

    /// Shows an event; `name` identifies the session if there are several.
    ///
    /// A session requests its plan and memories at the same time. The plan is shown first,
    /// whichever came first.
    pub(crate) fn event(&mut self, output: &Output, name: &str, event: &Event) {
        // Sessions repeat what runs report: one line for each occurrence.
        if let Event::Run(RunEvent::Finished(finished)) = event
            && let Some(diagnosis) = &finished.end.diagnosis
        {
            self.diagnoses.insert(name.to_owned(), brief(diagnosis));
        }
        if let Event::Session(told) = event {
            let line = format!("{name}{}{}", narrate(event), self.why(name, told));
            match told {
                SessionEvent::Recalled(_) if !self.planned.contains(name) => {
                    self.recalled.insert(name.to_owned(), line);
                }
                SessionEvent::Planned(_) => {
                    self.line(output, &line);
                    self.planned.insert(name.to_owned());
                    self.tell_recalled(output, name);
                }
                _ => {
                    self.tell_recalled(output, name);
                    self.line(output, &line);
                    if let SessionEvent::StepFinished(finished) = told {
                        for line in left_out(finished.workspace.as_ref()) {
                            self.line(output, &format!("{name}  {line}"));
                        }
                    }
                }
            }
        }
        if let (Some(bar), Event::Session(SessionEvent::StepDispatched(step))) = (&self.bar, event)
        {
            bar.set_message(format!("{name}step {}", step.step));
        }
    }

    /// Why the run failed whose end the session reports, behind that report.
    fn why(&mut self, name: &str, told: &SessionEvent) -> String {
        match told {
            SessionEvent::StepFinished(_) => {
                self.diagnoses.remove(name).map_or_else(String::new, |why| format!(": {why}"))
            }
            // It tells why by itself.
            SessionEvent::CheckFinished(_) => {
                self.diagnoses.remove(name);
                String::new()
            }
            _ => String::new(),
        }
    }

    fn tell_recalled(&mut self, output: &Output, name: &str) {
        if let Some(line) = self.recalled.remove(name) {
            self.line(output, &line);
        }
    }

    /// A line of progress.
    pub(crate) fn line(&self, output: &Output, line: &str) {
        self.aside(|| output.note(line));
    }

    /// Shows the current activity on a terminal.
    pub(crate) fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Shows the number of open sessions.
    pub(crate) fn under_way(&mut self, count: usize) {
        let is_other = count != self.under_way;
        self.under_way = count;
        if is_other {
            self.idle();
        }
    }

    /// Shows no activity but the number of open sessions.
    pub(crate) fn idle(&self) {
        self.doing(&match self.under_way {
            1 => "1 session under way".to_owned(),
            n => format!("{n} sessions under way"),
        });
    }

    /// Shows a prompt behind a question, and no spinner until the answer is typed.
    pub(crate) fn prompt(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.questions += 1;
        prompt();
    }

    /// Goes on after an answer was typed.
    pub(crate) fn typed(&mut self, output: &Output) {
        self.questions = self.questions.saturating_sub(1);
        if self.questions == 0 && self.bar.is_none() {
            self.bar = spinner(output);
            self.idle();
        }
    }

    /// Writes while the spinner is hidden.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// A spinner, where a terminal shows it.
fn spinner(output: &Output) -> Option<ProgressBar> {
    if output.quiet || !io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = if output.colours_notes() {
        "{spinner:.green} {msg} ({elapsed})"
    } else {
        "{spinner} {msg} ({elapsed})"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(TURN_MS));
    Some(bar)
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
