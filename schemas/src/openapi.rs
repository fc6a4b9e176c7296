//! The OpenAPI 3.1 document of the HTTP server, made from the table of routes and the Rust types.
//!
//! *Limits.* Status 405 is not in it: OpenAPI describes existing methods. A problem's status is
//! documented for every route that may answer it, its sentence is not.

use std::collections::BTreeSet;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    catalogue,
    id::{CommandId, RequestId, SessionRef},
    limit::{FILE_NAME_BYTES_MAX, UPLOAD_PART_BYTES_MAX},
    route::{
        Method, Page, Parameter, ParameterLocation, ParameterType, ROUTES, RequestBody, Route,
        Target,
    },
};

/// The media type of a file's bytes.
const BYTES: &str = "application/octet-stream";

/// Every problem of the HTTP server: its status, its meaning, an example of its detail.
const PROBLEMS: &[(u16, &str, &str)] = &[
    (400, "The request is invalid.", "`goal` is missing or blank: say what is to be done"),
    (401, "The token is missing or wrong.", "send the header `Authorization: Bearer TOKEN`"),
    (
        403,
        "`Host`, `Origin` or `Sec-Fetch-Site` is not this server's own.",
        "the origin `http://other.example` may not use this server",
    ),
    (404, "It does not exist.", "there is no session 019a0000-0000-7000-8000-000000000004"),
    (
        408,
        "The body did not arrive in time.",
        "the body did not arrive within 30000 ms: send it faster",
    ),
    (
        409,
        "It conflicts with the present state.",
        "the key `k` was already used for a different request: use a new key",
    ),
    (
        413,
        "The body, or a text in it, is too large.",
        "the body is too large: at most 1048576 bytes",
    ),
    (414, "The address is too long.", "the address is too long: at most 16384 bytes"),
    (
        415,
        "The body is not of the route's media type, or it has a content coding; then the answer has `Accept-Encoding`.",
        "send the header `Content-Type: application/json`",
    ),
    (422, "The body, a field of it, or a parameter is invalid.", ""),
    (431, "The headers are too many or too long.", "too many headers: at most 64"),
    (500, "A fault of the server.", "the server failed: its log says why"),
    (
        503,
        "No capacity at the moment, or a required part does not work.",
        "256 sessions are under way already: try again",
    ),
    (504, "The time limit passed.", "no answer on `factory.debugger.run` within 180000 ms"),
];

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_lowercase()] = describe(route, &mut generator);
    }
    let request_id = generator.subschema_for::<RequestId>();
    let key = generator.subschema_for::<CommandId>();
    let problems =
        PROBLEMS.iter().map(|problem| (problem.0.to_string(), refusal(problem, &mut generator)));
    let responses: Map<String, Value> =
        problems.map(|(status, answer)| (format!("Problem{status}"), answer)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AI Factory",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A goal comes in, a session comes out.",
            "description": "Every operation is also a request on the bus: `/planner/dispatch` is `factory.planner.dispatch`, \
                with the same body. Every answer to a request that could be parsed has the headers `X-Request-ID` and `X-Duration`; \
                what cannot be parsed is refused with a status alone. HEAD is answered wherever GET is.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "bearer": [] }],
        "tags": groups(),
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": responses,
            "headers": {
                "RequestId": { "description": "The request's id: the caller's own if it is valid, otherwise a new one.", "required": true, "schema": request_id },
                "Duration": { "description": "The duration in seconds, with 3 decimals.", "required": true, "schema": { "type": "string", "pattern": "^[0-9]+\\.[0-9]{3}$" } },
            },
            "parameters": {
                "RequestId": { "name": "X-Request-ID", "in": "header", "description": "The caller's name for the request: 1 to 128 of letters, digits and `-_.:`. Anything else is replaced.", "schema": { "type": "string" } },
                "IdempotencyKey": { "name": "Idempotency-Key", "in": "header", "description": "The key under which the request takes effect at most once; a repetition gets the first answer.", "schema": key },
                "FactorySubmitter": { "name": "Factory-Submitter", "in": "header", "description": "The submitter of the goal as claimed by the sender: recorded, not verified.", "schema": { "type": "string" } },
                "Traceparent": { "name": "traceparent", "in": "header", "description": "W3C trace context.", "schema": { "type": "string" } },
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "The server's token, if it has one." },
            },
        },
    })
}

