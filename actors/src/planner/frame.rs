//! Steps that a task type adds before and after those of the goal.

use ai_factory_schemas::plan::TaskType;

/// A step that the goal does not name: what to do and why.
pub(super) type FrameStep = (&'static str, &'static str);

/// The steps before those of the goal.
pub(super) fn before(task_type: TaskType) -> &'static [FrameStep] {
    match task_type {
        TaskType::General => &[],
        TaskType::Coding => &[(
            "Scaffold repo: layout, manifest and one passing test",
            "Code needs a place where it builds and is tested from the first change on.",
        )],
        TaskType::Research => &[(
            "Define the question and its scope",
            "What counts as an answer must be clear before anybody searches for one.",
        )],
        TaskType::Planning => &[(
            "State the aims and constraints",
            "A plan can only be judged against what it is for and what limits it.",
        )],
    }
}

/// The steps after those of the goal.
pub(super) fn after(task_type: TaskType) -> &'static [FrameStep] {
    match task_type {
        TaskType::General | TaskType::Coding => &[],
        TaskType::Research => &[
            (
                "Check the sources against each other",
                "A finding from one source is a claim; a second, independent one makes it evidence.",
            ),
            (
                "Summarise the findings with their sources",
                "The question was asked by somebody who will read the answer and not the search.",
            ),
        ],
        TaskType::Planning => &[(
            "Review the plan: risks, gaps and open questions",
            "What is likely to go wrong is cheapest to change before work begins.",
        )],
    }
}
