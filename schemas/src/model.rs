//! Models: where one is, how it is asked, what it may cost.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::BlobHash;

/// Tokens whose price is named: prices are for so many.
const PRICED_TOKENS: u64 = 1_000_000;

/// The protocol of a model's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelProtocol {
    /// OpenAI chat completions, which many servers speak.
    ChatCompletions,
    /// Anthropic messages.
    Messages,
    /// No API: the answers of a recording.
    Recording,
}

/// How tool calls are asked for and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolProtocol {
    /// With the API's own tool calls.
    #[default]
    Native,
    /// As fenced blocks in the text, for models without tool calls.
    Text,
}

/// A model behind an API. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelEndpoint {
    /// Provider and name, such as `ollama/qwen3`.
    pub model: String,
    /// The base of the API, without user or password.
    pub url: String,
    /// How it is spoken to.
    pub protocol: ModelProtocol,
    /// How it calls tools.
    #[serde(default)]
    pub tools: ToolProtocol,
}

impl ModelEndpoint {
    /// The name at the provider.
    pub fn name(&self) -> &str {
        self.model.split_once('/').map_or(&*self.model, |(_, name)| name)
    }

    /// The provider.
    pub fn provider(&self) -> &str {
        self.model.split_once('/').map_or("", |(provider, _)| provider)
    }

    /// Host, and port if the address names one.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

/// The parameters of every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelParameters {
    /// The temperature in thousandths; absent for the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_milli: Option<u32>,
    /// The seed; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The most tokens of an answer, reasoning included.
    pub output_tokens_max: u64,
    /// The model's window, in tokens: request and answer together.
    pub context_tokens: u64,
}

/// Tokens of a call as billed, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenUsage {
    /// Input that was read anew.
    pub input: u64,
    /// Input that the provider had in its cache.
    #[serde(default)]
    pub cache_read: u64,
    /// Input that the provider wrote to its cache.
    #[serde(default)]
    pub cache_write: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// The part of the output that is reasoning, if it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

impl TokenUsage {
    /// Input of all kinds.
    pub fn input_total(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }

    /// Input and output.
    pub fn total(&self) -> u64 {
        self.input_total().saturating_add(self.output)
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            output: self.output.saturating_add(other.output),
            reasoning: match (self.reasoning, other.reasoning) {
                (None, None) => None,
                (one, two) => Some(one.unwrap_or(0).saturating_add(two.unwrap_or(0))),
            },
        }
    }
}

/// Prices per million tokens, in millionths of a currency that the user chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenPrices {
    /// Of input.
    pub input: u64,
    /// Of input from the provider's cache; absent: unknown, counted as the dearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Of input written to the provider's cache; absent: unknown, counted as the dearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Of output.
    pub output: u64,
}

impl TokenPrices {
    fn dearest(&self) -> u64 {
        let cached = self.cache_read.unwrap_or(0).max(self.cache_write.unwrap_or(0));
        self.input.max(self.output).max(cached)
    }

    /// The cost of these tokens, in millionths of the currency, rounded up.
    pub fn cost_micros(&self, usage: &TokenUsage) -> u64 {
        let dearest = self.dearest();
        let parts = [
            (usage.input, self.input),
            (usage.cache_read, self.cache_read.unwrap_or(dearest)),
            (usage.cache_write, self.cache_write.unwrap_or(dearest)),
            (usage.output, self.output),
        ];
        let sum: u128 = parts.iter().map(|(n, price)| u128::from(*n) * u128::from(*price)).sum();
        u64::try_from(sum.div_ceil(u128::from(PRICED_TOKENS))).unwrap_or(u64::MAX)
    }

    /// The most that so many tokens can cost, in millionths of the currency: input as its dearest
    /// kind.
    pub fn cost_micros_max(&self, input: u64, output: u64) -> u64 {
        let of_input = self.input.max(self.cache_read.unwrap_or_else(|| self.dearest()));
        let of_input = of_input.max(self.cache_write.unwrap_or_else(|| self.dearest()));
        let usage = TokenUsage { input, output, ..TokenUsage::default() };
        Self { input: of_input, ..*self }.cost_micros(&usage)
    }
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// Tokens, as billed.
    pub tokens_max: u64,
    /// Cost in millionths of the prices' currency; absent: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros_max: Option<u64>,
}

/// What is set aside for one attempt of a call before it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    /// Tokens of input.
    pub input_tokens: u64,
    /// Tokens of output.
    pub output_tokens: u64,
    /// Cost in millionths of the prices' currency; absent without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

impl Reservation {
    /// Tokens in all.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// What is charged for one attempt of a call in place of its reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Charge {
    /// Tokens.
    pub tokens: u64,
    /// Cost in millionths of the prices' currency; absent without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Whether the reservation is charged because the usage is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Whether more is charged than was reserved: no further call follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overrun: bool,
}

impl Charge {
    /// The charge for a usage that the provider reported. A usage of zero counts as none: the
    /// reservation is charged.
    pub fn of(
        usage: Option<&TokenUsage>,
        reserved: &Reservation,
        prices: Option<&TokenPrices>,
    ) -> Self {
        let Some(usage) = usage.filter(|usage| usage.input_total() > 0 && usage.output > 0) else {
            return Self::whole(reserved);
        };
        let (tokens, cost) = (usage.total(), prices.map(|prices| prices.cost_micros(usage)));
        let overrun = tokens > reserved.tokens()
            || cost.zip(reserved.cost_micros).is_some_and(|(cost, most)| cost > most);
        Self { tokens, cost_micros: cost, estimated: false, overrun }
    }