/// The document as it is committed and served.
pub fn text() -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&document())? + "\n")
}

fn groups() -> Vec<Value> {
    let groups: BTreeSet<_> = ROUTES.iter().map(Route::group).collect();
    groups.into_iter().map(|name| json!({ "name": name })).collect()
}

/// The route's name among all: where two have one operation, that which reads says so.
fn operation_id(route: &Route) -> String {
    let is_shared = ROUTES.iter().any(|other| {
        other.target == route.target && (other.method, other.path) != (route.method, route.path)
    });
    match (is_shared, route.method) {
        (true, Method::Get) => format!("{}.read", route.name()),
        _ => route.name(),
    }
}

fn describe(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = route.parameters.iter().map(parameter).collect();
    parameters.push(json!({ "$ref": "#/components/parameters/RequestId" }));
    parameters.push(json!({ "$ref": "#/components/parameters/Traceparent" }));
    let mut responses = Map::new();
    for status in route.successes() {
        responses.insert(status.to_string(), success(route, status, generator));
    }
    for status in route.problems() {
        let problem = json!({ "$ref": format!("#/components/responses/Problem{status}") });
        responses.insert(status.to_string(), problem);
    }
    if route.target == Target::Page(Page::Ready) {
        // The only 503 answer that is a state and not a problem.
        responses.insert("503".to_owned(), success(route, route.status, generator));
    }
    let mut described = json!({
        "operationId": operation_id(route),
        "summary": route.doc,
        "tags": [route.group()],
        "responses": responses,
    });
    if route.method == Method::Post {
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
        parameters.push(json!({ "$ref": "#/components/parameters/FactorySubmitter" }));
    }
    match route.body {
        RequestBody::None => {}
        RequestBody::FilePart => described["requestBody"] = file_part(),
        RequestBody::Json | RequestBody::Optional => {
            described["requestBody"] = request_schema(route, generator);
        }
    }
    if route.is_open() {
        described["security"] = json!([]);
    }
    described["parameters"] = parameters.into();
    described
}

fn parameter(parameter: &Parameter) -> Value {
    let place = match parameter.place {
        ParameterLocation::Query => "query",
        ParameterLocation::Path => "path",
        ParameterLocation::Header => "header",
    };
    let schema = match parameter.kind {
        ParameterType::Text => json!({ "type": "string", "minLength": 1 }),
        ParameterType::FilePath => {
            json!({ "type": "string", "minLength": 1, "maxLength": FILE_NAME_BYTES_MAX })
        }
        ParameterType::Hash => json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }),
        ParameterType::Count { default, max } => {
            json!({ "type": "integer", "minimum": 1, "maximum": max, "default": default })
        }
        ParameterType::Choice(words) => json!({ "type": "string", "enum": words }),
        ParameterType::Time => json!({ "type": "string", "description": "RFC 3339, or a date" }),
        ParameterType::Position | ParameterType::Bytes => {
            json!({ "type": "integer", "minimum": 0 })
        }
        ParameterType::Request => {
            json!({ "type": "string", "maxLength": RequestId::BYTES_MAX, "pattern": "^[A-Za-z0-9_.:-]+$" })
        }
        ParameterType::Key => {
            json!({ "type": "string", "minLength": 1, "maxLength": CommandId::BYTES_MAX })
        }
        ParameterType::Session => {
            json!({ "type": "string", "minLength": 1, "maxLength": SessionRef::BYTES_MAX })
        }
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.required,
        "description": parameter.doc,
        "schema": schema,
    })
}

