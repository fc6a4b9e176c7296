//! Earlier answers in the form that servers accept, however ill they were.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ai_factory_schemas::{chat::ChatMessage, id::ToolCallId};
use serde_json::{Value, json};

/// Longest name of a tool that servers accept, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The ids by which a provider knows the tool calls: its own, or ours where it gave none, or one
/// that is no id.
pub(crate) fn wire_ids(messages: &[Arc<ChatMessage>]) -> HashMap<ToolCallId, String> {
    let mut ids = HashMap::new();
    for message in messages {
        let ChatMessage::Assistant { tool_calls, .. } = &**message else { continue };
        let mut taken = HashSet::new();
        for call in tool_calls {
            let echoed = call.provider_id.as_deref().filter(|id| is_word(id) && taken.insert(*id));
            ids.insert(call.id, echoed.map_or_else(|| call.id.to_string(), str::to_owned));
        }
    }
    ids
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word_char)
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A tool's name in the characters that names may have.
pub(crate) fn sayable_name(name: &str) -> String {
    let fit = |c| if is_word_char(c) { c } else { '_' };
    let name: String = name.chars().take(NAME_CHARS_MAX).map(fit).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// Arguments as an object, whatever the model wrote.
pub(crate) fn sayable_arguments(arguments: &str) -> Value {
    serde_json::from_str(arguments)
        .ok()
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({ "unreadable": arguments }))
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::chat::ToolCall;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_call_has_an_id_of_its_own_within_its_answer() {
        let call = |number: u128, provider_id: Option<&str>| ToolCall {
            id: ToolCallId(Uuid::from_u128(number)),
            provider_id: provider_id.map(str::to_owned),
            name: "run".to_owned(),
            arguments: "{}".to_owned(),
        };
        let calls = vec![
            call(1, Some("call_a-1")),
            call(2, Some("call_a-1")),
            call(3, None),
            call(4, Some("two words")),
        ];
        let message = ChatMessage::Assistant { text: String::new(), tool_calls: calls };
        let ids = wire_ids(&[Arc::new(message)]);
        let id = |number| ids[&ToolCallId(Uuid::from_u128(number))].clone();
        let own = |number| Uuid::from_u128(number).to_string();
        assert_eq!([id(1), id(2), id(3), id(4)], ["call_a-1".to_owned(), own(2), own(3), own(4)]);
    }

    #[test]
    fn ill_names_and_arguments_become_acceptable() {
        assert_eq!(sayable_name("functions.run!"), "functions_run_");
        assert_eq!(sayable_name(""), "_");
        assert_eq!(sayable_arguments(r#"{"a":1}"#), json!({ "a": 1 }));
        assert_eq!(sayable_arguments("[1"), json!({ "unreadable": "[1" }));
        assert_eq!(sayable_arguments("[1]"), json!({ "unreadable": "[1]" }));
    }
}
