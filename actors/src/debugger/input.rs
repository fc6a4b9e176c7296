//! Input and output files of a run: validation, recording, reading.

use std::time::Duration;

use ai_factory_ports::{
    journal::{Journal, ReadError},
    sandbox::{Program, ProgramFile},
};
use ai_factory_schemas::{
    file::{KeptFile, RunFile, check_name, check_names},
    limit::{FILES_BYTES_MAX, FILES_MAX, STDIN_BYTES_MAX},
    problem::Problem,
    request::RunRequest,
    run::{FileLeftOut, RunInput},
    text::{Blob, Text},
    workspace::RunTree,
};

use crate::blobs;

/// The longest name of a language, in bytes.
pub(crate) const LANGUAGE_BYTES_MAX: usize = 64;

/// Replaces Windows line ends, as in the code of a goal: bash takes a carriage return as part of
/// the last word.
pub(crate) fn with_line_feeds(code: String) -> String {
    if code.contains("\r\n") { code.replace("\r\n", "\n") } else { code }
}

/// Blobs to store beside a record.
pub(super) type Blobs = Vec<Blob>;

/// Refuses input beyond a limit, and file names that are not paths below the working directory.
pub(super) fn check(asked: &RunRequest) -> Result<(), Problem> {
    let bytes = asked.stdin.as_ref().map_or(0, String::len);
    if bytes > STDIN_BYTES_MAX {
        return Err(Problem::too_large(format!(
            "`stdin` of {bytes} bytes is too long: at most {STDIN_BYTES_MAX}"
        )));
    }
    for (field, count) in [("files", asked.files.len()), ("return_files", asked.return_files.len())]
    {
        if count > FILES_MAX {
            return Err(Problem::too_large(format!(
                "`{field}` names {count} files: at most {FILES_MAX}"
            )));
        }
    }
    let bytes: usize = asked.files.iter().map(|file| file.content_base64.len()).sum();
    if bytes > FILES_BYTES_MAX {
        return Err(Problem::too_large(format!(
            "`files` of {bytes} bytes together are too much: at most {FILES_BYTES_MAX}"
        )));
    }
    let given = asked.files.iter().map(|file| ("files", &file.name));
    let wanted = asked.return_files.iter().map(|name| ("return_files", name));
    for (field, name) in given.chain(wanted) {
        check_name(name)
            .map_err(|wrong| Problem::bad_request(format!("`{field}`: {name:?} {wrong}")))?;
    }
    check_names(asked.files.iter().map(|file| file.name.as_str()))
        .map_err(|wrong| Problem::bad_request(format!("`files` {wrong}")))
}

/// The program of a request for the sandbox, with its files decoded.
pub(super) fn program(asked: &RunRequest, wall_max: Duration) -> Result<Program, Problem> {
    let file = |file: &RunFile| {
        let bytes = file.bytes();
        let bytes = bytes.map_err(|wrong| Problem::bad_request(format!("`files`: {wrong}")))?;
        Ok(ProgramFile { name: file.name.clone(), bytes })
    };
    Ok(Program {
        language: asked.language.clone(),
        source: asked.code.clone(),
        stdin: asked.stdin.clone(),
        files: asked.files.iter().map(file).collect::<Result<_, Problem>>()?,
        return_files: asked.return_files.clone(),
        wall_max,
        traceparent: None,
        cpu_max: None,
        workspace: None,
    })
}

/// The input of a request as its record holds it.
pub(super) fn record_input(asked: &RunRequest, workspace: Option<RunTree>) -> (RunInput, Blobs) {
    let mut blobs = Blobs::new();
    let stdin = asked.stdin.clone().map(|text| {
        let (text, blob) = Text::new(text);
        blobs.extend(blob);
        text
    });
    let files = store_files(asked.files.iter().cloned(), &mut blobs);
    (RunInput { stdin, files, return_files: asked.return_files.clone(), workspace }, blobs)
}

