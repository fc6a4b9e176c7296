//! What the factory says before a turn.

use ai_factory_schemas::{
    chat::{ChatMessage, MessageRef},
    model::SessionModel,
    problem::Problem,
    text::Blob,
};

use crate::{
    agent::{
        prompts::PromptSet,
        words::{self, CheckedFacts, WordsFacts},
    },
    deps::Deps,
    session::{state::Session, vocabulary::WordsDue},
    workspace::contents,
};

/// The messages that are due, and their blobs.
pub async fn words(
    deps: &Deps,
    session: &Session,
    terms: &SessionModel,
    due: &WordsDue,
) -> Result<(Vec<MessageRef>, Vec<Blob>), Problem> {
    let what = "the prompts of the session";
    let bytes = contents::load(&*deps.journal, terms.prompts, what).await;
    let bytes = bytes.map_err(Problem::internal)?;
    let prompts = PromptSet::from_bytes(&bytes)
        .map_err(|fault| Problem::internal(format!("the prompts are unreadable: {fault}")))?;
    let facts = facts(deps, session, terms).await?;
    record(deps, words::compose(due, &prompts, &facts, &deps.mask)).await
}

/// The messages as the record has them.
async fn record(
    deps: &Deps,
    said: Vec<ChatMessage>,
) -> Result<(Vec<MessageRef>, Vec<Blob>), Problem> {
    let blobs: Result<Vec<_>, _> = said.iter().map(ChatMessage::to_blob).collect();
    let blobs = blobs.map_err(|fault| Problem::internal(fault.to_string()))?;
    let messages = blobs.iter().map(MessageRef::from).collect();
    let lacking = contents::without_stored(&*deps.journal, blobs).await.map_err(Problem::from)?;
    Ok((messages, lacking))
}

async fn facts(
    deps: &Deps,
    session: &Session,
    terms: &SessionModel,
) -> Result<WordsFacts, Problem> {
    let journal = &*deps.journal;
    let files = match session.workspace() {
        Some(workspace) => workspace.tree(journal).await.map_err(Problem::internal)?.now,
        None => Default::default(),
    };
    let checked = match session.last_check().cloned() {
        Some(finished) => Some(CheckedFacts::load(journal, finished).await.map_err(Problem::from)?),
        None => None,
    };
    let check_wall_ms_max = deps.limits.check_wall_max.as_millis();
    Ok(WordsFacts {
        goal: session.opened().map(|opened| opened.goal.clone()).unwrap_or_default(),
        memories: session.recalled().to_vec(),
        files,
        check: session.check().cloned(),
        checked,
        limits: terms.limits,
        check_wall_ms_max: u64::try_from(check_wall_ms_max).unwrap_or(u64::MAX),
        may_ask: terms.may_ask,
    })
}
