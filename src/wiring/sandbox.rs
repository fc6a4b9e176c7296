//! The configured sandbox, and a report of its layers on this machine.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ai_factory_ports::sandbox::{Language, Sandbox as _};

use super::error::OpenFactoryError;
use crate::{
    config::{OnUnknown, Settings},
    sandbox::{
        LayerState, RunLimits, SandboxSettings, SelectedSandbox, layers,
        packages::{self, PackageVersion},
    },
};

/// The parent directory of the runs' directories.
fn runs_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("tmp")
}

/// The configured sandbox, after removing what earlier factories left.
pub(super) fn open(settings: &Settings) -> Result<Arc<SelectedSandbox>, OpenFactoryError> {
    let tmp_dir = runs_dir(&settings.data_dir);
    let refused = |error: io::Error| OpenFactoryError::Runs {
        path: tmp_dir.display().to_string(),
        reason: error.to_string(),
    };
    // Created here, where the umask restricts access.
    match fs::create_dir(&tmp_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(error)),
        _ => {}
    }
    // The journal's lock is held, so whatever is there belongs to factories that have ended.
    SelectedSandbox::sweep(&tmp_dir).map_err(refused)?;
    let sandbox = SelectedSandbox::new(settings.sandbox, sandbox_settings(settings));
    sandbox.check_settings().map_err(OpenFactoryError::Packages)?;
    Ok(sandbox)
}

fn sandbox_settings(settings: &Settings) -> SandboxSettings {
    let interpreters =
        [("python", &settings.python), ("javascript", &settings.nodejs), ("bash", &settings.bash)];
    let named = interpreters.into_iter().filter(|(_, path)| !path.as_os_str().is_empty());
    SandboxSettings {
        interpreters: named.map(|(language, path)| (language, path.clone())).collect(),
        node_modules: Some(settings.node_modules.clone()).filter(|it| !it.as_os_str().is_empty()),
        limits: RunLimits {
            code_bytes: settings.run_code_bytes_max as u64,
            cpu_s: settings.run_cpu_s_max,
            memory_bytes: settings.run_memory_bytes_max,
            processes: settings.run_processes_max,
            open_files: settings.run_open_files_max,
            file_bytes: settings.run_file_bytes_max,
            box_bytes: settings.run_box_bytes_max,
            box_inodes: settings.run_box_inodes_max,
            tmp_bytes: settings.run_tmp_bytes_max,
            tmp_inodes: settings.run_tmp_inodes_max,
            output_bytes: settings.run_output_bytes_max as u64,
            ..RunLimits::default()
        },
        repeat_unknown: settings.on_unknown == OnUnknown::Repeat,
        pool_members: settings.pool_members,
        pool_age_max: Duration::from_millis(settings.pool_age_ms_max),
        ..SandboxSettings::new(runs_dir(&settings.data_dir))
    }
}

/// The available interpreters and sandbox layers.
pub struct SandboxReport {
    /// The languages whose interpreters work.
    pub languages: Vec<Language>,
    /// Why programs cannot reach an interpreter, by its language.
    pub unreachable: BTreeMap<&'static str, String>,
    /// Why programs cannot use what the settings name.
    pub refused: Option<String>,
    /// The packages that Python programs can import, what a user installed first.
    pub python_packages: Vec<PackageVersion>,
    /// Those of the setting `node_modules`; `None` without it.
    pub node_packages: Option<Vec<PackageVersion>>,
    /// The state of each sandbox layer; empty if the settings use no sandbox.
    pub layers: Vec<LayerState>,
}

/// Searches interpreters, and tests every layer of the sandbox by creating a jail.
pub fn sandbox_report(
    settings: &Settings,
    search_path: Option<&OsStr>,
) -> Result<SandboxReport, String> {
    let looked_for = SandboxSettings {
        search_path: search_path.map(OsStr::to_owned),
        pool_members: 0,
        ..sandbox_settings(settings)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let layers = layers(settings.sandbox, &looked_for).await;
        let node_packages = looked_for.node_modules.as_deref().map(packages::node_packages);
        let sandbox = SelectedSandbox::new(settings.sandbox, looked_for);
        let refused = sandbox.check_settings().err();
        let languages = sandbox.languages().await;
        let unreachable = languages.iter().filter_map(|language| {
            let refused = sandbox.check_interpreter(&language.interpreter).err()?;
            Some((language.name, refused))
        });
        let unreachable = unreachable.collect();
        let python = languages.iter().find(|language| language.name == "python");
        let python_packages =
            python.map(|it| packages::python_packages(&it.interpreter, &it.version));
        let python_packages = python_packages.unwrap_or_default();
        Ok(SandboxReport {
            languages,
            unreachable,
            refused,
            python_packages,
            node_packages,
            layers,
        })
    })
}
