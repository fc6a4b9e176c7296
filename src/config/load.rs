//! Merges the layers of settings.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use ai_factory_schemas::encoding::decode_text;
use figment::{Figment, value::Dict};

use super::{
    env_file,
    error::SettingsError,
    file::{self, FileKind},
    key::{KEYS, Settings},
    layer::SettingsLayer,
    model::ProviderKeys,
    names::{ENV_FILE_NAME, FILE_NAME},
};

/// Maximum size of a settings file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The sources of settings, except the defaults.
#[derive(Clone, Debug, Default)]
pub struct SettingsSources {
    /// `--data-dir`.
    pub data_dir: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// A command's flags that set a setting: flag, key, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The directory of `.env` and `ai-factory.toml`.
    pub directory: PathBuf,
    /// `--config`: the settings file, instead of `ai-factory.toml`. It must exist.
    pub file: Option<PathBuf>,
}

/// The settings and their sources.
#[derive(Clone, Debug)]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// The source of each setting, by key.
    pub sources: BTreeMap<&'static str, String>,
    /// Each setting in displayable form, by key.
    pub values: BTreeMap<&'static str, String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// A `.env` that exists and was not read.
    pub passed_over: Option<PassedOver>,
}

/// Something named `.env` that was not read and presumably belongs to another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its path.
    pub path: PathBuf,
    /// Why it was not read.
    pub reason: String,
    /// Whether it may contain settings: a directory does not.
    pub may_hold_settings: bool,
}

/// Reads every source. Precedence: flags, environment, `.env`, settings file.
pub fn load(inputs: &SettingsSources) -> Result<LoadedSettings, SettingsError> {
    let mut files = Vec::new();
    let mut figment = Figment::from(SettingsLayer::defaults());

    let found = match &inputs.file {
        Some(file) => Some((file.clone(), named(file)?)),
        None => beside_us(&inputs.directory)?,
    };
    if let Some((file, bytes)) = found {
        let text = decode_text(bytes).map_err(|error| unreadable(&file, &error))?;
        figment = figment.merge(SettingsLayer::toml(&file, &text)?);
        files.push(file);
    }
    let file = file_in(&inputs.directory, ENV_FILE_NAME);
    let passed_over = match file::regular(&file, env_file::FILE_BYTES_MAX) {
        FileKind::Nothing => None,
        FileKind::Content(bytes) => {
            figment = figment.merge(SettingsLayer::env_file(&file, &bytes, &inputs.environment)?);
            files.push(file);
            None
        }
        FileKind::Directory => Some((file, "it is a directory".to_owned(), false)),
        FileKind::Unreadable(reason) => Some((file, reason, true)),
    };
    let passed_over = passed_over.map(|(path, reason, may_hold_settings)| PassedOver {
        path,
        reason,
        may_hold_settings,
    });
    figment = figment
        .merge(SettingsLayer::environment(inputs.environment.iter().cloned())?)
        .merge(SettingsLayer::set(&inputs.set)?);
    let global = [
        ("--data-dir", "data_dir", inputs.data_dir.as_ref()),
        ("--log-level", "log_level", inputs.log_level.as_ref()),
    ];
    let own = inputs.flags.iter().map(|(flag, key, value)| (*flag, *key, Some(value)));
    for (flag, key, value) in global.into_iter().chain(own) {
        if let Some(value) = value {
            figment = figment.merge(SettingsLayer::flag(flag, key, value)?);
        }
    }

    // Every layer was validated, so a failure here is a bug.
    let values = figment.extract::<Dict>().map_err(|error| error.to_string());
    let read = values.and_then(|values| Settings::read(&values));
    let mut settings = read
        .map_err(|reason| SettingsError::Unreadable { path: "(all layers)".to_owned(), reason })?;
    if !settings.nats_context.is_empty() {
        settings.nats_context = nats_context_file(&settings.nats_context, &inputs.environment);
    }
    settings.provider_keys = ProviderKeys::of(&inputs.environment);
    let mut sources = BTreeMap::new();
    let mut values = BTreeMap::new();
    for key in KEYS {
        if let Some(metadata) = figment.find_metadata(key.name) {
            sources.insert(key.name, metadata.name.to_string());
        }
        if let Ok(value) = figment.find_value(key.name) {
            let number = value.to_u128().map(|number| number.to_string());
            let text = number.or_else(|| value.into_string()).unwrap_or_default();
            values.insert(key.name, key.allowed.shown(&text));
        }
    }
    Ok(LoadedSettings { settings, sources, values, files, passed_over })
}

