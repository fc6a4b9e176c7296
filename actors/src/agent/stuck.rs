//! When a model is stuck: it does again what has failed.

use ai_factory_schemas::text::BlobHash;

use super::tool_names;

/// The same failing call, so often without a change of the workspace between, is a circle.
const SAME_CALL_TIMES: usize = 3;
/// Ends that were not accepted, so often without a change of the workspace between, whatever they
/// say.
const REFUSED_ENDS: usize = 3;
/// The same failure of the same code in a row.
const SAME_FAILURE_TIMES: usize = 2;
/// Two states in turns: A, B, A, B.
const ALTERNATING: usize = 4;
/// Answers in a row of which nothing was carried out.
const IDLE_ANSWERS_MAX: u32 = 3;

/// A tool call that was carried out, or an end that was declared and not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// The turn.
    pub turn: u32,
    /// The tool's name.
    pub name: String,
    /// Its name and arguments.
    pub fingerprint: BlobHash,
    /// Whether it failed.
    pub is_failed: bool,
    /// What names the failure of a program.
    pub failure: Option<BlobHash>,
    /// Whether it changed the workspace.
    pub has_changed: bool,
}

/// Why the model is stuck after the last of these deeds, if it is.
pub fn reason(deeds: &[Deed]) -> Option<String> {
    let last = deeds.last()?;
    if is_same_failure(deeds) {
        let name = &last.name;
        return Some(format!(
            "stuck: the same code failed the same way {SAME_FAILURE_TIMES} times in a row (`{name}`)"
        ));
    }
    if is_same_call(deeds, last) {
        let name = &last.name;
        return Some(format!(
            "stuck: the same call of `{name}` failed {SAME_CALL_TIMES} times, with nothing changed between"
        ));
    }
    if last.name == tool_names::FINISH && refused_ends(deeds) >= REFUSED_ENDS {
        return Some(format!(
            "stuck: the end was declared {REFUSED_ENDS} times and not accepted, with nothing changed between"
        ));
    }
    if is_alternating(deeds, |deed| Some((deed.fingerprint, deed.failure)))
        || (last.failure.is_some() && is_alternating(deeds, |deed| deed.failure))
    {
        return Some(format!(
            "stuck: it goes back and forth between two states, the last time with `{}`",
            last.name
        ));
    }
    None
}

/// Why a model is stuck that answers without doing anything.
pub fn idle(answers: u32) -> Option<String> {
    (answers >= IDLE_ANSWERS_MAX).then(|| {
        format!(
            "stuck: {answers} answers in a row were cut, refused or empty: raise \
             `model_max_output_tokens`, or word the goal in another way"
        )
    })
}

fn is_same_failure(deeds: &[Deed]) -> bool {
    let mut last = deeds.iter().rev().take(SAME_FAILURE_TIMES).map(|deed| deed.failure);
    let Some(Some(failure)) = last.next() else { return false };
    let same = last.filter(|earlier| *earlier == Some(failure)).count();
    same + 1 == SAME_FAILURE_TIMES
}

/// Whether `last` failed so often since another call changed the workspace.
fn is_same_call(deeds: &[Deed], last: &Deed) -> bool {
    let since = deeds
        .iter()
        .rev()
        .take_while(|deed| !deed.has_changed || deed.fingerprint == last.fingerprint);
    let same = since.filter(|deed| deed.is_failed && deed.fingerprint == last.fingerprint);
    last.is_failed && same.count() >= SAME_CALL_TIMES
}

/// Ends that were not accepted since the workspace was last changed.
fn refused_ends(deeds: &[Deed]) -> usize {
    let since = deeds.iter().rev().take_while(|deed| !deed.has_changed);
    since.filter(|deed| deed.is_failed && deed.name == tool_names::FINISH).count()
}

/// Whether the last states that `of` sees are A, B, A, B.
fn is_alternating<T: PartialEq>(deeds: &[Deed], of: impl Fn(&Deed) -> Option<T>) -> bool {
    let states: Vec<T> = deeds.iter().rev().filter_map(of).take(ALTERNATING).collect();
    matches!(&states[..], [b2, a2, b1, a1] if a1 == a2 && b1 == b2 && a1 != b1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(name: &str) -> Deed {
        Deed {
            turn: 1,
            name: name.to_owned(),
            fingerprint: BlobHash::of(name.as_bytes()),
            is_failed: false,
            failure: None,
            has_changed: false,
        }
    }

    fn failed(name: &str) -> Deed {
        Deed { is_failed: true, ..done(name) }
    }

    fn run(name: &str, failure: &str) -> Deed {
        Deed { failure: Some(BlobHash::of(failure.as_bytes())), ..failed(name) }
    }

    fn edit(name: &str) -> Deed {
        Deed { has_changed: true, ..done(name) }
    }

    #[track_caller]
    fn is_stuck(deeds: &[Deed], words: Option<&str>) {
        let told = reason(deeds);
        match words {
            Some(words) => assert!(told.as_ref().is_some_and(|it| it.contains(words)), "{told:?}"),
            None => assert_eq!(told, None),
        }
    }

    #[test]
    fn the_same_failing_call_three_times_is_a_circle_unless_something_changed() {
        let words = Some("the same call of `read` failed 3 times");
        is_stuck(&[failed("read"), failed("read")], None);
        is_stuck(&[failed("read"), done("list"), failed("read"), failed("read")], words);
        is_stuck(&[failed("read"), edit("write"), failed("read"), failed("read")], None);
        is_stuck(&[failed("read"), failed("read"), failed("read"), done("list")], None);
        let leaves = || Deed { has_changed: true, ..failed("make") };
        is_stuck(&[leaves(), leaves(), leaves()], Some("`make`"));
    }

    #[test]
    fn the_same_code_with_the_same_failure_twice_in_a_row_is_a_circle() {
        is_stuck(&[run("a", "1"), run("a", "1")], Some("the same code"));
        is_stuck(&[run("a", "1"), run("a", "2")], None);
        is_stuck(&[run("a", "1"), edit("b"), run("a", "1")], None);
    }

    #[test]
    fn an_end_that_is_not_accepted_three_times_is_a_circle_whatever_it_says() {
        let end = |result: &str| Deed {
            fingerprint: BlobHash::of(result.as_bytes()),
            ..failed(tool_names::FINISH)
        };
        let words = Some("declared 3 times and not accepted");
        is_stuck(&[end("a"), done("read"), end("b"), end("c")], words);
        is_stuck(&[end("a"), done("read"), end("b"), end("c"), done("read")], None);
        is_stuck(&[end("a"), edit("write"), end("b"), end("c")], None);
    }

    #[test]
    fn states_that_alternate_are_a_circle() {
        let words = Some("back and forth");
        is_stuck(&[edit("a"), edit("b"), edit("a"), edit("b")], words);
        is_stuck(&[edit("a"), edit("b"), edit("a"), edit("c")], None);
        let repairs = ["1", "2", "1", "2"];
        let deeds: Vec<_> =
            repairs.iter().flat_map(|way| [edit(&format!("e{way}")), run("t", way)]).collect();
        is_stuck(&deeds[..7], None);
        is_stuck(&deeds, words);
    }

    #[test]
    fn a_model_that_only_answers_nothing_is_stuck_after_three_times() {
        assert_eq!(idle(2), None);
        assert!(idle(3).is_some_and(|reason| reason.contains("`model_max_output_tokens`")));
    }
}