/// The files of a program as its record holds them. Files beyond the limit are left out and listed
/// as such.
pub(super) fn record_outputs(
    files: Vec<ProgramFile>,
    left_out: &mut Vec<FileLeftOut>,
    blobs: &mut Blobs,
) -> Vec<KeptFile> {
    let mut room = FILES_BYTES_MAX;
    let mut fitting = Vec::new();
    for ProgramFile { name, bytes } in files {
        let file = RunFile::new(name, &bytes);
        match room.checked_sub(file.content_base64.len()) {
            Some(rest) => {
                room = rest;
                fitting.push(file);
            }
            None => left_out.push(FileLeftOut {
                name: file.name,
                reason: format!(
                    "all files together may be {FILES_BYTES_MAX} bytes as they are sent"
                ),
            }),
        }
    }
    store_files(fitting, blobs)
}

fn store_files(files: impl IntoIterator<Item = RunFile>, blobs: &mut Blobs) -> Vec<KeptFile> {
    let mut kept = Vec::new();
    for file in files {
        let (file, blob) = file.into_record();
        kept.push(file);
        blobs.extend(blob);
    }
    kept
}

/// Recorded files in the form of an answer.
pub(super) async fn load_files(
    journal: &dyn Journal,
    kept: &[KeptFile],
) -> Result<Vec<RunFile>, ReadError> {
    let mut files = Vec::with_capacity(kept.len());
    for KeptFile { name, content_base64 } in kept {
        files.push(RunFile {
            name: name.clone(),
            content_base64: blobs::load_text(journal, content_base64).await?,
        });
    }
    Ok(files)
}

/// Recorded files in the form of the sandbox.
pub(super) async fn files(
    journal: &dyn Journal,
    kept: &[KeptFile],
) -> Result<Vec<ProgramFile>, String> {
    let sent = load_files(journal, kept).await.map_err(|error| error.to_string())?;
    sent.into_iter()
        .map(|file| {
            let bytes = file.bytes()?;
            Ok(ProgramFile { name: file.name, bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> RunRequest {
        RunRequest {
            code: "1".into(),
            language: "python".into(),
            stdin: None,
            files: Vec::new(),
            return_files: Vec::new(),
            run_id: None,
            session_id: None,
            wall_ms_max: None,
            workspace: None,
        }
    }

    fn file(name: &str, content: &str) -> RunFile {
        RunFile { name: name.into(), content_base64: content.into() }
    }

    #[test]
    fn what_is_too_much_or_no_file_below_the_directory_is_refused_by_name() {
        let refused = [
            (
                413,
                "`stdin`",
                RunRequest { stdin: Some("x".repeat(STDIN_BYTES_MAX + 1)), ..asked() },
            ),
            (
                413,
                "`return_files`",
                RunRequest { return_files: vec!["a".into(); FILES_MAX + 1], ..asked() },
            ),
            (
                413,
                "`files`",
                RunRequest { files: vec![file("a", &"x".repeat(FILES_BYTES_MAX + 1))], ..asked() },
            ),
            (400, "\"../a\"", RunRequest { files: vec![file("../a", "")], ..asked() }),
            (400, "\"/a\"", RunRequest { return_files: vec!["/a".into()], ..asked() }),
            (400, "twice", RunRequest { files: vec![file("a", ""), file("a", "")], ..asked() }),
            (
                400,
                "\"a\" and \"a/b\"",
                RunRequest { files: vec![file("a/b", ""), file("a", "")], ..asked() },
            ),
        ];
        for (status, word, asked) in refused {
            let problem = check(&asked).unwrap_err();
            assert_eq!(problem.status, status, "{word}");
            assert!(problem.sentence().contains(word), "{word}: {}", problem.sentence());
        }
        assert_eq!(check(&asked()), Ok(()));
        let broken = RunRequest { files: vec![file("b", "%")], ..asked() };
        let problem = program(&broken, Duration::ZERO).unwrap_err();
        assert!(problem.status == 400 && problem.sentence().contains("base64"), "{problem:?}");
    }

    #[test]
    fn files_beyond_the_limit_are_left_out_with_the_reason() {
        let half = ProgramFile { name: "half".into(), bytes: vec![b'x'; FILES_BYTES_MAX / 2] };
        let small = ProgramFile { name: "small".into(), bytes: b"x".to_vec() };
        let (mut left_out, mut blobs) = (Vec::new(), Vec::new());
        let kept = record_outputs(vec![half.clone(), half, small], &mut left_out, &mut blobs);
        assert_eq!(kept.len(), 2);
        assert_eq!((left_out.len(), left_out[0].name.as_str()), (1, "half"));
        assert_eq!((kept[1].name.as_str(), blobs.len()), ("small", 1));
    }
}
