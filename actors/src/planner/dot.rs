//! Words whose dot ends no sentence: `e.g.`, `Dr.`, `No. 5`, `z. B.`, `am 3. Mai`.

/// The meaning of a dot after a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// An ordinary word: the dot ends the sentence.
    Stop,
    /// An abbreviation that must be followed by something.
    Never,
    /// An abbreviation that may end a sentence: it does before a capital letter.
    BeforeCapital,
    /// An abbreviation before a number.
    BeforeWord,
}

/// The meaning of the dot after `word`, which is in lower case and without that dot.
pub(super) fn read(word: &str) -> Dot {
    match word {
        "dr" | "mr" | "mrs" | "ms" | "prof" | "st" | "mt" | "ft" | "gen" | "col" | "sgt"
        | "capt" | "lt" | "rev" | "hon" | "gov" | "sen" | "rep" | "pres" | "vs" | "cf" | "ca"
        | "approx" | "resp" | "incl" | "excl" | "esp" | "viz" | "ibid" | "bzw" | "ggf" | "evtl"
        | "inkl" | "exkl" | "zzgl" | "hr" | "fr" | "vgl" | "ing" | "dipl" | "mme" | "mlle"
        | "sra" | "srta" | "ej" | "dra" | "av" | "ул" | "др" | "см" | "им" | "eg" | "ie"
        | "bspw" | "sog" | "ex" | "mgr" | "tzn" | "np" | "chr" => Dot::Never,
        "no" | "nos" | "nr" | "fig" | "figs" | "p" | "pp" | "art" | "sec" | "ch" | "chap"
        | "vol" | "eq" | "jan" | "feb" | "mar" | "apr" | "jun" | "jul" | "aug" | "sep" | "sept"
        | "oct" | "okt" | "nov" | "dec" | "dez" | "abs" | "núm" | "n" | "col." | "ver" | "v"
        | "г" | "стр" | "tab" | "abb" | "app" | "kap" | "bd" | "anh" | "ziff" | "рис" | "rys"
        | "cap" | "pág" | "pag" | "núms" | "tel" => Dot::BeforeWord,
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
            | "do"
            | "language"
    )
}

/// Words that may stand between two letters (from A to B), or before an initial (to J. Smith).
pub(super) fn joins_letters(word: &str) -> bool {
    matches!(word, "to" | "and" | "or" | "with" | "of")
}

/// Letters whose dot stands before a number: p. 12, S. 7, n. 3, v. 2.
pub(super) fn is_before_number(letter: char) -> bool {
    matches!(letter, 'p' | 's' | 'n' | 'v' | 'г')
}

/// The month, from 1, at the beginning of `text`, in languages with a dot after the day: 4. Juni.
///
/// `March` and `may` are left out: they are verbs as well, and English dates have no such dot.
pub(super) fn month(text: &str) -> Option<usize> {
    const MONTHS: [&str; 12] = [
        "jan januar jänner january januari janúar jaanuar tammikuuta ledna januára januarja siječnja",
        "feb februar feber february februari febrúar veebruar helmikuuta února februára februarja \
         veljače",
        "mär mrz märz marts mars märts maaliskuuta března marca ožujka",
        "apr april apríl aprill huhtikuuta dubna apríla aprila travnja",
        "mai maj mei maí toukokuuta května mája maja svibnja",
        "jun juni june júní juuni kesäkuuta června júna junija lipnja",
        "jul juli july júlí juuli heinäkuuta července júla julija srpnja",
        "aug august augusti ágúst elokuuta srpna augusta avgusta kolovoza",
        "sep sept september syyskuuta září septembra rujna",
        "okt oct oktober october október oktoober lokakuuta října októbra oktobra listopada",
        "nov november nóvember marraskuuta listopadu novembra studenoga",
        "dez dec dezember december desember detsember joulukuuta prosince decembra prosinca",
    ];
    let end = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    let word = text[..end].to_lowercase();
    let at = MONTHS.iter().position(|names| names.split(' ').any(|name| name == word))?;
    (!word.is_empty()).then_some(at + 1)
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
