//! What a commit of the index says of itself: how far it has come, how much there is, and who in it is forgotten.

use super::overlay::Corpus;
use crate::projection::Mark;

/// The layout of documents and the way words are cut. An index with another number is dropped and rebuilt.
const FORMAT: &str = "4";

/// What a commit says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Payload {
    /// What it contains.
    pub(super) mark: Mark,
    /// How much there is, without what is forgotten.
    pub(super) corpus: Corpus,
    /// The positions of forgotten documents that still stand in it.
    pub(super) gone: Vec<u64>,
}

impl Payload {
    /// As it is stored.
    pub(super) fn to_text(&self) -> String {
        let Self { mark, corpus, gone } = self;
        let gone: Vec<String> = gone.iter().map(u64::to_string).collect();
        format!(
            "{FORMAT} {} {} {} {} {}",
            mark.position,
            mark.hash,
            corpus.documents,
            corpus.tokens,
            gone.join(",")
        )
    }

    /// As it was stored; `None` where it is of another format, or not ours.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        if parts.next()? != FORMAT {
            return None;
        }
        let position = parts.next()?.parse().ok()?;
        let hash = blake3::Hash::from_hex(parts.next()?).ok()?;
        let hash = ai_factory_schemas::envelope::ChainHash(*hash.as_bytes());
        let mut number = || parts.next()?.parse::<u64>().ok();
        let corpus = Corpus { documents: number()?, tokens: number()? };
        let gone = parts.next()?.split(',').filter(|position| !position.is_empty());
        let gone = gone.map(|position| position.parse().ok()).collect::<Option<_>>()?;
        Some(Self { mark: Mark { position, hash }, corpus, gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_another_format_is_not_ours() {
        for gone in [vec![], vec![3], vec![3, 5]] {
            let mark = Mark { position: 7, ..Mark::default() };
            let corpus = Corpus { documents: 4, tokens: 19 };
            let payload = Payload { mark, corpus, gone };
            assert_eq!(Payload::from_text(&payload.to_text()), Some(payload));
        }
        for text in ["0 7 00", "", "4 7 00", "4 1 2 3 4 5"] {
            assert_eq!(Payload::from_text(text), None, "{text}");
        }
    }
}
