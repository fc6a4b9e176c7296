//! Tool calls as fenced blocks, for models without tool calls of their own.
//!
//! An answer calls at most one tool: by its first fenced block that begins with a JSON object that
//! names one. What is in the block after the object is the raw text of an argument; what is after
//! the block is dropped. A block that is marked as a tool call and cannot be read is a call that
//! fails, never an answer without one.

use std::{collections::HashMap, sync::Arc};

use ai_factory_ports::model::{AnsweredToolCall, ModelAnswer, ModelCall, TokenSink};
use ai_factory_schemas::{
    chat::{ChatMessage, StopReason, ToolCall, ToolSpec},
    id::ToolCallId,
};
use serde_json::{Deserializer, Map, Value, json};

use super::fence::{FenceMark, FencedBlock, blocks, fence_around, may_become_fence};

/// What the model is told of the protocol.
const INSTRUCTIONS: &str = include_str!("text_protocol.md");
/// The info string of a tool call.
const INFO: &str = "tool";
/// The arguments that are written as raw text, if the tool has them.
const RAW_ARGUMENTS: [&str; 2] = ["content", "code"];
/// The name of a tool call that cannot be read.
const UNREADABLE: &str = "unreadable";

/// The call in texts only.
pub(crate) fn rewritten(call: &ModelCall) -> ModelCall {
    let mut messages = Vec::with_capacity(call.messages.len() + 1);
    let mut names: HashMap<ToolCallId, &str> = HashMap::new();
    let has_tools = !call.tools.is_empty() && call.schema.is_none();
    let mut instructions = has_tools.then(|| instructions(&call.tools));
    for message in &call.messages {
        messages.push(match &**message {
            ChatMessage::System { text } => {
                let parts = [Some(text.clone()), instructions.take()];
                let text = parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n");
                Arc::new(ChatMessage::System { text })
            }
            ChatMessage::User { .. } => Arc::clone(message),
            ChatMessage::Assistant { text, tool_calls } => {
                names.extend(tool_calls.iter().map(|call| (call.id, &*call.name)));
                let blocks = tool_calls.iter().map(|tool_call| block(tool_call, &call.tools));
                let parts = std::iter::once(text.clone()).chain(blocks);
                let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
                let text = parts.join("\n\n");
                Arc::new(ChatMessage::Assistant { text, tool_calls: Vec::new() })
            }
            ChatMessage::Tool { call, text, is_error } => {
                let name = names.get(call).copied().unwrap_or(UNREADABLE);
                let failed = if *is_error { ", which failed" } else { "" };
                let fence = fence_around(text);
                let end = if text.ends_with('\n') { "" } else { "\n" };
                let text =
                    format!("Result of the tool `{name}`{failed}:\n{fence}\n{text}{end}{fence}");
                Arc::new(ChatMessage::User { text })
            }
        });
    }
    if let Some(text) = instructions {
        messages.insert(0, Arc::new(ChatMessage::System { text }));
    }
    ModelCall { messages, tools: Arc::new([]), ..call.clone() }
}

fn instructions(tools: &[ToolSpec]) -> String {
    let raw: Vec<_> = RAW_ARGUMENTS.into_iter().filter(|name| has(tools, name)).collect();
    let raw = if raw.is_empty() { RAW_ARGUMENTS.join("`, `") } else { raw.join("`, `") };
    let mut text = INSTRUCTIONS.replace("{RAW}", &raw);
    for ToolSpec { name, description, parameters } in tools {
        let parts =
            ["\n## ", name, "\n\n", description, "\n\nArguments: ", &parameters.to_string(), "\n"];
        text.extend(parts);
    }
    text
}

fn has(tools: &[ToolSpec], argument: &str) -> bool {
    tools.iter().any(|tool| tool.parameters["properties"].get(argument).is_some())
}

