//! Words that join the steps of a goal (`then`, `after that`, `danach`, `puis`), and the contexts
//! in which they mean something else (`back then`, `next week`, `if … then`).

/// Where a connector cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectorPosition {
    /// Anywhere.
    Anywhere,
    /// Only after a comma, a dash or an `and`, and at the beginning of a step.
    AfterPause,
    /// Nowhere, but it is removed from the beginning of a step if a comma follows.
    Opening,
}

/// A phrase that joins two steps.
#[derive(Debug)]
pub(super) struct Connector {
    /// In lower case, one space between words.
    pub(super) phrase: &'static str,
    /// Where it cuts.
    pub(super) place: ConnectorPosition,
    /// The step after it is the last one.
    pub(super) last: bool,
}

const fn anywhere(phrase: &'static str) -> Connector {
    Connector { phrase, place: ConnectorPosition::Anywhere, last: false }
}

const fn pause(phrase: &'static str) -> Connector {
    Connector { phrase, place: ConnectorPosition::AfterPause, last: false }
}

const fn last(phrase: &'static str) -> Connector {
    Connector { phrase, place: ConnectorPosition::AfterPause, last: true }
}

const fn opening(phrase: &'static str) -> Connector {
    Connector { phrase, place: ConnectorPosition::Opening, last: false }
}

const CONNECTORS: &[Connector] = &[
    // English
    anywhere("then"),
    anywhere("after that"),
    Connector { phrase: "finally", place: ConnectorPosition::Anywhere, last: true },
    pause("afterwards"),
    pause("afterward"),
    pause("subsequently"),
    pause("next"),
    pause("after this"),
    pause("after which"),
    pause("once done"),
    pause("when done"),
    pause("once that is done"),
    pause("when that is done"),
    pause("secondly"),
    pause("thirdly"),
    pause("fourthly"),
    last("lastly"),
    last("last of all"),
    opening("first"),
    opening("firstly"),
    opening("first of all"),
    opening("to begin with"),
    opening("to start with"),
    opening("second"),
    opening("third"),
    Connector { phrase: "last", place: ConnectorPosition::Opening, last: true },
    // German
    pause("dann"),
    pause("danach"),
    pause("anschließend"),
    pause("anschliessend"),
    last("schließlich"),
    last("zuletzt"),
    last("zum schluss"),
    opening("zuerst"),
    opening("erstens"),
    opening("zweitens"),
    opening("drittens"),
    // French
    pause("puis"),
    pause("ensuite"),
    pause("après cela"),
    pause("après ça"),
    last("enfin"),
    last("pour finir"),
    opening("d'abord"),
    opening("tout d'abord"),
    // Spanish and Portuguese
    pause("luego"),
    pause("después"),
    pause("después de eso"),
    pause("a continuación"),
    last("por último"),
    last("finalmente"),
    opening("primero"),
    pause("depois"),
    pause("depois disso"),
    pause("em seguida"),
    last("por fim"),
    opening("primeiro"),
    // Italian
    pause("poi"),
    pause("dopo"),
    pause("in seguito"),
    last("infine"),
    // Dutch
    pause("daarna"),
    pause("vervolgens"),
    last("tot slot"),
    last("ten slotte"),
    // Polish, Russian, Ukrainian
    pause("potem"),
    pause("następnie"),
    last("na koniec"),
    pause("затем"),
    pause("потом"),
    pause("после этого"),
    last("наконец"),
    opening("сначала"),
    pause("потім"),
    pause("після цього"),
    // Turkish
    pause("sonra"),
    pause("ardından"),
    pause("daha sonra"),
    last("son olarak"),
    // Korean
    anywhere("그리고 나서"),
    anywhere("그런 다음"),
    pause("그다음"),
    last("마지막으로"),
    // Arabic, Hebrew, Hindi
    anywhere("ثم"),
    last("وأخيرا"),
    last("وأخيرًا"),
    anywhere("ואז"),
    pause("אחר כך"),
    anywhere("और फिर"),
    pause("फिर"),
];

/// The most words in a connector's phrase.
pub(super) const PHRASE_WORDS_MAX: usize = 4;

/// The connector with this `phrase`, which is in lower case.
pub(super) fn connector(phrase: &str) -> Option<&'static Connector> {
    CONNECTORS.iter().find(|known| known.phrase == phrase)
}

