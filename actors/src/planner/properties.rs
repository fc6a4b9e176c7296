//! Properties that hold for every goal.

use std::fmt::Write as _;

use ai_factory_schemas::{
    limit::{GOAL_BYTES_MAX, STEPS_MAX},
    plan::{Plan, TaskType},
};
use proptest::prelude::*;

use super::{PlanError, propose};

/// Pieces of goals: joined at random they break a reader more often than random characters do.
const FRAGMENTS: &[&str] = &[
    "then",
    "and then",
    ", then ",
    "if",
    "finally",
    "after that",
    "first,",
    " - ",
    " — ",
    "->",
    "→",
    ";",
    ".",
    "...",
    "。",
    "，然后",
    "`",
    "```",
    "```python\n",
    "```\n",
    "~~~\n",
    "print(1)",
    "x = '",
    "\"",
    "'",
    "“",
    "”",
    "„",
    "(",
    ")",
    "[ ]",
    "[x]",
    "- ",
    "1. ",
    "2) ",
    "(3)",
    "a)",
    "①",
    "Step 2:",
    "# ",
    "> ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "   ",
    ":",
    "python:",
    "e.g.",
    "Dr.",
    "3.14",
    "v1.2.3",
    "main.rs",
    "https://a.b/c;d",
    "www.x.y",
    "&amp;",
    "don't",
    "日本",
    "🚀",
    "e\u{301}",
    "\u{200b}",
    "\u{202e}",
    "ﷺ",
    "word",
    "Word",
    "===",
    "---",
    "````",
    "    ",
    "| a | b |\n|---|---|\n",
    "<!--",
    "-->",
    "<div>",
    "\u{2028}",
    "\r",
    "ii.",
    "4. Juni",
    "**",
    "|",
    "ثم",
    "!",
    "?",
    "é",
];

fn goals() -> impl Strategy<Value = String> {
    let fragments = prop::collection::vec(
        (prop::sample::select(FRAGMENTS), prop::sample::select(&["", " ", "\n"][..])),
        0..40,
    );
    let joined = fragments.prop_map(|parts| {
        parts.into_iter().fold(String::new(), |mut goal, (part, gap)| {
            let _ = write!(goal, "{part}{gap}");
            goal
        })
    });
    prop_oneof![joined, any::<String>(), "\\PC{0,200}", "[ -~\n]{0,300}"]
}

fn check(plan: &Plan) {
    assert!((1..=STEPS_MAX).contains(&plan.steps.len()));
    for (index, step) in (0_u32..).zip(&plan.steps) {
        assert_eq!(step.index, index);
        assert!(!step.action.trim().is_empty() && !step.rationale.is_empty());
        assert_eq!(step.action, step.action.trim());
        let code = step.code.as_ref();
        assert!(code.is_none_or(|it| !it.language.is_empty() && !it.source.trim().is_empty()));
    }
    assert!(plan.estimated_tokens >= 32 && !plan.notes.is_empty() && !plan.model_name.is_empty());
}

/// All visible text of `plan`, in lower case.
fn visible(plan: &Plan) -> String {
    let mut seen = String::new();
    for step in &plan.steps {
        let code = step.code.as_ref().map_or("", |code| &code.source);
        let _ = writeln!(seen, "{} {} {code}", step.action, step.rationale);
    }
    seen.to_lowercase()
}

