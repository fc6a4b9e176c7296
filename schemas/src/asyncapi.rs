//! The bus as an AsyncAPI 3.0 document (`schemas/asyncapi.yaml`), made from the Rust types: what to
//! publish, request and subscribe to.
//!
//! *Promises.* Every operation and every event type is in it. It is written from the factory's
//! side: the factory *receives* goals and requests and *sends* events.
//!
//! *Limits.* NATS carries the reply subject beside the headers, which AsyncAPI cannot reference:
//! channels of answers have no address.

mod agent;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    answer,
    catalogue::{Contract, OPERATIONS},
    envelope::{CONTENT_TYPE, SCHEMA_PREFIX, TYPE_PREFIX},
    event::event_payloads,
    limit::GOAL_BYTES_MAX,
    problem::ProblemBody,
    request,
    subject::{DEFAULT_PREFIX, Subjects, operation},
};

/// The first line of the file.
const HEADING: &str = "# Made from the Rust types by `generate-schemas`. Do not edit.\n";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
/// Message names of the two forms of a goal.
const GOALS: [&str; 2] = ["goal.json", "goal.text"];

/// The document as the text of `schemas/asyncapi.yaml`.
pub fn file() -> Result<String, serde_saphyr::ser::Error> {
    Ok(HEADING.to_owned() + &serde_saphyr::to_string(&document())?)
}

/// The document.
pub fn document() -> Value {
    let mut document = AsyncApi::new();
    document.headers();
    document.goals();
    for contract in OPERATIONS {
        document.operation(contract);
    }
    document.events();
    document.streams();
    document.agent();
    document.finish()
}

/// A reference to something in the document.
fn to(path: &str) -> Value {
    json!({ "$ref": format!("#/{path}") })
}

/// The parts of the document.
struct AsyncApi {
    generator: SchemaGenerator,
    schemas: Map<String, Value>,
    messages: Map<String, Value>,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    subjects: Subjects,
}

