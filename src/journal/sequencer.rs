//! The sequencer: decides each append of a commit, and gives its records their places.
//!
//! *Promises.* Pure: a verdict depends on the append, on what was recorded before the commit, and
//! on the appends accepted before it in the same commit. A repeated command gets the first reply
//! (I-5). Positions and versions have no gaps, and each record carries the hash of the chain (I-6).
//! A refused append takes no place.
//!
//! *Not here.* Looking up what is recorded, and writing (the writer).

use std::collections::HashMap;

use ai_factory_ports::journal::{AppendError, Appended, Command, Head};
use ai_factory_schemas::{
    envelope,
    id::{CommandId, StreamId},
};

use super::chunk::AppliedCommand;

/// The part of an append that is decided here.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) stream: StreamId,
    /// The version that the stream must have.
    pub(super) expected: u64,
    /// The encoded events, without position, version and hash. Complete records once accepted.
    pub(super) records: Vec<String>,
    pub(super) command: Option<Command>,
}

/// What was recorded, before the commit, of an append's stream and command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordedState {
    /// The stream's version; 0 if it does not exist.
    pub(super) version: u64,
    /// The effect of the command's key, if it was used.
    pub(super) effect: Option<AppliedCommand>,
}

/// The decision about one append.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Its records are to be written.
    Accepted(Appended),
    /// Nothing is to be written: the reply.
    Answered(Result<Appended, AppendError>),
}

impl Verdict {
    pub(super) fn refused(error: impl Into<AppendError>) -> Self {
        Self::Answered(Err(error.into()))
    }

    /// The place of the records to be written.
    pub(super) fn accepted(&self) -> Option<&Appended> {
        match self {
            Self::Accepted(appended) => Some(appended),
            Self::Answered(_) => None,
        }
    }

    /// The reply once everything accepted is on disk.
    pub(super) fn into_reply(self) -> Result<Appended, AppendError> {
        match self {
            Self::Accepted(appended) => Ok(appended),
            Self::Answered(reply) => reply,
        }
    }
}

/// The state of the journal within one commit.
#[derive(Debug)]
pub(super) struct Sequencer {
    head: Head,
    /// The versions of the streams that this commit changed.
    versions: HashMap<StreamId, u64>,
    /// The commands that took effect in this commit.
    effects: HashMap<CommandId, AppliedCommand>,
}

impl Sequencer {
    /// The state before the first append of a commit that continues after `head`.
    pub(super) fn after(head: Head) -> Self {
        Self { head, versions: HashMap::new(), effects: HashMap::new() }
    }

    /// The last record, with everything accepted so far.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Decides an append. Completes its records if it is accepted; changes nothing otherwise.
    pub(super) fn judge(&mut self, proposal: &mut Proposal, recorded: RecordedState) -> Verdict {
        if let Some(command) = &proposal.command
            && let Some(effect) = self.effects.get(&command.id).copied().or(recorded.effect)
        {
            return Verdict::Answered(if effect.fingerprint == command.fingerprint {
                Ok(Appended { repeated: true, ..effect.appended() })
            } else {
                Err(AppendError::CommandConflict { id: command.id.clone() })
            });
        }
        let Proposal { stream, expected, .. } = *proposal;
        let actual = self.versions.get(&stream).copied().unwrap_or(recorded.version);
        if actual != expected {
            return Verdict::refused(AppendError::WrongVersion { stream, expected, actual });
        }
        Verdict::Accepted(self.accept(proposal))
    }

    fn accept(&mut self, proposal: &mut Proposal) -> Appended {
        let stream = proposal.stream;
        let first = self.head.position + 1;
        let mut version = proposal.expected;
        for json in &mut proposal.records {
            let position = self.head.position + 1;
            version += 1;
            let hash = envelope::seal(json, position, version, self.head.hash);
            self.head = Head { position, hash };
        }
        let last = self.head.position;
        let appended = Appended { stream, first, last, version, repeated: false };
        self.versions.insert(stream, version);
        if let Some(command) = &proposal.command {
            let effect = AppliedCommand::of(command, &appended);
            self.effects.insert(command.id.clone(), effect);
        }
        appended
    }
}

#[cfg(test)]
mod tests;
