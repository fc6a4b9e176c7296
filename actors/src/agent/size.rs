//! The size of a request in tokens, without the model's tokenizer: what a provider counted for an
//! earlier request of the conversation, and bytes for what came since.

use ai_factory_schemas::{
    chat::MessageRef, limit::MESSAGE_TOKENS_MAX, model::SessionModel, turn::TurnPurpose,
};

/// The fewest bytes of a token in usual text.
const TOKEN_BYTES: u64 = 4;

/// A call whose tokens the provider counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledCall {
    /// Tokens of its input.
    pub tokens: u64,
    /// The messages of its request.
    pub messages: usize,
    /// The bytes of its request.
    pub bytes: u64,
    /// What it was for: tools or a schema beside the messages.
    pub purpose: TurnPurpose,
}

/// What is sent: messages, and tools or a schema beside them.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The messages of the conversation.
    pub messages: &'a [MessageRef],
    /// The bytes of messages that are to be appended.
    pub appended_bytes: u64,
    /// The number of those messages.
    pub appended: u64,
    /// What the request is for.
    pub purpose: TurnPurpose,
    /// The terms.
    pub terms: &'a SessionModel,
}

/// Bytes of some messages.
fn bytes_of(messages: &[MessageRef]) -> u64 {
    messages.iter().fold(0, |sum, message| sum.saturating_add(message.bytes))
}

impl RequestParts<'_> {
    /// The bytes of tools or schema.
    fn offer_bytes(&self) -> u64 {
        self.offer_bytes_for(self.purpose)
    }

    fn offer_bytes_for(&self, purpose: TurnPurpose) -> u64 {
        match purpose {
            TurnPurpose::Plan => self.terms.plan_schema_bytes,
            TurnPurpose::Work => self.terms.tools_bytes,
        }
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        bytes_of(self.messages)
            .saturating_add(self.appended_bytes)
            .saturating_add(self.offer_bytes())
    }

    /// The most tokens that messages from `first` on, and the appended ones, can have.
    fn tokens_since(&self, first: usize) -> u64 {
        let since = self.messages.get(first..).unwrap_or_default();
        let count = (since.len() as u64).saturating_add(self.appended);
        bytes_of(since)
            .saturating_add(self.appended_bytes)
            .saturating_add(count.saturating_mul(MESSAGE_TOKENS_MAX))
    }

    /// What the offer adds to a settled call that had another one.
    fn other_offer(&self, settled: &SettledCall) -> u64 {
        if settled.purpose == self.purpose { 0 } else { self.offer_bytes() }
    }

    /// The most tokens of input: a token has at least one byte.
    pub fn tokens_max(&self, settled: Option<&SettledCall>) -> u64 {
        match settled {
            None => self.tokens_since(0).saturating_add(self.offer_bytes()),
            Some(settled) => settled
                .tokens
                .saturating_add(self.tokens_since(settled.messages))
                .saturating_add(self.other_offer(settled)),
        }
    }

    /// The tokens of input as the window sees them: as [`Self::tokens_max`], with what was
    /// shortened since the settled call left out.
    pub fn tokens_expected(&self, settled: Option<&SettledCall>) -> u64 {
        let Some(settled) = settled else { return self.tokens_max(None) };
        self.settled_share(settled)
            .saturating_add(self.tokens_since(settled.messages))
            .saturating_add(self.other_offer(settled))
    }

    /// The tokens of input that usual text has at least: above the window, the request cannot fit.
    pub fn tokens_likely(&self, settled: Option<&SettledCall>) -> u64 {
        let Some(settled) = settled else { return self.bytes() / TOKEN_BYTES };
        let since = self.tokens_since(settled.messages) / TOKEN_BYTES;
        self.settled_share(settled)
            .saturating_add(since)
            .saturating_add(self.other_offer(settled) / TOKEN_BYTES)
    }

    /// The tokens that leave with so many bytes of the message at a place of the conversation.
    pub fn tokens_freed(&self, settled: Option<&SettledCall>, at: u32, bytes: u64) -> u64 {
        match settled.filter(|settled| (at as usize) < settled.messages) {
            None => bytes,
            Some(settled) => {
                let share = u128::from(settled.tokens) * u128::from(bytes);
                u64::try_from(share / u128::from(settled.bytes.max(1))).unwrap_or(u64::MAX)
            }
        }
    }

    /// The tokens of what is left of a settled call's request.
    fn settled_share(&self, settled: &SettledCall) -> u64 {
        let kept = self.messages.get(..settled.messages).unwrap_or(self.messages);
        let offer = self.offer_bytes_for(settled.purpose);
        let left = bytes_of(kept).saturating_add(offer).min(settled.bytes);
        let share = u128::from(settled.tokens) * u128::from(left);
        u64::try_from(share.div_ceil(u128::from(settled.bytes.max(1)))).unwrap_or(u64::MAX)
    }
}
