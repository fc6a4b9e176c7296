//! The factory as an agent of the Synadia Agent Protocol 0.3 (docs/agents.md); `§` refers to the
//! sections of its `core-protocol.md`.

use serde_json::{Value, json};

use super::{AsyncApi, JSON, TEXT, to};
use crate::{limit::GOAL_BYTES_MAX, subject::operation};

/// The queue group in which instances of one agent share requests (§3.3).
const QUEUE_GROUP: &str = "agents";
/// Last messages of every reply stream: possibly a refusal, and always the end.
const ENDINGS: [&str; 2] = ["agent.refusal", "agent.end"];

/// An object with these properties; `required` has the names of the mandatory ones.
fn object(required: &[&str], properties: &Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

impl AsyncApi {
    pub(super) fn agent(&mut self) {
        self.agent_messages();
        let cancel = operation::SUPERVISOR_CANCEL.to_string();
        let (asked, answered) = (format!("{cancel}.request"), format!("{cancel}.answer"));
        let prompts = ["agent.prompt.text", "agent.prompt.json"];
        let about = "Prompt the agent: a prompt is a goal. The answer is a stream (§6): `ack`, a status for each event of the session, its \
                     result, the empty end.";
        let answers = [&["agent.status", "agent.query", "agent.response"][..], &ENDINGS].concat();
        self.endpoint("prompt", about, &prompts, &answers);
        self.question();
        let about = "The content of a heartbeat, on request (§8.7).";
        self.endpoint(
            "status",
            about,
            &["agent.status.request", "agent.anything"],
            &["agent.heartbeat", "agent.refusal"],
        );
        let about = "Cancel a session. Not part of the protocol.";
        self.endpoint("cancel", about, &[&asked], &[&answered, "agent.refusal"]);
        let about = "The events behind a position, as a stream. Not part of the protocol.";
        let answers = [&["agent.event", "agent.status"][..], &ENDINGS].concat();
        self.endpoint("events", about, &["agent.events.request"], &answers);

        let about =
            "A heartbeat (§8): at start, with each new connection, and every `agent_heartbeat_s`.";
        self.agent_channel("hb", about, &["agent.heartbeat"]);
        self.operations.insert(
            "agent.hb".to_owned(),
            json!({
                "action": "send",
                "summary": about,
                "channel": to("channels/agent.hb"),
                "messages": [to("channels/agent.hb/messages/agent.heartbeat")],
            }),
        );
    }

    /// Adds the subject for the answer to a question in the middle of a stream (§7.2).
    fn question(&mut self) {
        let about = "The answer to a question: the `reply_subject` of its chunk. The first one counts (§7.2).";
        let answers = ["agent.answer.text", "agent.answer.json"];
        let name = self.agent_channel("answer", about, &answers);
        let address = "agents.answer.ai-factory.{owner}.{name}.{question}";
        self.channels[&name]["address"] = json!(address);
        self.channels[&name]["parameters"]["question"] =
            json!({ "description": "The question's `id`, without dashes." });
        let message = |answer: &str| to(&format!("channels/agent.answer/messages/{answer}"));
        self.operations.insert(
            name,
            json!({
                "action": "receive",
                "summary": about,
                "channel": to("channels/agent.answer"),
                "messages": answers.map(message),
            }),
        );
    }

    /// Adds an endpoint of the agent: its requests, and the messages of its answers.
    fn endpoint(&mut self, verb: &str, about: &str, requests: &[&str], answers: &[&str]) {
        let name = self.agent_channel(verb, about, requests);
        self.receives(&name, about, requests, answers);
        self.operations[&name]["bindings"]["nats"]["queue"] = json!(QUEUE_GROUP);
    }

    /// Adds the channel `agents.VERB.ai-factory.OWNER.NAME` (§2); returns its name in the document.
    fn agent_channel(&mut self, verb: &str, about: &str, messages: &[&str]) -> String {
        let name = format!("agent.{verb}");
        let address = format!("agents.{verb}.ai-factory.{{owner}}.{{name}}");
        self.channel(&name, Some(&address), about, messages);
        self.channels[&name]["parameters"] = json!({
            "owner": { "description": "The setting `agent_owner`, else the user that the factory runs as." },
            "name": { "description": "The setting `agent_name`, else `node`." },
        });
        name
    }

    fn agent_messages(&mut self) {
        let text = |about: &str| json!({ "type": "string", "description": about });
        let count = |least: u64| json!({ "type": "integer", "minimum": least });
        let uuid = json!({ "type": "string", "format": "uuid" });
        let about = "A prompt as plain text (§5.1).";
        let longest = format!("At most {GOAL_BYTES_MAX} bytes of UTF-8.");
        let prompt = json!({ "type": "string", "minLength": 1, "description": longest });
        self.message("agent.prompt.text", about, TEXT, "RequestHeaders", prompt.clone());
        let envelope =
            json!({ "prompt": prompt, "attachments": { "type": "array", "maxItems": 0 } });
        let envelope = object(&["prompt"], &envelope);
        let about = "A prompt in its envelope (§5.1). Unknown fields are ignored.";
        self.message("agent.prompt.json", about, JSON, "RequestHeaders", envelope);
        self.message("agent.anything", "Any body: it is ignored.", TEXT, "", json!(true));

        let status = json!({
            "type": { "const": "status" },
            "data": text("`ack`, `working`, `end`, `event_too_large`, or the name of an event."),
            "session_id": uuid, "position": count(1), "step": count(0),
            "status": text("How the session went."), "after": count(0), "head": count(0), "bytes": count(0),
            "instance_id": text("The instance whose journal has the positions."),
        });
        let status = object(&["type", "data"], &status);
        self.message("agent.status", "A status (§6.4).", JSON, "", status);
        let question = json!({
            "id": uuid, "reply_subject": text("The subject for the answer."), "prompt": text("The question."),
        });
        let question = object(&["id", "reply_subject", "prompt"], &question);
        let query = json!({ "type": { "const": "query" }, "data": question });
        let query = object(&["type", "data"], &query);
        let about = "Whether to repeat a step whose end a crash left unknown (§7.1).";
        self.message("agent.query", about, JSON, "", query);
        let word = json!({ "type": "string", "description": "`repeat` or `skip`." });
        let about = "The decision, as plain text (§7.2).";
        self.message("agent.answer.text", about, TEXT, "", word.clone());
        let answer = object(&["prompt"], &json!({ "prompt": word }));
        self.message("agent.answer.json", "The same in an envelope (§5.1).", JSON, "", answer);
        let response =
            json!({ "type": { "const": "response" }, "data": text("A piece of the result.") });
        let response = object(&["type", "data"], &response);
        self.message("agent.response", "A piece of the result (§6.3).", JSON, "", response);
        let event =
            json!({ "type": { "const": "event" }, "data": to("components/schemas/CloudEvent") });
        let event = object(&["type", "data"], &event);
        self.message("agent.event", "A recorded event.", JSON, "", event);
        let end = json!({ "type": "string", "maxLength": 0 });
        self.message("agent.end", "The end of a stream (§6.5): no headers.", TEXT, "", end);
        let refusal = json!({
            "error": text("The class of the error (§9.2)."),
            "message": text("What is wrong."),
            "retry_after_s": { "type": "number", "minimum": 0 },
        });
        let refusal = object(&["error"], &refusal);
        self.message(
            "agent.refusal",
            "Why the request failed (§9).",
            JSON,
            "ProblemHeaders",
            refusal,
        );
        let beat = json!({
            "agent": { "const": "ai-factory" }, "owner": text("As in the subject."),
            "session": text("The name in the subject."), "instance_id": text("The service's id."),
            "ts": { "type": "string", "format": "date-time" }, "interval_s": count(1),
        });
        let required = ["agent", "owner", "session", "instance_id", "ts", "interval_s"];
        let beat = object(&required, &beat);
        self.message("agent.heartbeat", "A heartbeat (§8.3).", JSON, "", beat);
        let instance = text("The instance: the `instance_id` of its heartbeat.");
        let about = "The instance to ask; any if it is missing.";
        let asked = object(&[], &json!({ "instance_id": instance }));
        self.message("agent.status.request", about, JSON, "", asked);
        let asked = json!({ "after": count(0), "session_id": uuid, "limit": count(1), "instance_id": instance });
        let about = "The events to read: behind `after`, of one session or of all.";
        self.message("agent.events.request", about, JSON, "", object(&[], &asked));
    }
}