/// Whether a connector begins with `word`.
pub(super) fn begins_connector(word: &str) -> bool {
    CONNECTORS.iter().any(|known| {
        known.phrase.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// Connectors of scripts without spaces between words; they cut after a comma.
const UNSPACED: &[(&str, bool)] = &[
    ("然后", false),
    ("然後", false),
    ("接着", false),
    ("接著", false),
    ("随后", false),
    ("之后", false),
    ("最后", true),
    ("最後に", true),
    ("最後", true),
    ("それから", false),
    ("その後", false),
    ("次に", false),
    ("そして", false),
    ("首先", false),
    ("まず", false),
];

/// The unspaced connector at the beginning of `text`, and whether it marks the last step.
pub(super) fn unspaced(text: &str) -> Option<(&'static str, bool)> {
    UNSPACED.iter().copied().find(|(phrase, _)| {
        // 最后一行 is the last line, 最后的 the last one.
        text.strip_prefix(phrase).is_some_and(|rest| !rest.starts_with(['一', '的', 'の']))
    })
}

/// Words that mean `and`.
pub(super) fn is_and(word: &str) -> bool {
    matches!(
        word,
        "and" | "&" | "und" | "et" | "y" | "e" | "en" | "и" | "а" | "і" | "i" | "ve" | "و"
    )
}

/// Words that open a condition, so that the next `then` belongs to it.
pub(super) fn is_if(word: &str) -> bool {
    matches!(
        word,
        "if" | "when"
            | "whenever"
            | "once"
            | "unless"
            | "wenn"
            | "falls"
            | "sobald"
            | "si"
            | "cuando"
            | "se"
            | "als"
            | "если"
            | "jeśli"
    )
}

/// Words after which `if` means `whether`.
pub(super) fn asks_whether(word: &str) -> bool {
    matches!(
        word,
        "check"
            | "checks"
            | "see"
            | "test"
            | "tests"
            | "verify"
            | "determine"
            | "decide"
            | "ask"
            | "know"
            | "tell"
            | "find"
            | "out"
            | "look"
            | "me"
            | "us"
            | "confirm"
            | "investigate"
            | "evaluate"
            | "assess"
            | "prüfe"
            | "schaue"
            | "whether"
            | "wonder"
            | "as"
            | "what"
            | "detect"
            | "learn"
            | "say"
            | "state"
    )
}

/// Words before `then` that give it another meaning: back then, since then, now and then.
pub(super) fn is_time_then(before: &str) -> bool {
    matches!(
        before,
        "back"
            | "since"
            | "until"
            | "till"
            | "by"
            | "before"
            | "from"
            | "even"
            | "only"
            | "just"
            | "right"
            | "the"
            | "what"
            | "but"
            | "than"
            | "was"
            | "were"
            | "around"
    )
}

/// Words that make `finally` an ordinary adverb, or the keyword.
pub(super) fn is_plain_finally(before: &str, after: &str) -> bool {
    matches!(
        before,
        "a" | "the"
            | "has"
            | "have"
            | "had"
            | "is"
            | "was"
            | "are"
            | "were"
            | "try"
            | "except"
            | "we"
            | "i"
            | "they"
            | "he"
            | "she"
            | "it"
            | "you"
            | "will"
            | "be"
            | "been"
            | "did"
    ) || matches!(after, "block" | "blocks" | "clause" | "clauses")
}

/// Nouns that `after that` can refer to: after that date.
pub(super) fn is_noun_of_that(word: &str) -> bool {
    matches!(
        word,
        "date"
            | "time"
            | "point"
            | "day"
            | "week"
            | "month"
            | "year"
            | "hour"
            | "meeting"
            | "event"
            | "line"
            | "step"
            | "is"
            | "was"
            | "has"
            | "release"
            | "version"
            | "commit"
            | "change"
    )
}

/// Words that `next` and `first` describe: next week, first quarter.
pub(super) fn is_described(word: &str) -> bool {
    matches!(
        word,
        "to" | "week"
            | "month"
            | "year"
            | "day"
            | "time"
            | "quarter"
            | "monday"
            | "tuesday"
            | "wednesday"
            | "thursday"
            | "friday"
            | "saturday"
            | "sunday"
            | "door"
            | "line"
            | "page"
            | "release"
            | "version"
    )
}

/// Words that begin an aside after a dash, which is no step.
pub(super) fn begins_aside(word: &str) -> bool {
    matches!(
        word,
        "which"
            | "who"
            | "whose"
            | "that"
            | "where"
            | "i.e"
            | "e.g"
            | "including"
            | "such"
            | "even"
            | "not"
            | "like"
            | "especially"
            | "a"
            | "an"
            | "the"
            | "with"
            | "without"
            | "but"
            | "or"
            | "if"
            | "because"
            | "since"
            | "it"
            | "this"
            | "these"
            | "they"
            | "one"
            | "for"
            | "namely"
            | "maybe"
            | "preferably"
            | "ideally"
            | "at"
            | "in"
            | "as"
            | "no"
            | "yes"
            | "is"
            | "are"
            | "so"
    )
}

/// Words for running a program.
pub(super) fn is_run(word: &str) -> bool {
    matches!(word, "run" | "execute" | "exec" | "evaluate" | "eval" | "try" | "call")
}

/// Prepositions: text that follows a code block and begins with one belongs to the block's step.
pub(super) fn is_preposition(word: &str) -> bool {
    matches!(
        word,
        "in" | "with"
            | "using"
            | "from"
            | "on"
            | "for"
            | "by"
            | "without"
            | "under"
            | "as"
            | "until"
            | "inside"
            | "via"
            | "at"
            | "into"
            | "against"
            | "within"
            | "every"
    )
}
