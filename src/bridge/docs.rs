//! The description of the routes: the OpenAPI document, and the same as an HTML page.
//!
//! *Promises.* The page is generated from the document alone: it has no script and loads only its
//! style sheet. Neither is part of the contract.

use std::{fmt::Write as _, sync::LazyLock};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use serde_json::Value;

use super::answer::typed;

/// The committed OpenAPI document.
pub const OPENAPI: &str = include_str!("../../schemas/openapi.json");
/// The page's style sheet.
const STYLE: &str = include_str!("style.css");
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
/// The page may load only its own style sheet and cannot be framed by other pages.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
static PAGE: LazyLock<String> =
    LazyLock::new(|| render(&serde_json::from_str(OPENAPI).unwrap_or_default()));

/// The page and its style sheet.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/docs", get(async || page()))
        .route("/docs/style.css", get(async || typed(StatusCode::OK, CSS, STYLE)))
}

fn page() -> Response {
    let mut response = typed(StatusCode::OK, HTML, PAGE.as_str());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn render(document: &Value) -> String {
    let info = &document["info"];
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"/docs/style.css\">\n\
         <h1>{title} <small>{}</small></h1>\n<p>{}\n<p>{}\n<p>For programs: <a href=\"/openapi.json\">openapi.json</a>.\n",
        text(&info["version"]),
        text(&info["summary"]),
        text(&info["description"]),
        title = text(&info["title"]),
    );
    for group in document["tags"].as_array().into_iter().flatten() {
        let _ = writeln!(html, "<h2>{}</h2>", text(&group["name"]));
        for (path, methods) in members(&document["paths"]) {
            for (method, operation) in members(methods) {
                if operation["tags"][0] == group["name"] {
                    render_operation(
                        &mut html,
                        document,
                        &format!("{} {path}", method.to_uppercase()),
                        operation,
                    );
                }
            }
        }
    }
    html.push_str("<h2>Types</h2>\n");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let _ = writeln!(html, "<details id=\"{0}\"><summary>{0}</summary>", escape(name));
        code(&mut html, schema);
        html.push_str("</details>\n");
    }
    html
}

fn render_operation(html: &mut String, document: &Value, address: &str, operation: &Value) {
    let _ = write!(
        html,
        "<details><summary><code>{}</code> {}</summary>\n<ul>\n",
        escape(address),
        text(&operation["summary"])
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolve(document, parameter);
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        let must = if parameter["required"] == true { ", required" } else { "" };
        let _ = writeln!(
            html,
            "<li><code>{name}</code> ({place}{must}): {}",
            text(&parameter["description"])
        );
    }
    html.push_str("</ul>\n");
    let body = &operation["requestBody"]["content"]["application/json"];
    if !body.is_null() {
        html.push_str("<p>Body\n");
        code(html, if body["example"].is_null() { &body["schema"] } else { &body["example"] });
    }
    for (status, answer) in members(&operation["responses"]) {
        let answer = resolve(document, answer);
        let _ =
            writeln!(html, "<p><code>{}</code> {}", escape(status), text(&answer["description"]));
        for (_, content) in members(&answer["content"]).filter(|_| status.starts_with('2')) {
            code(html, &content["example"]);
        }
    }
    html.push_str("</details>\n");
}

/// The target of a `$ref`, or the value itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|path| document.pointer(path.strip_prefix('#')?));
    target.unwrap_or(value)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn code(html: &mut String, value: &Value) {
    let shown = match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let _ = writeln!(html, "<pre>{}</pre>", escape(&shown));
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
