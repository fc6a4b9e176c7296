//! Programs that mean harm and programs that mean well, run through the whole factory: the real
//! binary, asked over HTTP.
//!
//! Everything here happens twice over, as root and as an ordinary user, with interpreters that
//! start when they are needed (cold) and with those that wait (warm), and each time in a process
//! namespace of its own, so that a hole in the sandbox cannot end processes of the machine. A case
//! counts only with the proof that its program ran.

mod beside;
mod expected;
mod fixture;
mod inside;
mod layers;
mod load;
mod own;
mod provided;
mod reduced;
mod refused;
mod workspace;

use std::path::Path;

use self::{
    expected::Expected,
    fixture::{Stage, Start},
    inside::Who,
    provided::Case,
};

/// One test for each of root and user, cold and warm: `$body` is called inside.
macro_rules! everywhere {
    ($body:path: $($name:ident, $who:expr, $start:expr;)*) => {
        $(#[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            inside::run(test, $who, |dir| $body($who, $start, dir));
        })*
    };
}

everywhere! {
    given_cases:
    every_given_case_is_contained_as_root_cold, Who::Root, Start::Cold;
    every_given_case_is_contained_as_root_warm, Who::Root, Start::Warm;
    every_given_case_is_contained_as_a_user_cold, Who::User, Start::Cold;
    every_given_case_is_contained_as_a_user_warm, Who::User, Start::Warm;
}

everywhere! {
    own_cases:
    our_own_cases_are_contained_as_root_cold, Who::Root, Start::Cold;
    our_own_cases_are_contained_as_root_warm, Who::Root, Start::Warm;
    our_own_cases_are_contained_as_a_user_cold, Who::User, Start::Cold;
    our_own_cases_are_contained_as_a_user_warm, Who::User, Start::Warm;
}

everywhere! {
    reduced_cases:
    level_reduced_keeps_what_it_promises_as_root_cold, Who::Root, Start::Cold;
    level_reduced_keeps_what_it_promises_as_root_warm, Who::Root, Start::Warm;
    level_reduced_keeps_what_it_promises_as_a_user_cold, Who::User, Start::Cold;
    level_reduced_keeps_what_it_promises_as_a_user_warm, Who::User, Start::Warm;
}

/// The wall limit of cases that it may end, in milliseconds.
const WALL_MS_SHORT: u64 = 4_000;
/// That of cases that end otherwise, in milliseconds: what else runs on the machine must not end
/// them.
const WALL_MS_LONG: u64 = 60_000;

/// Plays `cases` at `level`, and at last whatever `more` does on a stage where programs have time;
/// no fault may be found.
fn play(
    (who, start, dir): (Who, Start, &Path),
    level: &'static str,
    cases: Vec<(Case, Expected)>,
    more: impl FnOnce(&Stage) -> Option<String>,
) {
    let (short, long): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|(_, expected)| expected.may_end_at_wall());
    let stage = |wall_ms_max| Stage::set(dir, level, start, wall_ms_max);
    let play_on = |stage: &Stage, cases: &[(Case, Expected)]| -> Vec<String> {
        cases.iter().filter_map(|(case, expected)| stage.play(case, expected)).collect()
    };
    let mut faults = Vec::new();
    if !short.is_empty() {
        let hurried = stage(WALL_MS_SHORT);
        faults.extend(play_on(&hurried, &short));
        hurried.clear();
    }
    let patient = stage(WALL_MS_LONG);
    faults.extend(play_on(&patient, &long));
    faults.extend(more(&patient));
    patient.clear();
    assert!(faults.is_empty(), "{who:?}, {start:?}:\n{}", faults.join("\n\n"));
}

fn given_cases(who: Who, start: Start, dir: &Path) {
    let expected = |case: Case| {
        let expected = expected::of(case.number());
        (case, expected)
    };
    play((who, start, dir), "full", provided::cases().into_iter().map(expected).collect(), |_| {
        None
    });
}

fn own_cases(who: Who, start: Start, dir: &Path) {
    play((who, start, dir), "full", own::cases(dir), own::runs_share_nothing);
}

/// Level `reduced` promises less, and is tried with what it does promise.
fn reduced_cases(who: Who, start: Start, dir: &Path) {
    play((who, start, dir), "reduced", reduced::cases(who), |_| None);
}
