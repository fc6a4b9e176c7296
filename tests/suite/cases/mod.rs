//! Programs that mean harm and programs that mean well, run through the whole factory: the real binary, asked over HTTP.
//!
//! Everything here happens twice over, as root and as an ordinary user, with interpreters that start when they are needed
//! (cold) and with those that wait (warm), and each time in a process namespace of its own, so that a hole in the sandbox
//! cannot end processes of the machine. A case counts only with the proof that its program ran.

mod expected;
mod given;
mod inside;
mod layers;
mod load;
mod own;
mod reduced;
mod refused;
mod stage;

use self::{
    inside::Who,
    stage::{Stage, Start},
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

fn given_cases(who: Who, start: Start, dir: &std::path::Path) {
    let cases = given::cases();
    let mut faults = Vec::new();
    // Those that say how long they take get that time; the others show how they end when their time is over.
    for (wall_ms_max, patient) in [(2_500, false), (20_000, true)] {
        let stage = Stage::set(dir, "full", start, wall_ms_max);
        for case in cases.iter().filter(|case| case.is_patient() == patient) {
            faults.extend(stage.play(case, &expected::of(case.number())));
        }
        stage.clear();
    }
    assert!(faults.is_empty(), "{who:?}, {start:?}:\n{}", faults.join("\n\n"));
}

fn own_cases(who: Who, start: Start, dir: &std::path::Path) {
    let stage = Stage::set(dir, "full", start, 10_000);
    let mut faults = Vec::new();
    for (case, expected) in own::cases(dir) {
        faults.extend(stage.play(&case, &expected));
    }
    faults.extend(own::runs_share_nothing(&stage));
    stage.clear();
    assert!(faults.is_empty(), "{who:?}, {start:?}:\n{}", faults.join("\n\n"));
}

/// Level `reduced` promises less, and is tried with what it does promise.
fn reduced_cases(who: Who, start: Start, dir: &std::path::Path) {
    let stage = Stage::set(dir, "reduced", start, 6_000);
    let mut faults = Vec::new();
    for (case, expected) in reduced::cases(who) {
        faults.extend(stage.play(&case, &expected));
    }
    stage.clear();
    assert!(faults.is_empty(), "{who:?}, {start:?}:\n{}", faults.join("\n\n"));
}