/// The file of a context of the `nats` command line; a name with a slash is a file already. The
/// command line keeps contexts below the user's configuration directory (XDG Base Directory
/// Specification).
pub fn nats_context_file(name: &str, environment: &[(OsString, OsString)]) -> String {
    if name.contains('/') {
        return name.to_owned();
    }
    let variable = |wanted: &str| {
        let found = environment.iter().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    let config_dir = variable("XDG_CONFIG_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".config")))
        .unwrap_or_else(|| PathBuf::from("."));
    let file = config_dir.join("nats").join("context").join(format!("{name}.json"));
    file.display().to_string()
}

/// A file in the directory; for the current directory without a prefix: `.env` is `.env`.
fn file_in(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path)
}

fn unreadable(path: &Path, reason: &impl ToString) -> SettingsError {
    SettingsError::Unreadable { path: path.display().to_string(), reason: reason.to_string() }
}

/// Reads the settings file given by the user. It may be anything readable, such as a pipe of a
/// shell.
fn named(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(unreadable(path, &format!("it is larger than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(unreadable(path, &"there is no such file"))
        }
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Reads the settings file of the directory, if there is one.
fn beside_us(directory: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, SettingsError> {
    let path = file_in(directory, FILE_NAME);
    match file::regular(&path, FILE_BYTES_MAX) {
        FileKind::Nothing => Ok(None),
        FileKind::Content(bytes) => Ok(Some((path, bytes))),
        FileKind::Directory => Err(unreadable(&path, &"it is a directory")),
        FileKind::Unreadable(reason) => Err(unreadable(&path, &reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs in an empty directory with these files.
    fn inputs(files: &[(&str, &str)]) -> (tempfile::TempDir, SettingsSources) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let inputs = SettingsSources {
            directory: directory.path().to_owned(),
            ..SettingsSources::default()
        };
        (directory, inputs)
    }

    fn refused(inputs: &SettingsSources) -> String {
        load(inputs).unwrap_err().to_string()
    }

    #[test]
    fn each_source_wins_over_the_next() {
        let toml = (FILE_NAME, "port = 1\nnode = \"toml\"\nhost = \"toml\"\nsessions_max = 1");
        let env_file = (
            ENV_FILE_NAME,
            "AI_FACTORY_PORT=2\nAI_FACTORY_NODE=env-file\nAI_FACTORY_HOST=env-file",
        );
        let (_directory, mut inputs) = inputs(&[toml, env_file]);
        inputs.environment =
            vec![("AI_FACTORY_PORT".into(), "3".into()), ("AI_FACTORY_NODE".into(), "env".into())];
        inputs.set = vec!["port=4".to_owned()];
        let LoadedSettings { settings, sources, files, .. } = load(&inputs).unwrap();

        assert_eq!((settings.port, sources["port"].as_str()), (4, "--set"));
        assert_eq!((settings.node.as_str(), sources["node"].as_str()), ("env", "the environment"));
        assert_eq!(settings.host, "env-file");
        assert!(sources["host"].ends_with(ENV_FILE_NAME));
        assert_eq!(settings.sessions_max, 1);
        assert!(sources["sessions_max"].ends_with(FILE_NAME));
        assert_eq!((settings.runs_max, sources["runs_max"].as_str()), (0, "default"));
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn a_context_is_found_where_the_nats_command_line_keeps_it() {
        let variables = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let me = variables(&[("HOME", "/me"), ("XDG_CONFIG_HOME", "")]);
        assert_eq!(nats_context_file("team", &me), "/me/.config/nats/context/team.json");
        let xdg = variables(&[("HOME", "/me"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(nats_context_file("team", &xdg), "/x/nats/context/team.json");
        assert_eq!(nats_context_file("./team.json", &xdg), "./team.json");
    }

    #[test]
    fn a_flag_of_its_own_wins_over_set() {
        let (_directory, mut inputs) = inputs(&[]);
        inputs.set = vec!["data_dir=set".to_owned(), "log_level=error".to_owned()];
        inputs.data_dir = Some("flag".to_owned());
        let loaded = load(&inputs).unwrap();
        assert_eq!(loaded.settings.data_dir, PathBuf::from("flag"));
        assert_eq!(loaded.sources["data_dir"], "--data-dir");
        assert_eq!(loaded.settings.log_level, crate::config::LogLevel::Error);
    }

    #[test]
    fn a_variable_set_to_nothing_is_not_set() {
        let (_directory, mut inputs) = inputs(&[(FILE_NAME, "port = 1")]);
        inputs.environment = vec![("AI_FACTORY_PORT".into(), "".into())];
        assert_eq!(load(&inputs).unwrap().settings.port, 1);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_source_and_its_neighbour() {
        let (_directory, toml) = inputs(&[(FILE_NAME, "prot = 1")]);
        let said = refused(&toml);
        assert!(said.contains("`prot`") && said.contains("ai-factory.toml"), "{said}");
        assert!(said.contains("did you mean `port`"), "{said}");

        let (_directory, mut env) = inputs(&[]);
        env.environment = vec![("AI_FACTORY_LOG_LEVLE".into(), "INFO".into())];
        assert!(refused(&env).contains("did you mean `AI_FACTORY_LOG_LEVEL`"), "{}", refused(&env));

        let (_directory, env_file) = inputs(&[(ENV_FILE_NAME, "AI_FACTORY_HSOT=x")]);
        let said = refused(&env_file);
        assert!(said.contains(".env") && said.contains("`AI_FACTORY_HOST`"), "{said}");

        let (_directory, mut flag) = inputs(&[]);
        flag.set = vec!["run_max=1".to_owned()];
        assert!(refused(&flag).contains("did you mean `runs_max`"), "{}", refused(&flag));
    }

    #[test]
    fn variables_of_others_are_none_of_our_business() {
        let (_directory, mut inputs) = inputs(&[(ENV_FILE_NAME, "SECRET=s3cret\nAI=1")]);
        inputs.environment = vec![("AI_FACTOR".into(), "x".into())];
        assert!(load(&inputs).is_ok());
    }

    #[test]
    fn what_others_keep_under_the_name_of_our_files_is_passed_over() {
        let (directory, mut inputs) = inputs(&[]);
        let env_file = directory.path().join(ENV_FILE_NAME);
        fs::create_dir(&env_file).unwrap();
        let passed_over = load(&inputs).unwrap().passed_over.unwrap();
        assert!(!passed_over.may_hold_settings && passed_over.reason.contains("directory"));
        fs::remove_dir(&env_file).unwrap();

        let pipe = |path: &Path| {
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        };
        pipe(&env_file);
        let passed_over = load(&inputs).unwrap().passed_over.unwrap();
        assert!(passed_over.may_hold_settings && passed_over.reason.contains("pipe"));
        assert_eq!(passed_over.path, env_file);
        // A settings file belongs to this program alone.
        pipe(&directory.path().join(FILE_NAME));
        assert!(refused(&inputs).contains("pipe"), "{}", refused(&inputs));
        inputs.file = Some(directory.path().to_owned());
        assert!(refused(&inputs).contains("directory"), "{}", refused(&inputs));
    }

    #[test]
    fn a_byte_order_mark_in_a_file_is_no_part_of_it() {
        let files = [
            (FILE_NAME, "\u{feff}port = 1\r\n"),
            (ENV_FILE_NAME, "\u{feff}AI_FACTORY_NODE=east\r\n"),
        ];
        let (directory, inputs) = inputs(&files);
        let settings = load(&inputs).unwrap().settings;
        assert_eq!((settings.port, settings.node.as_str()), (1, "east"));
        let utf16: Vec<u8> = "\u{feff}port = 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(directory.path().join(FILE_NAME), utf16).unwrap();
        assert!(refused(&inputs).contains("save it as UTF-8"), "{}", refused(&inputs));
        fs::write(directory.path().join(FILE_NAME), b"port = 1\nnode = \"\xff\"").unwrap();
        assert!(refused(&inputs).contains("line 2 is not UTF-8"), "{}", refused(&inputs));
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_refused_by_its_name() {
        use std::os::unix::ffi::OsStringExt as _;

        let raw = |text: &[u8]| OsString::from_vec(text.to_vec());
        for (name, value, parts) in [
            (
                raw(b"AI_FACTORY_DATA_DIR"),
                raw(b"/tmp/d\xe4ta"),
                ["`AI_FACTORY_DATA_DIR`", "/tmp/d"],
            ),
            (raw(b"AI_FACTORY_PORT"), raw(b"\xff"), ["`AI_FACTORY_PORT`", "not UTF-8"]),
            (raw(b"AI_FACTORY_TOKEN"), raw(b"s3cret\xff"), ["`AI_FACTORY_TOKEN`", "(hidden)"]),
            (raw(b"AI_FACTORY_PORT\xff"), raw(b"1"), ["is not a setting", "AI_FACTORY_PORT"]),
        ] {
            let (_directory, mut inputs) = inputs(&[]);
            inputs.environment = vec![(name, value)];
            // A flag does not make it valid.
            inputs.data_dir = Some("flag".to_owned());
            let said = refused(&inputs);
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
            assert!(said.contains("the environment") && !said.contains("s3cret"), "{said}");
        }
        let (_directory, mut inputs) = inputs(&[]);
        inputs.environment = vec![(raw(b"OTHER_\xff"), raw(b"\xff")), (raw(b"LANG"), raw(b"\xe4"))];
        assert!(load(&inputs).is_ok());
    }

    #[test]
    fn a_bad_value_is_refused_with_key_value_source_and_what_is_allowed() {
        for (pair, parts) in [
            ("port=65536", ["`port`", "`65536`", "0 to 65535"]),
            ("port=", ["`port`", "``", "a whole number"]),
            ("sessions_max=0", ["`sessions_max`", "`0`", "1 to 65536"]),
            ("log_level=LOUD", ["`log_level`", "`LOUD`", "DEBUG, INFO, WARNING or ERROR"]),
            ("on_unknown=guess", ["`on_unknown`", "`guess`", "repeat or ask"]),
            ("prefix=a b", ["`prefix`", "`a b`", "tokens of"]),
            ("node=", ["`node`", "``", "letters"]),
        ] {
            let (_directory, mut inputs) = inputs(&[]);
            inputs.set = vec![pair.to_owned()];
            let said = refused(&inputs);
            assert!(parts.iter().all(|part| said.contains(part)), "{pair}: {said}");
            assert!(said.contains("--set"), "{said}");
        }
        for toml in ["port = \"1\"", "port = 1.5", "port = true", "node = 1", "port = -1"] {
            let (_directory, inputs) = inputs(&[(FILE_NAME, toml)]);
            assert!(refused(&inputs).contains(FILE_NAME), "{toml}");
        }
    }

    #[test]
    fn a_broken_file_is_named_with_the_line_and_its_text_is_not_shown() {
        let (_directory, toml) = inputs(&[(FILE_NAME, "port = 1\nnode =\n")]);
        assert!(refused(&toml).contains("ai-factory.toml, line 2"), "{}", refused(&toml));

        for (line, part) in [
            ("AI_FACTORY_TOKEN=my s3cret", "quotes around white space"),
            ("AI_FACTORY_TOKEN=\"s3cret", "closed"),
            ("AI_FACTORY_TOKEN=$s3cret", "single quotes"),
            ("AI_FACTORY_TOKEN='s3cret '", "(hidden)"),
            ("AI_FACTORY_TOKNE=s3cret", "`AI_FACTORY_TOKEN`"),
        ] {
            let text = format!("# fine\n\nOTHER=two words\n{line}\n");
            let (_directory, env_file) = inputs(&[(ENV_FILE_NAME, &text)]);
            let said = refused(&env_file);
            assert!(said.contains(".env, line 4") && !said.contains("s3cret"), "{said}");
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_file_asked_for_by_name_must_be_there() {
        let (directory, mut inputs) = inputs(&[(FILE_NAME, "port = 1")]);
        inputs.file = Some(directory.path().join("other.toml"));
        assert!(refused(&inputs).contains("no such file"), "{}", refused(&inputs));
        fs::write(directory.path().join("other.toml"), "port = 2").unwrap();
        assert_eq!(load(&inputs).unwrap().settings.port, 2);
    }

    #[test]
    fn a_set_without_a_value_says_how_it_is_written() {
        let (_directory, mut inputs) = inputs(&[]);
        inputs.set = vec!["port".to_owned()];
        assert!(refused(&inputs).contains("KEY=VALUE"), "{}", refused(&inputs));
    }
}
