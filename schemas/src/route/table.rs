//! The table of routes.

use super::model::{
    Method, Page, Parameter, ParameterLocation, ParameterType, RequestBody, Route, Target,
};
use crate::{
    limit::FILES_PAGE_PATHS_MAX,
    memory::{MemoryKind, SearchMode},
    subject::{Operation, operation},
};

const fn page(path: &'static str, page: Page, doc: &'static str, answered: &'static str) -> Route {
    Route {
        method: Method::Get,
        path,
        target: Target::Page(page),
        parameters: &[],
        body: RequestBody::None,
        status: 200,
        own_problems: &[],
        doc,
        asked: None,
        answered,
    }
}

const fn get(
    path: &'static str,
    operation: Operation,
    parameters: &'static [Parameter],
    doc: &'static str,
    answered: &'static str,
) -> Route {
    let target = Target::Operation(operation);
    Route { target, parameters, ..page(path, Page::Welcome, doc, answered) }
}

const fn post(
    path: &'static str,
    operation: Operation,
    doc: &'static str,
    asked: &'static str,
    answered: &'static str,
) -> Route {
    Route {
        method: Method::Post,
        body: RequestBody::Json,
        own_problems: &[409],
        asked: Some(asked),
        ..get(path, operation, &[], doc, answered)
    }
}

const fn limit(default: u32, max: u32) -> Parameter {
    count("limit", default, max, "The most results; the newest come first.")
}

const fn count(name: &'static str, default: u32, max: u32, doc: &'static str) -> Parameter {
    let kind = ParameterType::Count { default, max };
    Parameter { name, place: ParameterLocation::Query, kind, required: false, doc }
}

const fn optional(name: &'static str, kind: ParameterType, doc: &'static str) -> Parameter {
    Parameter { name, place: ParameterLocation::Query, kind, required: false, doc }
}

const SOUGHT: Parameter = Parameter {
    name: "q",
    place: ParameterLocation::Query,
    kind: ParameterType::Text,
    required: true,
    doc: "The text to find.",
};
const SEARCHING: &[Parameter] = &[
    Parameter {
        doc: "The query: words, `\"words in a row\"`, and `-word` for a word that must not occur.",
        ..SOUGHT
    },
    count("n", 3, 20, "The most results; the best come first."),
    optional("kind", ParameterType::Choice(&MemoryKind::NAMES), "Only memories of this kind."),
    optional("since", ParameterType::Time, "Only memories from this time on."),
    optional("until", ParameterType::Time, "Only memories before this time."),
    optional("tag", ParameterType::Text, "Only notes with this tag."),
    optional(
        "mode",
        ParameterType::Choice(&SearchMode::NAMES),
        "By keywords, by vectors, or by both.",
    ),
];
const SESSION: Parameter = Parameter {
    name: "id",
    place: ParameterLocation::Path,
    kind: ParameterType::Session,
    required: true,
    doc: "The session: its id, or the id of the request or the key that opened it.",
};
const OWN_ID: Parameter = Parameter { doc: "The session, by its own id.", ..SESSION };
const FILES: &[Parameter] = &[
    SESSION,
    optional(
        "after",
        ParameterType::Text,
        "Only paths behind this one in byte order: `next` of the page before.",
    ),
    count(
        "limit",
        FILES_PAGE_PATHS_MAX,
        FILES_PAGE_PATHS_MAX,
        "The most paths; a page holds what fits one message of 1 MiB.",
    ),
];
const FILE: &[Parameter] = &[
    SESSION,
    Parameter {
        name: "path",
        place: ParameterLocation::Path,
        kind: ParameterType::FilePath,
        required: true,
        doc: "The path of the file, percent-encoded; `/` between its parts may stay as it is.",
    },
    Parameter {
        name: "If-None-Match",
        place: ParameterLocation::Header,
        kind: ParameterType::Text,
        required: false,
        doc: "The `ETag` of a file that the client has: if it is still that one, the answer is 304.",
    },
];
const UPLOADING: &[Parameter] = &[
    Parameter {
        name: "hash",
        place: ParameterLocation::Path,
        kind: ParameterType::Hash,
        required: true,
        doc: "The BLAKE3 hash of the complete content.",
    },
    Parameter {
        name: "bytes",
        place: ParameterLocation::Query,
        kind: ParameterType::Bytes,
        required: true,
        doc: "The size of the complete content, in bytes.",
    },
    optional(
        "offset",
        ParameterType::Bytes,
        "Where the part begins in it, in bytes; by default 0.",
    ),
];
const LISTING_SESSIONS: &[Parameter] = &[
    limit(10, 100),
    optional(
        "request_id",
        ParameterType::Request,
        "Only sessions that the request with this id opened.",
    ),
    optional("key", ParameterType::Key, "Only the session that was opened under this key."),
];
const FOLLOWING: &[Parameter] = &[
    Parameter {
        name: "after",
        place: ParameterLocation::Query,
        kind: ParameterType::Position,
        required: false,
        doc: "The position behind which to begin; by default the journal's present end.",
    },
    Parameter {
        name: "filter",
        place: ParameterLocation::Query,
        kind: ParameterType::Text,
        required: false,
        doc: "A filter by subject, or by what follows `factory.events.` in it: `session.>`, `run.*.finished`. `*` \
              stands for one token, a final `>` for one or more. A filter that no event can match is refused.",
    },
    Parameter {
        name: "Last-Event-ID",
        place: ParameterLocation::Header,
        kind: ParameterType::Position,
        required: false,
        doc: "The position of the last event received; overrides `after`.",
    },
];

