//! The words whose dot ends no sentence: `e.g.`, `Dr.`, `No. 5`, `z. B.`, `am 3. Mai`.

/// How a word with a dot behind it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// An ordinary word: the dot ends the sentence.
    Stop,
    /// An abbreviation that wants something behind it.
    Never,
    /// An abbreviation that may end a sentence: it does before a capital letter.
    BeforeCapital,
    /// An abbreviation before a number.
    BeforeWord,
}

/// How the dot behind `word` is read; `word` is in lower case and without that dot.
pub(super) fn read(word: &str) -> Dot {
    match word {
        "dr" | "mr" | "mrs" | "ms" | "prof" | "st" | "mt" | "ft" | "gen" | "col" | "sgt"
        | "capt" | "lt" | "rev" | "hon" | "gov" | "sen" | "rep" | "pres" | "vs" | "cf" | "ca"
        | "approx" | "resp" | "incl" | "excl" | "esp" | "viz" | "ibid" | "bzw" | "ggf" | "evtl"
        | "inkl" | "exkl" | "zzgl" | "hr" | "fr" | "vgl" | "ing" | "dipl" | "mme" | "mlle"
        | "sra" | "srta" | "ej" | "dra" | "av" | "ул" | "др" | "см" | "им" | "eg" | "ie"
        | "bspw" | "sog" | "ex" | "mgr" | "tzn" | "np" => Dot::Never,
        "no" | "nos" | "nr" | "fig" | "figs" | "p" | "pp" | "art" | "sec" | "ch" | "chap"
        | "vol" | "eq" | "jan" | "feb" | "mar" | "apr" | "jun" | "jul" | "aug" | "sep" | "sept"
        | "oct" | "okt" | "nov" | "dec" | "dez" | "abs" | "núm" | "n" | "col." | "ver" | "v"
        | "г" | "стр" => Dot::BeforeWord,
        "etc" | "inc" | "ltd" | "co" | "corp" | "jr" | "sr" | "al" | "usw" | "bros" | "gmbh"
        | "dept" | "univ" | "est" | "min" | "max" | "sek" | "std" | "ed" | "eds" | "str"
        | "ave" | "blvd" | "a.m" | "p.m" | "am" | "pm" | "ph.d" | "b.c" | "a.d" | "т.д" | "т.п"
        | "misc" => Dot::BeforeCapital,
        _ => Dot::Stop,
    }
}

/// Words before a single capital letter that make it a name's last part: plan B, vitamin C.
pub(super) fn is_named_by_letter(word: &str) -> bool {
    matches!(
        word,
        "plan"
            | "option"
            | "step"
            | "part"
            | "vitamin"
            | "grade"
            | "type"
            | "class"
            | "section"
            | "appendix"
            | "team"
            | "group"
            | "version"
            | "variant"
            | "phase"
            | "item"
            | "column"
            | "table"
            | "figure"
            | "point"
            | "task"
            | "in"
            | "and"
            | "or"
            | "do"
            | "to"
            | "language"
            | "with"
            | "of"
    )
}

/// German words before a number whose dot makes it an ordinal: am 3. Mai.
pub(super) fn wants_ordinal(word: &str) -> bool {
    matches!(
        word,
        "der"
            | "die"
            | "das"
            | "am"
            | "den"
            | "dem"
            | "im"
            | "des"
            | "zum"
            | "vom"
            | "zur"
            | "beim"
            | "jeder"
            | "jede"
    )
}