/// A tool call as the model wrote it, or would have.
fn block(call: &ToolCall, tools: &[ToolSpec]) -> String {
    let (arguments, raw) = match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(mut fields)) => {
            let argument = raw_argument(&call.name, &Map::new(), tools);
            let raw = argument.and_then(|name| fields.remove(&name));
            match raw {
                Some(Value::String(raw)) => (Value::Object(fields), raw),
                Some(other) => {
                    fields.extend(raw_argument(&call.name, &Map::new(), tools).zip(Some(other)));
                    (Value::Object(fields), String::new())
                }
                None => (Value::Object(fields), String::new()),
            }
        }
        _ => (json!(call.arguments), String::new()),
    };
    let head = json!({ "tool": call.name, "arguments": arguments });
    let fence = fence_around(&raw);
    let end = if raw.is_empty() || raw.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{INFO}\n{head}\n{raw}{end}{fence}")
}

/// The argument that a raw text stands for: the one for that, or the only one that is required and
/// missing.
fn raw_argument(name: &str, given: &Map<String, Value>, tools: &[ToolSpec]) -> Option<String> {
    let tool = tools.iter().find(|tool| tool.name == name)?;
    let named = RAW_ARGUMENTS.into_iter().find(|name| has(std::slice::from_ref(tool), name));
    if let Some(name) = named {
        return Some(name.to_owned());
    }
    let required = tool.parameters["required"].as_array()?;
    let mut missing =
        required.iter().filter_map(Value::as_str).filter(|name| !given.contains_key(*name));
    match (missing.next(), missing.next()) {
        (Some(only), None) => Some(only.to_owned()),
        _ => None,
    }
}

/// The answer with the tool call that its text has.
pub(crate) fn read(mut answer: ModelAnswer, tools: &[ToolSpec]) -> ModelAnswer {
    if answer.stop != StopReason::End || tools.is_empty() {
        return answer;
    }
    let found = blocks(&answer.text);
    let found = found.iter().find_map(|block| Some((block.start, tool_call(block, tools)?)));
    if let Some((start, call)) = found {
        answer.text.truncate(start);
        answer.text.truncate(answer.text.trim_end().len());
        answer.tool_calls = vec![call];
        answer.stop = StopReason::ToolCalls;
    }
    answer
}

fn is_marked(info: &str) -> bool {
    info.split_whitespace().next() == Some(INFO)
}

fn tool_call(block: &FencedBlock, tools: &[ToolSpec]) -> Option<AnsweredToolCall> {
    let call = |name: &str, arguments: String| AnsweredToolCall {
        provider_id: None,
        name: name.to_owned(),
        arguments,
    };
    let mut values = Deserializer::from_str(&block.content).into_iter::<Map<String, Value>>();
    let head = values.next().and_then(Result::ok);
    let rest = block.content.get(values.byte_offset()..).unwrap_or_default();
    let marked = is_marked(&block.info);
    let named = head.and_then(|mut head| {
        let key = if marked && !head.contains_key("tool") { "name" } else { "tool" };
        match head.remove(key)? {
            Value::String(name) => Some((name, head)),
            _ => None,
        }
    });
    let Some((name, mut head)) = named else {
        return marked.then(|| call(UNREADABLE, json!({ "block": block.content }).to_string()));
    };
    let mut arguments = match head.remove("arguments") {
        Some(Value::Object(arguments)) => arguments,
        Some(other) => return Some(call(&name, other.to_string())),
        None => head,
    };
    let raw = rest.split_once('\n').map_or(
        rest,
        |(line, below)| {
            if line.trim().is_empty() { below } else { rest }
        },
    );
    if !raw.trim().is_empty()
        && let Some(argument) = raw_argument(&name, &arguments, tools)
    {
        arguments.insert(argument, json!(raw));
    }
    Some(call(&name, Value::Object(arguments).to_string()))
}

/// Passes on what is no tool call.
pub(crate) struct ProseSink<'a> {
    inner: &'a mut dyn TokenSink,
    /// The last line, as far as it is there.
    line: String,
    /// How much of it has been passed on, in bytes.
    passed: usize,
    open: Option<FenceMark>,
    is_over: bool,
}

impl<'a> ProseSink<'a> {
    pub(crate) fn new(inner: &'a mut dyn TokenSink) -> Self {
        Self { inner, line: String::new(), passed: 0, open: None, is_over: false }
    }

    fn pass(&mut self) {
        let rest = &self.line[self.passed..];
        if !rest.is_empty() {
            self.inner.text(rest);
            self.passed = self.line.len();
        }
    }