    /// The whole reservation.
    pub fn whole(reserved: &Reservation) -> Self {
        Self {
            tokens: reserved.tokens(),
            cost_micros: reserved.cost_micros,
            estimated: true,
            overrun: false,
        }
    }

    /// Nothing: the reservation is released.
    pub fn nothing() -> Self {
        Self::default()
    }
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelErrorClass {
    /// The key is missing or refused.
    Credentials,
    /// The provider has no such model, or no such address.
    NoSuchModel,
    /// The request does not fit the model's window.
    ContextTooLong,
    /// Too many requests or tokens in a time.
    RateLimited,
    /// The server is overloaded or failed.
    Overloaded,
    /// The request was refused as it is.
    Refused,
    /// The answer broke off.
    Cut,
    /// The answer cannot be read.
    Malformed,
    /// The server read only a part of the request, and did not say so.
    Truncated,
    /// No answer in time.
    TimedOut,
    /// The server cannot be reached: nothing was sent.
    Unreachable,
    /// The factory stopped while the call was under way: whether it was answered is unknown.
    Unknown,
    /// The day's budget has no room.
    DayBudget,
    /// A recording has no answer to the request.
    NotRecorded,
    /// It was cancelled while it was under way.
    Cancelled,
}

impl ModelErrorClass {
    /// Whether the reservation is released: the provider bills nothing.
    pub const fn is_free(self) -> bool {
        matches!(
            self,
            Self::Credentials
                | Self::NoSuchModel
                | Self::ContextTooLong
                | Self::RateLimited
                | Self::Overloaded
                | Self::Refused
                | Self::Unreachable
                | Self::DayBudget
                | Self::NotRecorded
        )
    }

    /// Whether the same request may succeed later.
    pub const fn is_retried(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Cut
                | Self::Malformed
                | Self::TimedOut
                | Self::Unreachable
                | Self::Unknown
        )
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::NoSuchModel => "no_such_model",
            Self::ContextTooLong => "context_too_long",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
            Self::DayBudget => "day_budget",
            Self::NotRecorded => "not_recorded",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for ModelErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits of a session with a model beside its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnLimits {
    /// The most turns.
    pub turns_max: u32,
    /// The most attempts of a call after the first.
    pub retries_max: u32,
    /// Time limit of a tool's run, wall and processor, in milliseconds.
    pub tool_wall_ms_max: u64,
    /// How long a question waits for an answer, in milliseconds.
    pub ask_ms_max: u64,
    /// Time limit of the session's work, in milliseconds; waiting for a model's place or for a
    /// person does not count.
    pub session_ms_max: u64,
}

/// The terms of a session with a model, fixed when it is opened: a resumption uses them whatever
/// the settings say then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionModel {
    /// The model.
    pub endpoint: ModelEndpoint,
    /// The parameters of its calls.
    pub parameters: ModelParameters,
    /// The prices, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<TokenPrices>,
    /// What may be spent.
    pub budget: Budget,
    /// The other limits.
    pub limits: TurnLimits,
    /// The prompts: a blob with a JSON object from name to text.
    pub prompts: BlobHash,
    /// The size of the prompts, in bytes: what the factory says is not longer than they are and
    /// the data in it.
    pub prompts_bytes: u64,
    /// The tools: a blob with a JSON list of tools.
    pub tools: BlobHash,
    /// The size of the tools, in bytes: at least as many as they have tokens.
    pub tools_bytes: u64,
    /// The schema of a plan: a blob with a JSON Schema.
    pub plan_schema: BlobHash,
    /// The size of that schema, in bytes.
    pub plan_schema_bytes: u64,
    /// Whether the model may ask a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_ask: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_rounded_up_and_an_unknown_kind_is_the_dearest() {
        let prices = TokenPrices {
            input: 3_000_000,
            cache_read: None,
            cache_write: None,
            output: 15_000_000,
        };
        let usage = TokenUsage { input: 1, output: 1, ..TokenUsage::default() };
        assert_eq!(prices.cost_micros(&usage), 18);
        let cached = TokenUsage { cache_read: 1, ..usage };
        assert_eq!(prices.cost_micros(&cached), 33);
        let cheap = TokenPrices { input: 1, cache_read: Some(1), cache_write: Some(1), output: 1 };
        assert_eq!(cheap.cost_micros(&usage), 1, "never less than nothing");
        assert!(
            prices.cost_micros_max(10, 1)
                >= prices.cost_micros(&TokenUsage {
                    input: 3,
                    cache_read: 3,
                    cache_write: 4,
                    output: 1,
                    reasoning: None
                })
        );
    }

    #[test]
    fn a_usage_of_zero_is_none_and_one_above_the_reservation_an_overrun() {
        let reserved = Reservation { input_tokens: 10, output_tokens: 5, cost_micros: None };
        let zero = TokenUsage::default();
        assert_eq!(Charge::of(Some(&zero), &reserved, None), Charge::whole(&reserved));
        assert_eq!(Charge::of(None, &reserved, None).tokens, 15);
        let more = TokenUsage { input: 10, output: 6, ..zero };
        let charge = Charge::of(Some(&more), &reserved, None);
        assert!(charge.overrun && charge.tokens == 16 && !charge.estimated);
    }

    #[test]
    fn an_endpoint_names_provider_name_and_host() {
        let endpoint = ModelEndpoint {
            model: "openrouter/a/b".to_owned(),
            url: "http://127.0.0.1:1234/v1".to_owned(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        };
        assert_eq!(
            (endpoint.provider(), endpoint.name(), endpoint.host()),
            ("openrouter", "a/b", "127.0.0.1:1234")
        );
    }
}