/// The body without the fields that are in the path.
fn request_schema(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let schema = catalogue::part(&format!("{}.request", route.name()), generator);
    let mut schema = schema.map_or(Value::Bool(true), schemars::Schema::to_value);
    if !route.parameters.is_empty() {
        let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        let definition = name.and_then(|name| generator.definitions().get(name));
        schema = definition.cloned().unwrap_or(Value::Bool(true));
        for parameter in route.parameters {
            remove_field(&mut schema, parameter.name);
        }
    }
    let mut content = json!({ "schema": schema });
    if let Some(example) = route.asked.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        content["example"] = example;
    }
    json!({ "required": route.body == RequestBody::Json, "content": { "application/json": content } })
}

fn file_part() -> Value {
    let about = format!("The bytes of the part: at most {UPLOAD_PART_BYTES_MAX}.");
    let schema = json!({ "description": about });
    json!({ "required": true, "content": { BYTES: { "schema": schema } } })
}

fn remove_field(schema: &mut Value, field: &str) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove(field);
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|name| name != field);
    }
}

fn success(route: &Route, status: u16, generator: &mut SchemaGenerator) -> Value {
    let mut headers = headers();
    let kind = match route.target {
        Target::Page(Page::Events | Page::Stream) => "text/event-stream",
        Target::File(_) => {
            headers["ETag"] = json!({ "description": "The BLAKE3 hash of the content, in quotes.", "schema": { "type": "string" } });
            BYTES
        }
        _ => "application/json",
    };
    if status == 304 {
        let about = "The file is the one that `If-None-Match` names.";
        return json!({ "description": about, "headers": headers });
    }
    if kind == BYTES {
        headers["Content-Disposition"] = json!({ "description": "`attachment`, with the file's name as RFC 8187 encodes it.", "schema": { "type": "string" } });
    }
    let schema = match (kind, catalogue::part(&format!("{}.answer", route.name()), generator)) {
        (BYTES, _) => json!({}),
        (_, Some(schema)) => schema.to_value(),
        ("application/json", None) => json!({ "type": "object" }),
        _ => json!({ "type": "string" }),
    };
    let example = match kind {
        "application/json" => serde_json::from_str(route.answered).unwrap_or_default(),
        _ => Value::from(route.answered),
    };
    if status == 202 && route.takes_json() {
        headers["Location"] = json!({ "description": "The path that shows its progress.", "schema": { "type": "string" } });
    }
    let mut content = json!({ "schema": schema });
    if status == route.status {
        content["example"] = example;
    }
    json!({ "description": route.doc, "headers": headers, "content": { kind: content } })
}

fn headers() -> Value {
    json!({
        "X-Request-ID": { "$ref": "#/components/headers/RequestId" },
        "X-Duration": { "$ref": "#/components/headers/Duration" },
    })
}

fn refusal(
    (status, meaning, sentence): &(u16, &str, &str),
    generator: &mut SchemaGenerator,
) -> Value {
    let schema = catalogue::part("problem", generator).map(schemars::Schema::to_value);
    let detail = match status {
        422 => {
            json!([{ "loc": ["query", "limit"], "msg": "must be between 1 and 100, not 0", "type": "out_of_range" }])
        }
        _ => Value::from(*sentence),
    };
    let mut headers = headers();
    if *status == 503 {
        headers["Retry-After"] = json!({ "description": "When to retry, in seconds, if that helps.", "schema": { "type": "integer", "minimum": 1 } });
    }
    if *status == 415 {
        headers["Accept-Encoding"] = json!({ "description": "`identity`, if the body has a content coding.", "schema": { "type": "string" } });
    }
    if *status == 401 {
        headers["WWW-Authenticate"] =
            json!({ "description": "`Bearer`.", "schema": { "type": "string" } });
    }
    json!({
        "description": meaning,
        "headers": headers,
        "content": { "application/json": { "schema": schema, "example": { "detail": detail } } },
    })
}
