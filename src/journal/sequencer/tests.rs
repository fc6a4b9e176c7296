//! The sequencer on tables of examples, and beside a model of a few lines.

use ai_factory_ports::journal::RawRecord;
use ai_factory_schemas::{
    envelope::{ChainHash, EventDraft, Recorded, Trail, unseal},
    id::{EventId, MemoryId},
    memory::MemoryRemembered,
    text::BlobHash,
    time::Timestamp,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn stream(n: u8) -> StreamId {
    MemoryId(Uuid::from_u128(n.into())).into()
}

fn encoded(stream: StreamId, text: &str) -> String {
    let event = MemoryRemembered {
        request_id: Uuid::from_u128(9).into(),
        text: text.to_owned(),
        tags: Vec::new(),
    };
    let draft = EventDraft {
        id: EventId(Uuid::from_u128(1)),
        time: Timestamp::from_micros(1),
        event: event.into(),
        trail: Trail::default(),
    };
    draft.encode("/ai-factory/test", stream).unwrap()
}

fn command((key, request): (u8, u8)) -> Command {
    Command { id: format!("key {key}").parse().unwrap(), fingerprint: BlobHash([request; 32]) }
}

fn proposal(n: u8, expected: u64, count: u8, key: Option<(u8, u8)>) -> Proposal {
    let stream = stream(n);
    let records = (0..count).map(|at| encoded(stream, &format!("{n}.{at}"))).collect();
    Proposal { stream, expected, records, command: key.map(command) }
}

/// The effect of key 1 with request 1, recorded long ago.
fn effect() -> AppliedCommand {
    let fingerprint = BlobHash([1; 32]);
    AppliedCommand { fingerprint, stream: stream(7), first: 3, last: 4, version: 2 }
}

/// What is said of a verdict.
fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted(Appended { first, last, version, .. }) => {
            format!("accepted {first}..={last} version {version}")
        }
        Verdict::Answered(Ok(Appended { first, last, version, repeated, .. })) => {
            assert!(repeated);
            format!("repeated {first}..={last} version {version}")
        }
        Verdict::Answered(Err(AppendError::WrongVersion { expected, actual, .. })) => {
            format!("expected {expected}, is {actual}")
        }
        Verdict::Answered(Err(AppendError::CommandConflict { id })) => {
            format!("conflict: {}", id.as_str())
        }
        Verdict::Answered(Err(error)) => panic!("{error:?}"),
    }
}

/// Judges proposals in one commit that continues after position 10.
fn judged(proposals: Vec<(Proposal, RecordedState)>) -> (Vec<String>, Head) {
    let mut sequencer = Sequencer::after(Head { position: 10, hash: ChainHash([4; 32]) });
    let said = proposals
        .into_iter()
        .map(|(mut proposal, recorded)| said(&sequencer.judge(&mut proposal, recorded)))
        .collect();
    (said, sequencer.head())
}

#[test]
fn an_append_is_judged_by_what_was_recorded_before_the_commit() {
    let at = |version| RecordedState { version, effect: None };
    let used = |version| RecordedState { version, effect: Some(effect()) };
    for (append, recorded, expected) in [
        (proposal(1, 0, 1, None), at(0), "accepted 11..=11 version 1"),
        (proposal(1, 5, 3, None), at(5), "accepted 11..=13 version 8"),
        (proposal(1, 0, 1, None), at(5), "expected 0, is 5"),
        (proposal(1, 6, 1, None), at(5), "expected 6, is 5"),
        (proposal(1, u64::MAX, 1, None), at(0), "expected 18446744073709551615, is 0"),
        (proposal(1, 0, 1, Some((1, 1))), at(0), "accepted 11..=11 version 1"),
        // A repeated command: whatever the version is by now, and whatever stream it names.
        (proposal(1, 0, 1, Some((1, 1))), used(5), "repeated 3..=4 version 2"),
        (proposal(1, 5, 1, Some((1, 1))), used(5), "repeated 3..=4 version 2"),
        (proposal(1, 5, 1, Some((1, 2))), used(5), "conflict: key 1"),
        (proposal(1, 0, 1, Some((1, 2))), used(5), "conflict: key 1"),
    ] {
        let (said, head) = judged(vec![(append, recorded)]);
        assert_eq!(said, [expected]);
        assert_eq!(head.position > 10, expected.starts_with("accepted"));
    }
}

#[test]
fn an_append_is_judged_by_what_the_same_commit_accepted_before_it() {
    let new = RecordedState::default();
    let (said, head) = judged(vec![
        (proposal(1, 0, 2, Some((1, 1))), new),
        // The recorded state is of before the commit: it does not know the first append.
        (proposal(1, 0, 1, None), new),
        (proposal(1, 2, 1, None), new),
        (proposal(2, 0, 1, Some((1, 1))), new),
        (proposal(2, 0, 1, Some((1, 2))), new),
        (proposal(2, 0, 1, Some((2, 1))), new),
        (proposal(2, 9, 1, Some((3, 1))), new),
        (proposal(2, 1, 1, Some((3, 2))), new),
    ]);
    assert_eq!(
        said,
        [
            "accepted 11..=12 version 2",
            "expected 0, is 2",
            "accepted 13..=13 version 3",
            "repeated 11..=12 version 2",
            "conflict: key 1",
            "accepted 14..=14 version 1",
            "expected 9, is 1",
            // A refused append does not use its key up.
            "accepted 15..=15 version 2",
        ]
    );
    assert_eq!(head.position, 15);
}