    fn line_ended(&mut self) {
        let line = self.line.trim_end_matches(['\n', '\r']);
        match self.open {
            Some(fence) if fence.is_closed_by(line) => self.open = None,
            Some(_) => {}
            None => {
                if let Some((fence, info)) = FenceMark::opened_by(line) {
                    self.is_over = is_marked(info);
                    self.open = Some(fence);
                }
            }
        }
        if !self.is_over {
            self.pass();
        }
        self.line.clear();
        self.passed = 0;
    }

    /// Passes on what was held back.
    pub(crate) fn finish(mut self) {
        if !self.line.is_empty() {
            self.line_ended();
        }
    }
}

impl TokenSink for ProseSink<'_> {
    fn text(&mut self, part: &str) {
        for piece in part.split_inclusive('\n') {
            if self.is_over {
                return;
            }
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                self.line_ended();
            } else if self.open.is_some() || !may_become_fence(&self.line) {
                self.pass();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::model::{ModelEndpoint, ModelParameters, ModelProtocol, ToolProtocol};
    use uuid::Uuid;

    use super::*;

    fn tools() -> Vec<ToolSpec> {
        let tool = |name: &str, parameters: Value| ToolSpec {
            name: name.to_owned(),
            description: format!("Does {name}."),
            parameters,
        };
        vec![
            tool(
                "write_file",
                json!({ "properties": { "path": {}, "content": {} }, "required": ["path", "content"] }),
            ),
            tool("run", json!({ "properties": { "language": {}, "code": {} } })),
            tool("ask", json!({ "properties": { "question": {} }, "required": ["question"] })),
            tool("list_files", json!({ "properties": { "path": {} } })),
        ]
    }

    fn answer(text: &str) -> ModelAnswer {
        let answer = ModelAnswer {
            text: text.to_owned(),
            tool_calls: Vec::new(),
            stop: StopReason::End,
            usage: None,
            answered_by: None,
            provider_id: None,
        };
        read(answer, &tools())
    }

    fn called(text: &str) -> (String, Value) {
        let call = answer(text).tool_calls.remove(0);
        (call.name, serde_json::from_str(&call.arguments).unwrap())
    }

    #[test]
    fn the_first_block_that_names_a_tool_is_the_call_and_the_rest_is_dropped() {
        let text = "I look.\n\n```py\nprint()\n```\n\n````tool\n{\"tool\": \"write_file\", \"arguments\": {\"path\": \"a.md\"}}\n```\nx \"y\" \\n\n```\n````\nDone!\n```tool\n{\"tool\":\"run\"}\n```\n";
        let found = answer(text);
        assert_eq!(found.text, "I look.\n\n```py\nprint()\n```");
        assert_eq!((found.tool_calls.len(), found.stop), (1, StopReason::ToolCalls));
        let expected = json!({ "path": "a.md", "content": "```\nx \"y\" \\n\n```\n" });
        assert_eq!(called(text), ("write_file".to_owned(), expected));
    }

    #[test]
    fn small_models_forms_of_a_call_are_read() {
        let run = |arguments: Value| ("run".to_owned(), arguments);
        let code = json!({ "language": "python", "code": "print(1)\n" });
        for text in [
            "```tool\n{\"tool\": \"run\", \"arguments\": {\"language\": \"python\"}}\nprint(1)\n```",
            "```tool\n{\"tool\": \"run\", \"language\": \"python\"}\nprint(1)",
            "```json\n{\n  \"tool\": \"run\",\n  \"arguments\": {\"language\": \"python\", \"code\": \"print(1)\\n\"}\n}\n```",
            "~~~tool\n{\"name\": \"run\", \"arguments\": {\"language\": \"python\"}}\nprint(1)\n~~~",
        ] {
            assert_eq!(called(text), run(code.clone()), "{text}");
        }
        let asked = called("```tool\n{\"tool\": \"ask\"}\nWhich one?\n```");
        assert_eq!(asked, ("ask".to_owned(), json!({ "question": "Which one?\n" })));
        let listed = called("```tool\n{\"tool\": \"list_files\", \"arguments\": {}}\n\n```");
        assert_eq!(listed, ("list_files".to_owned(), json!({})));
    }

    #[test]
    fn an_unreadable_call_is_a_call_and_other_blocks_are_text() {
        let (name, arguments) = called("```tool\n{\"tool\": run}\n```");
        assert_eq!((&*name, &arguments["block"]), (UNREADABLE, &json!("{\"tool\": run}\n")));
        for text in ["no block", "```json\n{\"name\": \"x\"}\n```", "```py\nx = {}\n```"] {
            let found = answer(text);
            assert_eq!((&*found.text, found.stop), (text, StopReason::End));
        }
        let cut = ModelAnswer { stop: StopReason::Length, ..answer("x") };
        let text = "```tool\n{\"tool\": \"run\"}\n".to_owned();
        let cut = read(ModelAnswer { text, ..cut }, &tools());
        assert_eq!((cut.tool_calls.len(), cut.stop), (0, StopReason::Length));
    }

    #[test]
    fn a_conversation_with_tools_becomes_one_of_texts() {
        let id = ToolCallId(Uuid::nil());
        let arguments = json!({ "path": "a.md", "content": "```\nx\n```" }).to_string();
        let tool_calls =
            vec![ToolCall { id, provider_id: None, name: "write_file".to_owned(), arguments }];
        let result = "``` closed\nand more".to_owned();
        let messages = vec![
            ChatMessage::System { text: "You work.".to_owned() },
            ChatMessage::User { text: "Do it.".to_owned() },
            ChatMessage::Assistant { text: "So:".to_owned(), tool_calls },
            ChatMessage::Tool { call: id, text: result.clone(), is_error: true },
        ];
        let call = ModelCall {
            endpoint: ModelEndpoint {
                model: "llamacpp/x".to_owned(),
                url: "http://127.0.0.1:1/v1".to_owned(),
                protocol: ModelProtocol::ChatCompletions,
                tools: ToolProtocol::Text,
            },
            parameters: ModelParameters {
                temperature_milli: None,
                seed: None,
                output_tokens_max: 10,
                context_tokens: 100,
            },
            messages: messages.into_iter().map(Arc::new).collect(),
            tools: tools().into(),
            schema: None,
        };
        let rewritten = rewritten(&call);
        assert!(rewritten.tools.is_empty());
        let [system, _, assistant, result] = &rewritten.messages[..] else {
            panic!("{rewritten:?}")
        };
        let ChatMessage::System { text } = &**system else { panic!("{system:?}") };
        assert!(text.starts_with("You work.\n\n# Tools") && text.contains("## write_file"));
        let ChatMessage::Assistant { text, tool_calls } = &**assistant else { panic!() };
        assert!(tool_calls.is_empty());
        let (_, arguments) = called(text);
        assert_eq!(arguments, json!({ "path": "a.md", "content": "```\nx\n```\n" }));
        let ChatMessage::User { text } = &**result else { panic!("{result:?}") };
        assert!(text.starts_with("Result of the tool `write_file`, which failed:\n````\n"));
        assert_eq!(blocks(text)[0].content, "``` closed\nand more\n", "its fence holds");
    }

    #[derive(Default)]
    struct Collected(String);

    impl TokenSink for Collected {
        fn text(&mut self, part: &str) {
            self.0.push_str(part);
        }
    }

    #[test]
    fn what_is_shown_ends_where_the_tool_call_begins_however_it_arrives() {
        let text =
            "So `x`:\n\n```py\n```tool\n1\n```\n  \n~~ y\n```tool\n{\"tool\": \"run\"}\n```\nmore";
        let shown = &text[..text.find("```tool\n{").unwrap()];
        for size in [1, 2, 5, 1_000] {
            let mut collected = Collected::default();
            let mut sink = ProseSink::new(&mut collected);
            text.as_bytes().chunks(size).for_each(|part| sink.text(str::from_utf8(part).unwrap()));
            sink.finish();
            assert_eq!(collected.0, shown, "{size}");
        }
        let mut collected = Collected::default();
        let mut sink = ProseSink::new(&mut collected);
        sink.text("``");
        sink.finish();
        assert_eq!(collected.0, "``");
    }
}
