//! Ensuring that a stream exists: it is created, accepted as it is, or refused with the difference.

use std::fmt;

use ai_factory_schemas::subject::SubjectFilter;
use async_nats::jetstream::{
    self, ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind},
    stream::{Compression, Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream},
};

/// The first version of nats-server that compresses streams.
const COMPRESSION_SINCE: (u32, u32) = (2, 10);

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The account has no JetStream.
    #[error("the account has no JetStream")]
    NoJetStream,
    /// The stream exists with an unsuitable configuration.
    #[error(
        "the stream {name} exists and does not fit: {difference}; change it, remove it, or name another with `{setting}`"
    )]
    Unfit { name: String, difference: String, setting: &'static str },
    /// The consumer exists with an unsuitable configuration.
    #[error(
        "the consumer {consumer} of the stream {stream} exists and does not fit: {difference}; remove it \
         (`nats consumer rm {stream} {consumer}`), and it is created again"
    )]
    UnfitConsumer { stream: String, consumer: String, difference: &'static str },
    /// Another stream takes the same subjects.
    #[error(
        "the stream {name} cannot be created, because another stream takes {subjects} already: remove that one, or name it \
         with `{setting}`"
    )]
    Overlap { name: String, subjects: String, setting: &'static str },
    /// The server has no space for it, or does not permit it.
    #[error("the stream {name} cannot be created: {reason}; its limits and replicas are settings")]
    NotMade { name: String, reason: String },
    /// The request to the server failed.
    #[error("{0}")]
    Server(String),
}

/// A failed request to the server.
pub(crate) fn server(error: impl fmt::Display) -> Trouble {
    Trouble::Server(error.to_string())
}

/// Finds the stream that `wanted` describes, or creates it. `setting` is the setting with its name.
pub(crate) async fn ensure(
    context: &jetstream::Context,
    wanted: Config,
    setting: &'static str,
) -> Result<Stream<Info>, Trouble> {
    let name = wanted.name.clone();
    let missing = match context.get_stream(&name).await {
        Ok(stream) => {
            return match difference(&stream.cached_info().config, &wanted) {
                None => Ok(stream),
                Some(difference) => Err(Trouble::Unfit { name, difference, setting }),
            };
        }
        Err(error) => error,
    };
    match missing.kind() {
        GetStreamErrorKind::JetStream(error) => match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => {}
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                return Err(Trouble::NoJetStream);
            }
            _ => return Err(server(missing)),
        },
        _ => return Err(server(missing)),
    }
    make(context, wanted, setting).await
}

async fn make(
    context: &jetstream::Context,
    mut wanted: Config,
    setting: &'static str,
) -> Result<Stream<Info>, Trouble> {
    let (name, subjects) = (wanted.name.clone(), wanted.subjects.join(", "));
    let version = context.client().server_info().version;
    if wanted.compression.is_some() && is_before(&version, COMPRESSION_SINCE) {
        tracing::info!(
            version,
            stream = name,
            "this nats-server does not compress streams (2.10 does): the stream is not compressed"
        );
        wanted.compression = None;
    }
    match context.create_stream(wanted.clone()).await {
        Ok(stream) => {
            tracing::info!(stream = name, "created a stream");
            Ok(stream)
        }
        Err(error) => match error.kind() {
            // Another process created it in the same moment.
            CreateStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NAME_EXIST =>
            {
                let stream = context.get_stream(&name).await.map_err(server)?;
                match difference(&stream.cached_info().config, &wanted) {
                    None => Ok(stream),
                    Some(difference) => Err(Trouble::Unfit { name, difference, setting }),
                }
            }
            CreateStreamErrorKind::JetStream(error) => Err(match error.error_code() {
                ErrorCode::STREAM_SUBJECT_OVERLAP => Trouble::Overlap { name, subjects, setting },
                _ => Trouble::NotMade { name, reason: error.to_string() },
            }),
            _ => Err(server(error)),
        },
    }
}

/// Whether a server's version text is older than `since`. An unknown format counts as newer.
pub(crate) fn is_before(version: &str, since: (u32, u32)) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < since,
        _ => false,
    }
}

/// Whether `wide` matches every subject that `narrow` matches.
fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('.');
    for token in wide.split('.') {
        match (token, narrow.next()) {
            (">", Some(_)) => return true,
            (_, None | Some(">")) => return false,
            ("*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

/// Why an existing stream does not fit. Its size limits and storage place are left to its owner.
fn difference(found: &Config, wanted: &Config) -> Option<String> {
    if found.retention != wanted.retention {
        let word = |retention| match retention {
            RetentionPolicy::Limits => "limits",
            RetentionPolicy::Interest => "interest",
            RetentionPolicy::WorkQueue => "work queue",
        };
        let (found, wanted) = (word(found.retention), word(wanted.retention));
        return Some(format!("its retention is {found}, not {wanted}"));
    }
    for subject in &wanted.subjects {
        if !found.subjects.iter().any(|filter| covers(filter, subject)) {
            return Some(format!("its subjects are {}, not {subject}", found.subjects.join(", ")));
        }
    }
    if wanted.storage == StorageType::File && found.storage != StorageType::File {
        return Some("it is kept in memory, not in files".to_owned());
    }
    if wanted.discard == DiscardPolicy::New && found.discard != DiscardPolicy::New {
        return Some("it discards old messages when full, and must refuse new ones".to_owned());
    }
    if found.no_ack {
        return Some("it acknowledges nothing (no_ack)".to_owned());
    }
    if found.sealed {
        return Some("it is sealed".to_owned());
    }
    None
}

/// The common configuration of all streams: files, replicas, and compression if the server supports
/// it.
pub(crate) fn base(name: &str, subjects: &[SubjectFilter], replicas: usize) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
        storage: StorageType::File,
        num_replicas: replicas,
        compression: Some(Compression::S2),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goals() -> Config {
        Config {
            subjects: vec!["factory.goals".into()],
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            ..base("GOALS", &[], 1)
        }
    }

    #[test]
    fn a_stream_that_does_not_fit_is_told_by_its_difference() {
        let difference = |change: fn(&mut Config)| {
            let mut found = goals();
            change(&mut found);
            difference(&found, &goals())
        };
        assert_eq!(difference(|_| {}), None);
        assert_eq!(difference(|found| found.subjects = vec!["factory.>".into()]), None);
        assert_eq!(difference(|found| found.max_bytes = 7), None, "limits are its owner's matter");
        assert_eq!(difference(|found| found.num_replicas = 3), None);
        for (change, word) in [
            ((|found| found.subjects = vec!["other".into()]) as fn(&mut Config), "other"),
            (|found| found.retention = RetentionPolicy::Limits, "retention is limits"),
            (|found| found.storage = StorageType::Memory, "memory"),
            (|found| found.discard = DiscardPolicy::Old, "discards"),
            (|found| found.no_ack = true, "no_ack"),
            (|found| found.sealed = true, "sealed"),
        ] {
            let said = difference(change).unwrap();
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn a_filter_covers_what_it_hears_all_of() {
        for (wide, narrow) in
            [("a.>", "a.b.>"), (">", "a"), ("a.*", "a.b"), ("a.*.>", "a.b.c"), ("a.>", "a.>")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("a.b", "a.>"), ("a.*", "a.>"), ("a.*", "a.b.c"), ("a.b.c", "a.b"), ("a.>", "a")]
        {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_before("2.9.10", (2, 10)) && is_before("1.4.0", (2, 10)));
        for version in ["2.10.0", "2.15.1", "2.10.0-beta.1", "3.0.0", "dev"] {
            assert!(!is_before(version, (2, 10)), "{version}");
        }
    }
}