impl AsyncApi {
    fn new() -> Self {
        // AsyncAPI's own schema object is a superset of draft 07.
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            generator: settings.into_generator(),
            schemas: Map::new(),
            messages: Map::new(),
            channels: Map::new(),
            operations: Map::new(),
            subjects: Subjects::default(),
        }
    }

    fn headers(&mut self) {
        let header = |about: &str| json!({ "type": "string", "description": about });
        let id = header(
            "The key under which the message takes effect at most once. JetStream drops repeats of it.",
        );
        let request_id =
            header("The caller's name for the request; the answer and every record carry it.");
        let traceparent = header("W3C Trace Context.");
        let code = header("The status, as in HTTP (NATS ADR-32).");
        let sentence = header("What is wrong, as one sentence (NATS ADR-32).");
        let retry_after = header("When to try again, in seconds, possibly with decimals.");
        let submitter =
            header("The submitter of a goal as claimed by the sender: recorded, not verified.");
        let position = header("The event's position in its journal.");
        let journal = header("The journal: the id of its first event.");
        self.schema(
            "RequestHeaders",
            json!({ "type": "object", "properties": {
                "Nats-Msg-Id": id, "X-Request-ID": request_id, "traceparent": traceparent,
                "Factory-Submitter": submitter,
            }}),
        );
        self.schema(
            "ProblemHeaders",
            json!({
                "type": "object",
                "required": ["Nats-Service-Error", "Nats-Service-Error-Code"],
                "properties": {
                    "Nats-Service-Error-Code": code, "Nats-Service-Error": sentence,
                    "Retry-After": retry_after,
                },
            }),
        );
        self.schema(
            "EventHeaders",
            json!({
                "type": "object",
                "required": ["Nats-Msg-Id"],
                "properties": {
                    "Nats-Msg-Id": id, "traceparent": traceparent,
                    "Factory-Position": position, "Factory-Journal": journal,
                },
            }),
        );
    }

    fn schema(&mut self, name: &str, schema: Value) {
        self.schemas.insert(name.to_owned(), schema);
    }

    /// Adds a message whose payload is the schema of the same name.
    fn message(
        &mut self,
        name: &str,
        about: &str,
        content_type: &str,
        headers: &str,
        payload: Value,
    ) {
        self.schema(name, payload);
        let mut message = json!({
            "name": name,
            "summary": about,
            "contentType": content_type,
            "payload": to(&format!("components/schemas/{name}")),
        });
        if !headers.is_empty() {
            message["headers"] = to(&format!("components/schemas/{headers}"));
        }
        self.messages.insert(name.to_owned(), message);
    }

    /// Adds a channel for these messages; without an address if it is for answers.
    fn channel(&mut self, name: &str, address: Option<&str>, about: &str, messages: &[&str]) {
        let messages: Map<_, _> = messages
            .iter()
            .map(|message| ((*message).to_owned(), to(&format!("components/messages/{message}"))))
            .collect();
        let channel = json!({ "address": address, "description": about, "messages": messages });
        self.channels.insert(name.to_owned(), channel);
    }

    /// Adds an operation: what the factory receives on the channel `name`, and its answers.
    fn receives(&mut self, name: &str, about: &str, messages: &[&str], answers: &[&str]) {
        let within = |channel: &str, messages: &[&str]| -> Vec<_> {
            messages
                .iter()
                .map(|message| to(&format!("channels/{channel}/messages/{message}")))
                .collect()
        };
        let reply = format!("{name}.reply");
        self.channel(&reply, None, "The reply subject of the request.", answers);
        self.operations.insert(
            name.to_owned(),
            json!({
                "action": "receive",
                "summary": about,
                "channel": to(&format!("channels/{name}")),
                "messages": within(name, messages),
                "reply": {
                    "channel": to(&format!("channels/{reply}")),
                    "messages": within(&reply, answers),
                },
                "bindings": { "nats": { "queue": "q", "bindingVersion": "0.1.0" } },
            }),
        );
    }

    fn goals(&mut self) {
        let problem = self.generator.subschema_for::<ProblemBody>().to_value();
        self.message("problem", "Why the request failed.", JSON, "ProblemHeaders", problem);
        let goal = self.generator.subschema_for::<request::Goal>().to_value();
        let goal = json!({ "allOf": [goal, { "required": ["goal"] }] });
        let [as_json, as_text] = GOALS;
        let about = "A goal as a JSON object: the first character that is not white space is `{`.";
        self.message(as_json, about, JSON, "RequestHeaders", goal);
        let text = json!({
            "type": "string",
            "minLength": 1,
            "description": format!("Not blank, no NUL character, at most {GOAL_BYTES_MAX} bytes of UTF-8."),
        });
        self.message(as_text, "A goal as plain text.", TEXT, "RequestHeaders", text);
        let submitted = self.generator.subschema_for::<answer::Submitted>().to_value();
        self.message("goals.submitted", "The session, without JetStream.", JSON, "", submitted);
        let stored = json!({
            "type": "object",
            "required": ["stream", "seq"],
            "properties": {
                "stream": { "type": "string" },
                "seq": { "type": "integer", "minimum": 1 },
                "duplicate": { "type": "boolean" },
                "domain": { "type": "string" },
            },
        });
        let about = "The publish acknowledgement of JetStream, which keeps the goal until a factory has it on disk.";
        self.message("goals.stored", about, JSON, "", stored);
        let about = "Publish a goal. A reply subject is optional.";
        let address = format!("{DEFAULT_PREFIX}.goals");
        self.channel("goals", Some(&address), about, &GOALS);
        self.receives("goals", about, &GOALS, &["goals.submitted", "goals.stored", "problem"]);
    }

    fn operation(&mut self, contract: &Contract) {
        let name = contract.operation.to_string();
        let about = operation::about(contract.operation);
        let answered = format!("{name}.answer");
        let answer = contract.answer.within(&mut self.generator).to_value();
        self.message(&answered, "The answer.", JSON, "", answer);
        let asked = format!("{name}.request");
        let requests: &[&str] = if contract.is_goal_or_text { &GOALS } else { &[&asked] };
        if !contract.is_goal_or_text {
            let request = contract.request.within(&mut self.generator).to_value();
            self.message(&asked, "The request.", JSON, "RequestHeaders", request);
        }
        let address = self.subjects.operation(contract.operation);
        self.channel(&name, Some(address.as_str()), about, requests);
        self.receives(&name, about, requests, &[&answered, "problem"]);
    }

    fn events(&mut self) {
        let text = |about: &str| json!({ "type": "string", "description": about });
        let uuid =
            |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
        let count = |about: &str| json!({ "type": "integer", "minimum": 1, "description": about });
        self.schema(
            "CloudEvent",
            json!({
                "type": "object",
                "description": "A recorded event: CloudEvents 1.0 in JSON, the bytes that are on disk.",
                "required": [
                    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
                    "schemaversion", "stream", "streamversion", "position", "chainhash", "data",
                ],
                "properties": {
                    "specversion": { "const": "1.0" },
                    "id": uuid("The event's id."),
                    "source": text("The node that recorded it."),
                    "type": text("The wire type with its version."),
                    "subject": uuid("The id in the stream's name, as in the subject's last token but one."),
                    "time": { "type": "string", "format": "date-time" },
                    "datacontenttype": { "const": JSON },
                    "dataschema": text("The schema of `data`."),
                    "schemaversion": count("The version of that schema."),
                    "stream": text("The stream: category and id."),
                    "streamversion": count("Its version in the stream, gapless."),
                    "position": count("Its position in the journal, gapless: resume after it."),
                    "causationid": uuid("The event or message that caused it."),
                    "correlationid": uuid("The session that it belongs to, if there is one."),
                    "traceparent": text("W3C Trace Context."),
                    "chainhash": text("BLAKE3 over the hash before it and all members before this one."),
                    "data": true,
                },
            }),
        );
        for (name, version, payload) in event_payloads(&mut self.generator) {
            let (category, verb) = name.split_once('.').unwrap_or((name, ""));
            let about = format!("`{name}`, version {version}.");
            let envelope = json!({
                "allOf": [to("components/schemas/CloudEvent"), { "properties": {
                    "type": { "const": format!("{TYPE_PREFIX}{name}.v{version}") },
                    "dataschema": { "const": format!("{SCHEMA_PREFIX}{name}.v{version}") },
                    "schemaversion": { "const": version },
                    "data": payload.to_value(),
                }}],
            });
            self.message(name, &about, CONTENT_TYPE, "EventHeaders", envelope);
            let address = format!("{DEFAULT_PREFIX}.events.{category}.{{id}}.{verb}");
            self.channel(name, Some(&address), &about, &[name]);
            let id = format!("Which {category}: a UUID, or `*` for each.");
            self.channels[name]["parameters"] = json!({ "id": { "description": id } });
            let channel = format!("channels/{name}");
            self.operations.insert(
                name.to_owned(),
                json!({
                    "action": "send",
                    "summary": about,
                    "channel": to(&channel),
                    "messages": [to(&format!("{channel}/messages/{name}"))],
                }),
            );
        }
    }

    fn streams(&mut self) {
        const NAME: &str = "stream.part";
        let about = "What a session's model says while it says it: lossy, never in JetStream.";
        let part = self.generator.subschema_for::<answer::StreamPart>().to_value();
        self.message(NAME, about, JSON, "", part);
        self.channel(NAME, Some(&format!("{DEFAULT_PREFIX}.stream.{{id}}")), about, &[NAME]);
        let id = "Which session: a UUID, or `*` for each.";
        self.channels[NAME]["parameters"] = json!({ "id": { "description": id } });
        self.operations.insert(
            NAME.to_owned(),
            json!({
                "action": "send",
                "summary": about,
                "channel": to(&format!("channels/{NAME}")),
                "messages": [to(&format!("channels/{NAME}/messages/{NAME}"))],
            }),
        );
    }

    fn finish(mut self) -> Value {
        self.schemas.extend(self.generator.take_definitions(true));
        json!({
            "asyncapi": "3.0.0",
            "id": "urn:ai-factory:bus",
            "info": {
                "title": "The bus of the AI factory",
                "version": env!("CARGO_PKG_VERSION"),
                "description": format!(
                    "Goals come in, requests are answered, and every recorded event is published once it is on disk, \
                     in the order of the journal and at least once. Subjects begin with the setting `prefix`, here \
                     `{DEFAULT_PREFIX}`. A refusal is a message with the headers `Nats-Service-Error-Code` and \
                     `Nats-Service-Error`. All events: `{}`. On `agents.>` the factory is an agent of the Synadia \
                     Agent Protocol 0.3: `docs/agents.md`.",
                    self.subjects.events().as_str(),
                ),
                "license": { "name": "MIT OR Apache-2.0" },
            },
            "defaultContentType": JSON,
            "servers": {
                "local": {
                    "host": "127.0.0.1:4222",
                    "protocol": "nats",
                    "description": "A NATS server on this machine, as `up --start-nats` starts it.",
                },
            },
            "channels": self.channels,
            "operations": self.operations,
            "components": { "schemas": self.schemas, "messages": self.messages },
        })
    }
}