#[test]
fn a_refused_append_changes_neither_its_records_nor_the_chain() {
    let before = Head { position: 10, hash: ChainHash([4; 32]) };
    let mut sequencer = Sequencer::after(before);
    let mut refused = proposal(1, 3, 2, None);
    let records = refused.records.clone();
    sequencer.judge(&mut refused, RecordedState::default());
    assert_eq!((sequencer.head(), refused.records), (before, records));
}

/// The journal as it should be.
#[derive(Default)]
struct Model {
    records: Vec<StreamId>,
    commands: HashMap<CommandId, (BlobHash, String)>,
}

impl Model {
    fn version(&self, stream: StreamId) -> u64 {
        self.records.iter().filter(|of| **of == stream).count() as u64
    }

    /// What is said of an append after all those before it.
    fn apply(&mut self, append: &Proposal) -> String {
        if let Some(command) = &append.command
            && let Some((fingerprint, place)) = self.commands.get(&command.id)
        {
            return if *fingerprint == command.fingerprint {
                format!("repeated {place}")
            } else {
                format!("conflict: {}", command.id.as_str())
            };
        }
        let actual = self.version(append.stream);
        if actual != append.expected {
            return format!("expected {}, is {actual}", append.expected);
        }
        let first = self.records.len() + 1;
        self.records.extend(append.records.iter().map(|_| append.stream));
        let (last, version) = (self.records.len(), self.version(append.stream));
        let place = format!("{first}..={last} version {version}");
        if let Some(command) = &append.command {
            let known = (command.fingerprint, place.clone());
            self.commands.insert(command.id.clone(), known);
        }
        format!("accepted {place}")
    }
}

/// What commits have recorded: what the writer looks up.
#[derive(Default)]
struct Committed {
    head: Head,
    versions: HashMap<StreamId, u64>,
    effects: HashMap<CommandId, AppliedCommand>,
    records: Vec<RawRecord>,
}

impl Committed {
    fn of(&self, append: &Proposal) -> RecordedState {
        let effect = append.command.as_ref().and_then(|command| self.effects.get(&command.id));
        let version = self.versions.get(&append.stream).copied().unwrap_or(0);
        RecordedState { version, effect: effect.copied() }
    }

    /// Judges the appends of one commit, then records those that were accepted.
    fn commit(&mut self, mut appends: Vec<Proposal>) -> Vec<String> {
        let mut sequencer = Sequencer::after(self.head);
        let verdicts: Vec<_> = appends
            .iter_mut()
            .map(|append| {
                let recorded = self.of(append);
                sequencer.judge(append, recorded)
            })
            .collect();
        for (append, verdict) in appends.into_iter().zip(&verdicts) {
            let Some(appended) = verdict.accepted() else { continue };
            self.versions.insert(appended.stream, appended.version);
            if let Some(command) = &append.command {
                self.effects.insert(command.id.clone(), AppliedCommand::of(command, appended));
            }
            let records = (appended.first..).zip(append.records);
            self.records
                .extend(records.map(|(position, json)| RawRecord { position, bytes: json.into() }));
        }
        self.head = sequencer.head();
        verdicts.iter().map(said).collect()
    }
}

/// An append: stream, what is added to the right version, events, key and request.
fn step() -> impl Strategy<Value = (u8, u64, u8, Option<(u8, u8)>)> {
    let key = prop::option::of((0..4u8, 0..2u8));
    (0..3u8, prop_oneof![4 => Just(0u64), 1 => 1..3u64], 1..4u8, key)
}

proptest! {
    /// I-5, I-6: how appends are divided into commits changes nothing.
    #[test]
    fn appends_in_commits_of_any_size_do_what_the_model_does_one_by_one(
        commits in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..8),
    ) {
        let (mut model, mut committed) = (Model::default(), Committed::default());
        for steps in commits {
            let mut appends = Vec::new();
            let mut expected = Vec::new();
            for (n, off, count, key) in steps {
                let append = proposal(n, model.version(stream(n)) + off, count, key);
                expected.push(model.apply(&append));
                appends.push(append);
            }
            prop_assert_eq!(committed.commit(appends), expected);
        }
        prop_assert_eq!(committed.head.position, model.records.len() as u64);
        let mut hash = ChainHash::GENESIS;
        let mut versions: HashMap<StreamId, u64> = HashMap::new();
        for (at, (raw, stream)) in (1..).zip(committed.records.iter().zip(&model.records)) {
            let (content, written) = unseal(&raw.bytes).unwrap();
            prop_assert_eq!(hash.next(content), written);
            let recorded = Recorded::decode(&raw.bytes).unwrap();
            let version = versions.entry(recorded.stream).or_default();
            *version += 1;
            prop_assert_eq!((recorded.position, raw.position, recorded.version), (at, at, *version));
            prop_assert_eq!(recorded.stream, *stream);
            hash = written;
        }
        prop_assert_eq!(hash, committed.head.hash);
    }
}