proptest! {
    #[test]
    fn every_goal_has_a_sound_plan_or_an_error(goal in goals(), kind in 0..TaskType::ALL.len()) {
        let task_type = TaskType::ALL[kind];
        let first = propose(&goal, task_type);
        prop_assert_eq!(&first, &propose(&goal, task_type));
        match first {
            Ok(plan) => {
                check(&plan);
                if task_type == TaskType::Coding {
                    prop_assert!(plan.steps[0].action.contains("Scaffold repo"));
                }
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn no_word_of_a_goal_is_lost(goal in goals()) {
        // Invisible parts of the document: tags and comments, front matter, addresses of links.
        let goal = goal.replace('<', " ").replace("]:", "] ");
        let goal = goal.trim_start_matches(['\u{feff}', '-', '+']).to_owned();
        let Ok(plan) = propose(&goal, TaskType::General) else { return Ok(()) };
        let seen = visible(&plan);
        // Numbers, Roman ones too, and single letters may be markers, `python` and `Step` may be
        // labels, and text after a fence describes its block.
        let lines = goal.split(['\n', '\r']).filter(|line| !line.contains("```") && !line.contains("~~~"));
        let words = lines.flat_map(|line| line.split(|c: char| !c.is_alphabetic())).map(str::to_lowercase);
        // Scripts without spaces have no words to look for.
        let words = words.filter(|word| word.chars().all(|c| u32::from(c) < 0x2e80));
        let named = ["python", "step"];
        let is_roman = |word: &str| word.chars().all(|c| "ivx".contains(c));
        for word in words.filter(|it| it.chars().count() > 1 && !named.contains(&it.as_str()) && !is_roman(it)) {
            prop_assert!(seen.contains(&word), "{word:?} of {goal:?} is not in {seen:?}");
        }
    }

    #[test]
    fn words_alone_come_in_order(words in prop::collection::vec("(fetch|parse|Store|show|it|and|or|the|a then b|;|\\.)", 1..30)) {
        let goal = words.join(" ");
        prop_assume!(goal.contains(char::is_alphabetic));
        let plan = propose(&goal, TaskType::General).unwrap();
        let kept = |text: &str| -> Vec<String> {
            text.split(|c: char| !c.is_alphabetic())
                .filter(|it| ["fetch", "parse", "Store", "show", "it", "or", "the"].contains(it))
                .map(str::to_owned)
                .collect()
        };
        let actions: Vec<&str> = plan.steps.iter().map(|step| step.action.as_str()).collect();
        prop_assert_eq!(kept(&goal), kept(&actions.join(" ")));
    }
}

#[test]
fn a_large_goal_of_any_make_is_planned_or_refused_without_delay() {
    // Each of these is quadratic for a reader that looks back or ahead without a bound: minutes
    // instead of moments.
    for unit in [
        "(",
        "`",
        "\"",
        "“",
        "。",
        "->",
        "https://a.b/c;d ",
        "🚀",
        "日本",
        "`a ",
        "``a` ",
        "\"a ",
        "\" ",
        "“",
        "( ",
        "([{",
        "then ",
        "a then ",
        "! ",
        ".. ",
        "a;",
        "a; ",
        "a->",
        "- ",
        "a - ",
        "1) ",
        "1. a ",
        "```\n",
        "```x\n",
        "~~~ ",
        "``` ",
        "```a``` ",
        "python: print(1) ",
        "python: ",
        "://",
        "www.",
        "&a",
        "\n",
        "\n- ",
        "\n# a",
        "\na:",
        "\n  - a:",
        "a. ",
        "。",
        "a。",
        "，然后",
        "and and ",
        "x.y. ",
        "A. ",
        "'a ",
        "'a' ",
        "step 1: ",
        "[ ] ",
        "①",
        "a—",
        "- a - the ",
        "\u{feff}",
        "```python\nprint(1)``` ",
        " ----------",
        "a ,.;-",
        "\n\t",
        "if ",
        ": ",
    ] {
        let goal = unit.repeat(100 * 1024 / unit.len());
        match propose(&goal, TaskType::General) {
            Ok(plan) => check(&plan),
            Err(error) => assert!(
                matches!(error, PlanError::TooManySteps { .. } | PlanError::Blank),
                "{unit:?}: {error}"
            ),
        }
    }
}

#[test]
fn what_has_no_plan_is_refused_with_a_reason() {
    for blank in ["", " \n\t", "\u{feff}\u{200b}", "\u{3000}"] {
        assert_eq!(propose(blank, TaskType::General), Err(PlanError::Blank), "{blank:?}");
    }
    assert_eq!(propose("a\0b", TaskType::General), Err(PlanError::Nul { at: 1 }));
    let bytes = GOAL_BYTES_MAX + 1;
    assert_eq!(propose(&"a".repeat(bytes), TaskType::General), Err(PlanError::TooLong { bytes }));
    assert!(propose(&"a".repeat(GOAL_BYTES_MAX), TaskType::General).is_ok());
    let list = |items: usize| "- item\n".repeat(items);
    assert_eq!(propose(&list(STEPS_MAX), TaskType::General).unwrap().steps.len(), STEPS_MAX);
    let steps = STEPS_MAX + 1;
    assert_eq!(propose(&list(steps), TaskType::General), Err(PlanError::TooManySteps { steps }));
    assert_eq!(propose(&list(STEPS_MAX), TaskType::Coding), Err(PlanError::TooManySteps { steps }));
}

#[test]
fn goals_that_once_broke_the_reader_have_sound_plans() {
    for goal in [
        "```thenthen\nthen ",
        "1. \n===\n -  - ",
        "# ```\n，然后```python\n# ",
        "python: [ ]\n",
        "python: [ ] (3)",
        "~~~\n1. if\n~~~\nthen```python\nif",
        "and then:\npython:",
    ] {
        check(&propose(goal, TaskType::General).unwrap());
    }
}
