//! `doctor`: checks that everything the factory needs is present and works.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use ai_factory_ports::sandbox::Language;
use ai_factory_schemas::{model::ToolProtocol, run::IsolationLevel};
use clap::Args;
use rustix::fs::{Access, access, statvfs};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::{
    cli::{
        budget_words::{count, money},
        context::CommandContext,
        exit::{CommandError, Exit},
        output::Output,
        remote::over_nats,
        table::TextTable,
    },
    config::{PassedOver, Settings},
    connections::nats_settings,
    nats::find_program,
    sandbox::{LayerState, layer::IsolationLayer, packages::PackageVersion},
    wiring::{self, ModelReport, Reader},
};

/// Free space below which a warning is given, in bytes.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// The most packages that are named.
const PACKAGES_SHOWN_MAX: usize = 40;

/// The result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// `ok`, `warning` or `failed`.
    state: &'static str,
    found: String,
}

fn ok(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, state: "ok", found: found.into() }
}

fn warning(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, state: "warning", found: found.into() }
}

fn failed(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, state: "failed", found: found.into() }
}

/// Check that the installation is complete and works.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Make one tiny call of the configured model, which may cost a little
    #[arg(long)]
    model: bool,
}

impl DoctorArgs {
    /// Changes nothing. Exit code 1 if something essential is missing.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let findings = findings(context, self.model);
        report(output, &findings)
    }
}

fn findings(context: &CommandContext, calls_model: bool) -> Vec<Finding> {
    let data_dir = &context.settings().data_dir;
    let mut findings =
        vec![settings(context), directory(data_dir), space(data_dir), journal(context)];
    findings.push(nats_server(context));
    findings.push(nats(context.settings()));
    findings.extend(sandbox(context));
    findings.push(if calls_model { model_called(context) } else { model(context.settings()) });
    findings
}

fn report(output: &mut Output, findings: &[Finding]) -> Result<Exit, CommandError> {
    if output.json {
        output.json(&findings)?;
    } else {
        let mut table = TextTable::new(&["WHAT", "STATE", "FOUND"]);
        for finding in findings {
            table.row([finding.what, finding.state, &finding.found]);
        }
        output.table_in_full(&table)?;
    }
    let essential = findings.iter().any(|finding| finding.state == "failed");
    Ok(if essential { Exit::FAILED } else { Exit::DONE })
}

fn model(settings: &Settings) -> Finding {
    match settings.model.as_str() {
        "" => ok("model", "none: goals carry their code, and nothing is sent anywhere"),
        name => ok("model", format!("{name}; `ai-factory doctor --model` calls it once")),
    }
}

fn model_called(context: &CommandContext) -> Finding {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("model", format!("threads cannot be started: {error}")),
    };
    let called = runtime.block_on(wiring::model_report(context.settings()));
    runtime.shutdown_background();
    match called {
        Ok(None) => failed("model", "none is configured: set `model`, such as ollama/qwen3"),
        Ok(Some(report)) => ok("model", model_words(&report)),
        Err(reason) => failed("model", reason),
    }
}

/// What a call found, in a line.
fn model_words(report: &ModelReport) -> String {
    if report.is_recording {
        return format!("{} can be played: no model is asked", report.model);
    }
    let server = report.server.as_ref().map(|server| format!(" ({server})")).unwrap_or_default();
    let window = match report.context_tokens {
        Some(tokens) => format!("a window of {} tokens", count(tokens)),
        None => "a window that the server does not tell".to_owned(),
    };
    let tools = match (report.tools, report.calls_tools) {
        (ToolProtocol::Text, _) => "tools as text",
        (ToolProtocol::Native, Some(false)) => "no tool calls: set `model_tools` to text",
        (ToolProtocol::Native, _) => "tool calls of its API",
    };
    let usage = match report.usage {
        Some(usage) => {
            let (input, output) = (count(usage.input_total()), count(usage.output));
            format!("the call took {input} tokens in and {output} out")
        }
        None => "the server does not tell what the call took".to_owned(),
    };
    let cost = report.cost_micros.map(|cost| format!(", {}", money(cost))).unwrap_or_default();
    let by = report.answered_by.as_ref().filter(|by| !report.model.ends_with(by.as_str()));
    let by = by.map(|by| format!(", answered by {by}")).unwrap_or_default();
    format!("{} at {}{server}{by}, {window}, {tools}; {usage}{cost}", report.model, report.host)
}

