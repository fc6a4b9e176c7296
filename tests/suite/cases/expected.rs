//! What each case must come to: how it ends, and what it must have said to prove that it ran.

/// What is expected of one case.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Whether a line that says so is put before the program: for those that say nothing
    /// themselves.
    pub(super) marked: bool,
    /// What may end it.
    pub(super) ended_by: &'static [&'static str],
    /// The exit code, where only one is right.
    pub(super) exit_code: Option<i32>,
    /// What it must print.
    pub(super) prints: Vec<String>,
    /// What it must say on standard error.
    pub(super) says: Vec<String>,
    /// The longest it may take, in milliseconds.
    pub(super) ms_max: u64,
    /// The names of the files that come back, where that is the point.
    pub(super) files: Option<Vec<&'static str>>,
    /// The names of those that do not, where that is the point.
    pub(super) left_out: Option<Vec<&'static str>>,
    /// Whether it may be refused as a request that is wrong.
    pub(super) may_be_refused: bool,
}

/// It runs to its end, successfully unless said otherwise.
pub(super) fn ends() -> Expected {
    Expected {
        marked: false,
        ended_by: &["exit"],
        exit_code: Some(0),
        prints: Vec::new(),
        says: Vec::new(),
        ms_max: u64::MAX,
        files: None,
        left_out: None,
        may_be_refused: false,
    }
}

/// It runs to its end and prints this.
pub(super) fn prints(text: &str) -> Expected {
    ends().prints(text)
}

/// It tries, and says that it was denied.
fn denied() -> Expected {
    prints("denied")
}

/// It fails with this on standard error.
fn fails(text: &str) -> Expected {
    ends().code(1).says(text)
}

/// One of these ends it, whatever the exit code; it says nothing, so it is marked.
pub(super) fn stopped_by(ended_by: &'static [&'static str]) -> Expected {
    Expected { marked: true, ended_by, exit_code: None, ..ends() }
}

/// A signal ends it.
fn signal(number: i32) -> Expected {
    Expected { ended_by: &["signal"], ..ends().code(128 + number) }
}

impl Expected {
    pub(super) fn code(self, code: i32) -> Self {
        Self { exit_code: Some(code), ..self }
    }

    pub(super) fn prints(mut self, text: &str) -> Self {
        self.prints.push(text.to_owned());
        self
    }

    pub(super) fn says(mut self, text: &str) -> Self {
        self.says.push(text.to_owned());
        self
    }

    pub(super) fn returns(self, files: &[&'static str]) -> Self {
        Self { files: Some(files.to_vec()), ..self }
    }

    pub(super) fn leaves_out(self, files: &[&'static str]) -> Self {
        Self { left_out: Some(files.to_vec()), ..self }
    }

    /// However it ends by itself.
    pub(super) fn any_code(self) -> Self {
        Self { exit_code: None, ..self }
    }

    fn marked(self) -> Self {
        Self { marked: true, ..self }
    }

    /// Whether the wall limit may be what ends it.
    pub(super) fn may_end_at_wall(&self) -> bool {
        self.ended_by.iter().any(|end| WALL.contains(end))
    }
}

const WALL: &[&str] = &["wall"];

/// What is expected of a given case.
pub(super) fn of(number: u32) -> Expected {
    match number {
        1 => stopped_by(&["wall", "cpu", "memory"]),
        2 => prints("limited True"),
        // Refused by the system for one process, or stopped for all of them together.
        4 => stopped_by(&["exit", "memory"]),
        5 => stopped_by(&["memory"]),
        10 | 11 | 100 => prints("limited"),
        14 | 41 => ends().any_code().marked(),
        16 => stopped_by(&["wall", "output", "cpu"]),
        17 => prints("zzzz"),
        22 => stopped_by(WALL).code(124).says("spin"),
        23 => stopped_by(WALL).code(124).says("<module>"),
        25 => stopped_by(WALL).code(124),
        // Long before the wall limit, at which a held output would be let go.
        26 => Expected { ms_max: 30_000, ..prints("main done") },
        28 => prints("cba"),
        31 => prints("scanned"),
        32 => prints("PATH"),
        43 => prints("clean"),
        44 => denied().prints("null").prints("urandom").prints("8"),
        56 => prints("5 b'hi\\n'").prints("[1, 2]"),
        // What lies in the service's directory is not there; had it run, it would have told of
        // root.
        58 | 71 => fails("FileNotFoundError").marked(),
        70 => prints("["),
        74 => ends().marked(),
        79 => ends().code(7).marked(),
        80 => ends().code(255).marked(),
        82 => signal(11).marked(),
        83 => signal(6).marked(),
        85 => signal(15).marked(),
        86 | 94 => fails("SyntaxError"),
        88 => ends().code(4).marked(),
        89 => fails("RecursionError"),
        91 => prints("a"),
        92 => Expected { may_be_refused: true, ..ends().any_code() },
        95 => prints("3\n4"),
        97 => ends().code(1).says("Error"),
        // Isolated, and the first place where modules are looked for is Python's own.
        101 => prints("1 /").prints(".zip\n"),
        103 => Expected { ended_by: &["memory", "signal", "exit"], ..stopped_by(&[]) },
        104 => stopped_by(&["wall", "cpu"]),
        106 => prints("42 hi"),
        107 => prints("3\n1024"),
        109 => signal(11),
        _ => denied(),
    }
}
