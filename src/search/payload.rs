//! The payload of a commit: its mark, its size and the forgotten documents in it.

use ai_factory_fold::Mark;

use super::corpus::Corpus;

/// Layout of documents. An index with another number cannot be read: it is dropped and built again.
const LAYOUT: &str = "5";
/// Version of the tokenization. An index with another number serves until a new one is built.
const CUT: u32 = 1;

/// The payload of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    /// Version of the tokenization of its oldest documents.
    pub(super) cut: u32,
    /// Mark of the commit.
    pub(super) mark: Mark,
    /// Size without the forgotten documents.
    pub(super) corpus: Corpus,
    /// Positions of forgotten documents that are still in it.
    pub(super) tombstones: Vec<u64>,
}

impl Default for Payload {
    fn default() -> Self {
        let (mark, corpus) = (Mark::default(), Corpus::default());
        Self { cut: CUT, mark, corpus, tombstones: Vec::new() }
    }
}

impl Payload {
    /// Whether the whole commit is tokenized as this program does.
    pub(super) fn is_of_this_cut(cut: u32) -> bool {
        cut == CUT
    }

    /// The stored form.
    pub(super) fn to_text(&self) -> String {
        let Self { cut, mark, corpus, tombstones } = self;
        let tombstones: Vec<String> = tombstones.iter().map(u64::to_string).collect();
        format!(
            "{LAYOUT} {cut} {} {} {} {} {}",
            mark.position,
            mark.hash,
            corpus.documents,
            corpus.tokens,
            tombstones.join(",")
        )
    }

    /// From the stored form; `None` if it is of another layout, or not ours.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        if parts.next()? != LAYOUT {
            return None;
        }
        let cut = parts.next()?.parse().ok()?;
        let position = parts.next()?.parse().ok()?;
        let hash = blake3::Hash::from_hex(parts.next()?).ok()?;
        let hash = ai_factory_schemas::envelope::ChainHash(*hash.as_bytes());
        let mut number = || parts.next()?.parse::<u64>().ok();
        let corpus = Corpus { documents: number()?, tokens: number()? };
        let tombstones = parts.next()?.split(',').filter(|position| !position.is_empty());
        let tombstones = tombstones.map(|position| position.parse().ok()).collect::<Option<_>>()?;
        Some(Self { cut, mark: Mark { position, hash }, corpus, tombstones })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_another_layout_is_not_ours() {
        for (cut, tombstones) in [(CUT, vec![]), (CUT, vec![3]), (CUT + 1, vec![3, 5])] {
            let mark = Mark { position: 7, ..Mark::default() };
            let corpus = Corpus { documents: 4, tokens: 19 };
            let payload = Payload { cut, mark, corpus, tombstones };
            assert_eq!(Payload::from_text(&payload.to_text()), Some(payload));
        }
        for text in ["0 7 00", "", "5 1 7 00", "5 1 2 3 4 5 6"] {
            assert_eq!(Payload::from_text(text), None, "{text}");
        }
    }
}