fn settings(context: &CommandContext) -> Finding {
    let loaded = &context.loaded;
    let set = loaded.sources.values().filter(|source| *source != "default").count();
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let read = if files.is_empty() { "none".to_owned() } else { files.join(", ") };
    let found = format!("{set} set, the others at their defaults; files read: {read}");
    match &loaded.passed_over {
        None => ok("settings", found),
        Some(PassedOver { path, reason, may_hold_settings }) => {
            let found = format!("{found}; not read: {} ({reason})", path.display());
            if *may_hold_settings { warning("settings", found) } else { ok("settings", found) }
        }
    }
}

/// The directory itself, or its nearest existing ancestor.
fn existing(directory: &Path) -> PathBuf {
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    whole.ancestors().find(|path| path.exists()).map_or(whole.clone(), Path::to_path_buf)
}

fn directory(data_dir: &Path) -> Finding {
    let what = "data directory";
    let shown = data_dir.display();
    let there = existing(data_dir);
    if !there.is_dir() {
        return failed(
            what,
            format!("{} is not a directory: remove it, or set data_dir", there.display()),
        );
    }
    if access(&there, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let place = there.display();
        return failed(
            what,
            format!("{place} cannot be written to: change its owner, or set data_dir"),
        );
    }
    if data_dir.exists() {
        ok(what, format!("{shown} can be written to"))
    } else {
        ok(what, format!("{shown} does not exist yet; the first goal creates it"))
    }
}

fn space(data_dir: &Path) -> Finding {
    let what = "free space";
    match statvfs(existing(data_dir)) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let shown = format!("{} MiB", free / (1024 * 1024));
            if free < FREE_BYTES_MIN {
                warning(what, format!("{shown}: a full disk stops the factory; make room"))
            } else {
                ok(what, shown)
            }
        }
        Err(error) => warning(what, format!("unknown: {error}")),
    }
}

fn journal(context: &CommandContext) -> Finding {
    let what = "journal";
    let settings = context.settings();
    match Reader::open(settings) {
        Err(error) if error.is_missing() => ok(what, "none yet"),
        Ok(reader) => {
            let events = reader.journal.head().position;
            match wiring::holder(settings) {
                Some(holder) => ok(what, format!("{events} events; open for writing: {holder}")),
                None => ok(what, format!("{events} events; not open for writing")),
            }
        }
        Err(error) => failed(what, error.to_string()),
    }
}

/// The interpreter of each language, and the isolation of its programs.
fn sandbox(context: &CommandContext) -> Vec<Finding> {
    let settings = context.settings();
    let search_path = context.variable("PATH").map(OsString::as_os_str);
    let report = match wiring::sandbox_report(settings, search_path) {
        Ok(report) => report,
        Err(reason) => return vec![failed("sandbox", reason)],
    };
    let mut findings = Vec::new();
    let mut python = failed(
        "python",
        "no working Python 3: install it (`apt install python3`, `brew install python`), or name \
         one in the setting `python`",
    );
    for Language { name, interpreter, version, .. } in report.languages {
        let found = match report.unreachable.get(name) {
            Some(why) if name == python.what => failed(name, why.as_str()),
            Some(why) => warning(name, why.as_str()),
            None => ok(name, format!("{version} ({})", interpreter.display())),
        };
        if name == python.what {
            python = found;
        } else {
            findings.push(found);
        }
    }
    findings.insert(0, python);
    findings.insert(1, packages("python packages", &report.python_packages));
    findings.extend(report.node_packages.map(|found| packages("node_modules", &found)));
    findings.extend(report.refused.map(|reason| failed("packages", reason)));
    findings.push(isolation(settings.sandbox, &report.layers));
    findings.extend(report.layers.into_iter().map(layer));
    findings
}