/// All routes.
pub const ROUTES: &[Route] = &[
    page(
        "/",
        Page::Welcome,
        "A greeting, and the path of the documentation.",
        r#"{"message":"AI Factory: a goal comes in, a session comes out","docs":"/docs"}"#,
    ),
    page(
        "/healthcheck",
        Page::Health,
        "The health of the factory, with every part that does not work.",
        r#"{"status":"ok","service":"ai-factory","phase":4,"version":"0.1.0","position":42,"parts":[]}"#,
    ),
    page(
        "/livez",
        Page::Live,
        "Whether the process answers. Needs no token.",
        r#"{"status":"ok"}"#,
    ),
    page(
        "/readyz",
        Page::Ready,
        "Whether requests can be served. Needs no token.",
        r#"{"status":"ok"}"#,
    ),
    page("/openapi.json", Page::OpenApi, "This document.", r#"{"openapi":"3.1.0"}"#),
    Route {
        parameters: FOLLOWING,
        own_problems: &[422],
        ..page(
            "/events",
            Page::Events,
            "Every recorded event behind a position and from then on, as server-sent events: `id` is its \
             position, `event` its CloudEvents type, `data` the recorded CloudEvents object on one line.",
            "id: 1\nevent: dev.ai-factory.plan.proposed.v1\ndata: {\"specversion\":\"1.0\"}\n\n",
        )
    },
    post(
        "/planner/dispatch",
        operation::PLANNER_DISPATCH,
        "Plan a prompt and record the plan.",
        r#"{"prompt":"Build a shop","task_type":"coding"}"#,
        r#"{"request_id":"019a0000-0000-7000-8000-000000000001","created_at":"2026-01-31T12:00:00.000000Z","task_type":"coding","steps":[{"index":0,"action":"Scaffold repo","rationale":"Everything else goes there."}],"estimated_tokens":32,"model_name":"heuristic-1","notes":"1 step."}"#,
    ),
    get(
        "/memory/logs",
        operation::MEMORY_LOGS,
        &[limit(10, 500)],
        "The newest planner dispatches, newest first.",
        r#"[{"id":1,"request_id":"019a0000-0000-7000-8000-000000000001","task_type":"coding","prompt":"Build a shop","timestamp":"2026-01-31T12:00:00.000000Z"}]"#,
    ),
    get(
        "/memory/search",
        operation::MEMORY_SEARCH,
        SEARCHING,
        "The memories nearest to the query, best first.",
        r#"{"query":"shop","results":[{"id":"019a0000-0000-7000-8000-000000000002","text":"Build a shop","distance":0.25,"kind":"dispatch","request_id":"019a0000-0000-7000-8000-000000000001","timestamp":"2026-01-31T12:00:00.000000Z","score":{"total":0.75,"keyword":4.5,"semantic":0.8},"snippet":"Build a **shop**"}]}"#,
    ),
    get(
        "/memory/snapshot",
        operation::MEMORY_SNAPSHOT,
        &[limit(100, 2000)],
        "Write the newest events to a file of JSON Lines.",
        r#"{"status":"ok","snapshot":"data/snapshots/snapshot-20260131T120000Z.jsonl"}"#,
    ),
    post(
        "/memory/remember",
        operation::MEMORY_REMEMBER,
        "Store a note for later goals to recall.",
        r#"{"text":"The kettle is blue","tags":["kitchen"]}"#,
        r#"{"request_id":"019a0000-0000-7000-8000-000000000001","id":"019a0000-0000-7000-8000-000000000002"}"#,
    ),
    post(
        "/memory/import",
        operation::MEMORY_IMPORT,
        "Store many notes, 1,000 at most. Each is checked on its own and answered at its index: its `id`, or the `status` \
         and `detail` of a problem. If every note is wrong the answer is 422.",
        r#"{"notes":[{"text":"The kettle is blue","tags":["kitchen"],"key":"kettle-1"}]}"#,
        r#"{"request_id":"019a0000-0000-7000-8000-000000000001","notes":[{"id":"019a0000-0000-7000-8000-000000000002"}]}"#,
    ),
    Route {
        own_problems: &[404, 409],
        ..post(
            "/memory/forget",
            operation::MEMORY_FORGET,
            "Forget a memory: searches do not find it any longer. The journal keeps its events.",
            r#"{"id":"019a0000-0000-7000-8000-000000000002"}"#,
            r#"{"request_id":"019a0000-0000-7000-8000-000000000001","id":"019a0000-0000-7000-8000-000000000002"}"#,
        )
    },
    Route {
        status: 202,
        body: RequestBody::Optional,
        asked: None,
        ..post(
            "/memory/rebuild",
            operation::MEMORY_REBUILD,
            "Rebuild lists and search from the journal. The present ones serve meanwhile; `/healthcheck` shows the \
             progress.",
            "{}",
            r#"{"status":"begun","events":12}"#,
        )
    },
    post(
        "/debugger/run",
        operation::DEBUGGER_RUN,
        "Run code and answer when it has ended.",
        r#"{"code":"print(1)","language":"python"}"#,
        r#"{"request_id":"019a0000-0000-7000-8000-000000000001","stdout":"1\n","stderr":"","exit_code":0,"status":"success","run_id":"019a0000-0000-7000-8000-000000000003","ended_by":"exit","attempts":1,"isolation":{"level":"process","active":["process-group"],"missing":["namespaces"]},"duration_ms":12}"#,
    ),
    get(
        "/debugger/logs",
        operation::DEBUGGER_LOGS,
        &[limit(10, 200)],
        "The newest runs, newest first.",
        r#"[{"id":2,"request_id":"019a0000-0000-7000-8000-000000000001","timestamp":"2026-01-31T12:00:00.000000Z","language":"python","status":"success","run_id":"019a0000-0000-7000-8000-000000000003"}]"#,
    ),
    get(
        "/debugger/search",
        operation::DEBUGGER_SEARCH,
        &[SOUGHT, count("n", 5, 50, "The most results; the newest come first.")],
        "The runs whose code or output contains the text, newest first.",
        r#"{"query":"print","results":[{"id":2,"request_id":"019a0000-0000-7000-8000-000000000001","language":"python","status":"success","snippet":"1\n"}]}"#,
    ),
    post(
        "/supervisor/run",
        operation::SUPERVISOR_RUN,
        "Run a goal and answer when its session is over. 202 if it goes on: a session with a model that waits for \
         somebody, or for which the time for an answer is over; `Location` is its session. With `files` or a `check` its steps share a workspace, and the \
         check alone decides whether it is a success; `protect` restores files before the check after the steps. A `check` that is a \
         string is a line of bash. Files that do not fit the body are uploaded before and named by `hash`.",
        r#"{"goal":"Think of a name for a shop","files":[{"name":"shop.txt","text":"?\n"},{"name":"tests/test_shop.py","text":"assert open('shop.txt').read()\n"}],"check":{"language":"python","code":"exec(open('tests/test_shop.py').read())"},"protect":["tests/**"]}"#,
        r#"{"request_id":"019a0000-0000-7000-8000-000000000001","goal":"Think of a name for a shop","plan":{"request_id":"019a0000-0000-7000-8000-000000000001","created_at":"2026-01-31T12:00:00.000000Z","task_type":"general","steps":[{"index":0,"action":"Think of a name for a shop","rationale":"It was asked for."}],"estimated_tokens":32,"model_name":"heuristic-1","notes":"1 step."},"context":[],"result":"no-op","status":"success","session_id":"019a0000-0000-7000-8000-000000000004","summary":"no-op","end":"completed","check":{"moment":"after","status":"success","exit_code":0,"output":""},"changed_files":[]}"#,
    ),
    Route {
        status: 202,
        ..post(
            "/supervisor/submit",
            operation::SUPERVISOR_SUBMIT,
            "Run a goal and answer as soon as it is on disk; `Location` is its session. Takes `files`, `check` and \
             `protect` as `/supervisor/run` does.",
            r#"{"goal":"Think of a name for a shop","files":[{"name":"shop.txt","text":"?\n"}],"check":{"language":"python","code":"assert open('shop.txt').read()"}}"#,
            r#"{"request_id":"019a0000-0000-7000-8000-000000000001","session_id":"019a0000-0000-7000-8000-000000000004"}"#,
        )
    },
    get(
        "/supervisor/status",
        operation::SUPERVISOR_STATUS,
        LISTING_SESSIONS,
        "The newest sessions, newest first.",
        r#"[{"id":3,"request_id":"019a0000-0000-7000-8000-000000000001","goal":"Think of a name for a shop","status":"success","timestamp":"2026-01-31T12:00:00.000000Z","session_id":"019a0000-0000-7000-8000-000000000004","end":"completed"}]"#,
    ),
    get(
        "/supervisor/history",
        operation::SUPERVISOR_HISTORY,
        LISTING_SESSIONS,
        "The newest sessions with their summaries, newest first.",
        r#"[{"id":3,"request_id":"019a0000-0000-7000-8000-000000000001","goal":"Think of a name for a shop","status":"success","summary":"no-op","session_id":"019a0000-0000-7000-8000-000000000004"}]"#,
    ),
    get(
        "/supervisor/sessions",
        operation::SUPERVISOR_SESSIONS,
        LISTING_SESSIONS,
        "The newest sessions, newest first: all, or those that a request or a key opened.",
        r#"[{"id":3,"request_id":"019a0000-0000-7000-8000-000000000001","goal":"Think of a name for a shop","status":"success","timestamp":"2026-01-31T12:00:00.000000Z","session_id":"019a0000-0000-7000-8000-000000000004","end":"completed"}]"#,
    ),
    Route {
        own_problems: &[404],
        ..get(
            "/supervisor/sessions/{id}",
            operation::SUPERVISOR_SESSION,
            &[SESSION],
            "One session with its timeline; of several that a request opened, the newest.",
            r#"{"id":3,"request_id":"019a0000-0000-7000-8000-000000000001","goal":"Think of a name for a shop","status":"running","timestamp":"2026-01-31T12:00:00.000000Z","session_id":"019a0000-0000-7000-8000-000000000004","context":[],"result":"no-op","timeline":[{"position":3,"time":"2026-01-31T12:00:00.000000Z","stream":"session-019a0000-0000-7000-8000-000000000004","event":"session.opened","data":{"goal":"Think of a name for a shop"}}]}"#,
        )
    },
    Route {
        own_problems: &[404],
        ..get(
            "/supervisor/sessions/{id}/files",
            operation::SUPERVISOR_FILES,
            FILES,
            "The files of a session's workspace, and what differs from those that came in. If there is more, `next` is \
             the `after` of the next page.",
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","files":{"shop.txt":{"hash":"6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85","bytes":3}},"changes":[{"path":"shop.txt","file":{"hash":"6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85","bytes":3}}],"before":{}}"#,
        )
    },
    Route {
        target: Target::File(operation::SUPERVISOR_FILE),
        own_problems: &[404],
        ..get(
            "/supervisor/sessions/{id}/files/{path}",
            operation::SUPERVISOR_FILE,
            FILE,
            "The content of a file of a session's workspace.",
            "abc",
        )
    },
    post(
        "/files/missing",
        operation::SUPERVISOR_MISSING,
        "Which of these contents the factory lacks; the others need not be uploaded.",
        r#"{"hashes":["6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"]}"#,
        r#"{"missing":["6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"]}"#,
    ),
    Route {
        method: Method::Put,
        parameters: UPLOADING,
        body: RequestBody::FilePart,
        status: 202,
        asked: None,
        ..post(
            "/files/{hash}",
            operation::SUPERVISOR_UPLOAD,
            "Store a part of a file's content for goals to come: 202 with the offset to go on from, 201 once it is \
             complete. It is kept for an hour after it was last asked for.",
            "",
            r#"{"hash":"6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85","received":2,"complete":false}"#,
        )
    },
    Route {
        parameters: &[SESSION],
        own_problems: &[404, 409],
        ..post(
            "/supervisor/sessions/{id}/answer",
            operation::SUPERVISOR_ANSWER,
            "Answer the question that a session with a model waits with.",
            r#"{"answer":"The blue one."}"#,
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","status":"running"}"#,
        )
    },
    Route {
        own_problems: &[404, 409],
        ..get(
            "/supervisor/sessions/{id}/budget",
            operation::SUPERVISOR_BUDGET,
            &[SESSION],
            "What a session with a model may spend, has spent, and has set aside for a call under way.",
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","status":"running","tokens_spent":1200,"tokens_reserved":9000,"tokens_max":1000000}"#,
        )
    },
    Route {
        parameters: &[SESSION],
        own_problems: &[403, 404, 409],
        ..post(
            "/supervisor/sessions/{id}/budget",
            operation::SUPERVISOR_BUDGET,
            "Change what a session with a model may spend: add to its limits, or lower them. A session that waits for a \
             larger budget goes on. Costs are in millionths of the currency of `model_prices`.",
            r#"{"add_tokens":500000}"#,
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","status":"running","tokens_spent":995000,"tokens_reserved":0,"tokens_max":1500000}"#,
        )
    },
    Route {
        own_problems: &[404, 409],
        ..get(
            "/supervisor/sessions/{id}/calls",
            operation::SUPERVISOR_CALLS,
            &[SESSION],
            "Every attempt of every model call of a session, in order: what it took, how it ended, what it cost.",
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","calls":[]}"#,
        )
    },
    Route {
        parameters: &[OWN_ID],
        own_problems: &[422],
        ..page(
            "/supervisor/sessions/{id}/stream",
            Page::Stream,
            "What a session's model says while it says it, as server-sent events: `event` is `part`, `data` an object \
             with `call`, `attempt`, `seq`, `text`, and on its last part `end`: `end`, or `void` if the attempt failed. \
             Lossy, and from now on: what was said is in the session's events.",
            "event: part\ndata: {\"call\":\"019a0000-0000-8001-8000-000000000005\",\"attempt\":1,\"seq\":0,\"text\":\"I begin\"}\n\n",
        )
    },
    Route {
        parameters: &[SESSION],
        body: RequestBody::Optional,
        own_problems: &[404, 409],
        asked: None,
        ..post(
            "/supervisor/sessions/{id}/cancel",
            operation::SUPERVISOR_CANCEL,
            "Cancel a session.",
            "",
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","status":"error"}"#,
        )
    },
    Route {
        parameters: &[SESSION],
        own_problems: &[404, 409],
        ..post(
            "/supervisor/sessions/{id}/resolve",
            operation::SUPERVISOR_RESOLVE,
            "Decide what to do with a step whose end is unknown: `repeat` or `skip`.",
            r#"{"resolution":"skip"}"#,
            r#"{"session_id":"019a0000-0000-7000-8000-000000000004","status":"running"}"#,
        )
    },
];