/// The packages that programs can use; of many the first ones.
fn packages(what: &'static str, packages: &[PackageVersion]) -> Finding {
    let shown = packages.iter().take(PACKAGES_SHOWN_MAX);
    let shown: Vec<_> = shown.map(|(name, version)| format!("{name} {version}")).collect();
    match packages.len() {
        0 => ok(what, "none"),
        count if count > shown.len() => {
            ok(what, format!("{} and {} more", shown.join(", "), count - shown.len()))
        }
        _ => ok(what, shown.join(", ")),
    }
}

fn isolation(level: IsolationLevel, layers: &[LayerState]) -> Finding {
    let what = "isolation";
    let is_whole = layers.iter().all(|it| it.is_on || is_optional(it.layer));
    match level {
        IsolationLevel::Full if is_whole => {
            ok(what, "level `full`: code from goals sees only this machine's programs")
        }
        IsolationLevel::Reduced if is_whole => warning(
            what,
            "level `reduced`: code from goals can read only this machine's programs and write \
             only to its own directory, and has no network, but it shares this machine's \
             processes and disk; prefer `full` where it is available",
        ),
        IsolationLevel::Full => failed(
            what,
            "level `full` is not available, so no code is run: see the layers below, or choose a \
             weaker level in the setting `sandbox`",
        ),
        IsolationLevel::Reduced => failed(
            what,
            "level `reduced` is not available, so no code is run: see the layers below",
        ),
        IsolationLevel::Process => warning(
            what,
            "level `process` only: code from goals runs as this user and can read what this \
             user can read; run no code here that you would not run yourself",
        ),
        IsolationLevel::None => warning(what, "level `none`: no code is run"),
    }
}

/// The program that `up --start-nats` starts. Its absence is a failure only if the settings name
/// one.
fn nats_server(context: &CommandContext) -> Finding {
    let what = "nats-server";
    let is_named = context.loaded.sources.get("nats_server").is_some_and(|from| from != "default");
    match find_program(&context.settings().nats_server) {
        Ok((path, version)) => ok(what, format!("{version} ({})", path.display())),
        Err(error) if is_named => failed(what, error.to_string()),
        Err(_) => ok(what, "none on the PATH; only `up --start-nats` needs one"),
    }
}

/// The configured server. `up` waits for an unreachable server, and refuses to start with an
/// invalid address or a failed login.
fn nats(settings: &Settings) -> Finding {
    let what = "nats";
    let nats = match nats_settings(settings, None, "ai-factory doctor".to_owned()) {
        Ok(Some(nats)) => nats,
        Ok(None) => return ok(what, "no server is configured, and none is needed"),
        Err(error) => return failed(what, error.to_string()),
    };
    match over_nats(&nats, async |bus| Ok(bus.server())) {
        Ok(server) => {
            let jetstream = if server.has_jetstream { "with" } else { "without" };
            let (shown, version) = (&nats.shown, server.version);
            ok(what, format!("{shown} answers: nats-server {version}, {jetstream} JetStream"))
        }
        Err(CommandError::Said { sentence, exit: Exit::USAGE }) => failed(what, sentence),
        Err(CommandError::Said { sentence, .. }) => warning(
            what,
            format!("{sentence}: `up` waits for it, and `up --start-nats` starts one"),
        ),
        Err(CommandError::ClosedPipe) => warning(what, "nobody answered"),
    }
}

/// Whether other layers replace it where it is missing.
fn is_optional(layer: IsolationLayer) -> bool {
    layer == IsolationLayer::MemoryCgroup
}

fn layer(state: LayerState) -> Finding {
    let what = state.layer.name();
    if state.is_on {
        return ok(what, "on");
    }
    let why = state.why.unwrap_or_default();
    let found = match state.remedy {
        Some(remedy) => format!("off: {why}; to turn it on: {remedy}"),
        None => format!("off: {why}"),
    };
    if is_optional(state.layer) { warning(what, found) } else { failed(what, found) }
}
