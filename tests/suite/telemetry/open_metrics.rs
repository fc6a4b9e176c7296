//! A reader of OpenMetrics text that refuses what the format does not allow.
//!
//! *Limits.* Counters, gauges and histograms, without times and exemplars: all that there is here.
//! The format: OpenMetrics 1.0, <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

#![expect(clippy::float_cmp, reason = "counts are small whole numbers")]

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample.
pub(super) type Labels = BTreeMap<String, String>;

/// The samples under one name.
#[derive(Debug, Default)]
pub(super) struct MetricFamily {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) unit: String,
    pub(super) help: String,
    /// Suffix, labels, value.
    pub(super) samples: Vec<(String, Labels, f64)>,
}

/// All families of a text; panics with the line that breaks a rule.
pub(super) fn read(text: &str) -> Vec<MetricFamily> {
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    let mut families: Vec<MetricFamily> = Vec::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').expect(line);
            let (name, said) = rest.split_once(' ').expect(line);
            if families.last().is_none_or(|family| family.name != name) {
                families.push(MetricFamily { name: name.to_owned(), ..MetricFamily::default() });
            }
            let family = families.last_mut().unwrap();
            assert!(family.samples.is_empty(), "said after the samples: {line}");
            let place = match what {
                "HELP" => &mut family.help,
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                _ => panic!("no such line: {line}"),
            };
            assert!(place.is_empty(), "said twice: {line}");
            said.clone_into(place);
            continue;
        }
        let family = families.last_mut().expect("samples follow their description");
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) =
            series.split_once('{').map_or((series, Labels::new()), |(name, rest)| {
                (name, labels(rest.strip_suffix('}').expect(line)))
            });
        let suffix = name.strip_prefix(&family.name).unwrap_or_else(|| panic!("strayed: {line}"));
        family.samples.push((suffix.to_owned(), labels, value.parse().expect(line)));
    }
    let mut names = BTreeSet::new();
    for family in &families {
        assert!(names.insert(&family.name), "{} is there twice", family.name);
        check(family);
    }
    families
}

/// `a="b",c="d"`: values here need no escapes.
fn labels(text: &str) -> Labels {
    let pairs: Vec<_> = text
        .split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').expect(text);
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            assert!(is_name(name), "{text}");
            (name.to_owned(), value.expect(text).to_owned())
        })
        .collect();
    let labels: Labels = pairs.iter().cloned().collect();
    assert_eq!(labels.len(), pairs.len(), "a label is there twice: {text}");
    labels
}

fn is_name(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

fn check(family: &MetricFamily) {
    let MetricFamily { name, kind, unit, help, samples } = family;
    assert!(is_name(name), "{name}");
    assert!(help.ends_with('.') && help.len() > 10, "{name} needs a sentence, not `{help}`");
    assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name} is not in {unit}");
    assert!(!samples.is_empty(), "{name} has no sample");
    let allowed: &[&str] = match kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_sum", "_count", "_bucket"],
        _ => panic!("{name} is of the type `{kind}`"),
    };
    let mut series = BTreeSet::new();
    for (suffix, labels, value) in samples {
        assert!(allowed.contains(&suffix.as_str()), "{name}{suffix} in a {kind}");
        assert!(series.insert((suffix, labels)), "{name}{suffix}{labels:?} is there twice");
        assert!(value.is_finite() && *value >= 0.0, "{name}{suffix} is {value}");
    }
    if kind == "histogram" {
        let buckets: Vec<_> = samples.iter().filter(|(suffix, ..)| suffix == "_bucket").collect();
        assert!(buckets.is_sorted_by(|one, next| one.2 <= next.2), "{name}: {buckets:?}");
        let last = buckets.last().expect(name);
        assert_eq!(last.1["le"], "+Inf", "{name}");
        assert_eq!(Some(last.2), value_of(family, "_count"), "{name}");
    }
}

/// The value of the sample with this suffix, in a family without labels.
pub(super) fn value_of(family: &MetricFamily, suffix: &str) -> Option<f64> {
    family.samples.iter().find(|sample| sample.0 == suffix).map(|sample| sample.2)
}

#[test]
fn what_the_format_does_not_allow_is_refused() {
    let good = "# HELP a_b Counts things.\n# TYPE a_b counter\na_b_total{c=\"d\"} 1\n# EOF\n";
    assert_eq!(read(good)[0].samples[0].2, 1.0);
    for (part, bad) in [
        ("# EOF\n", ""),
        ("a_b_total", "a_c_total"),
        ("a_b_total", "a_b"),
        (" counter", " number"),
        ("\"d\"", "d"),
        (" 1\n", " one\n"),
        (" 1\n", " 1\na_b_total{c=\"d\"} 2\n"),
        ("# EOF\n", "# HELP a_c Other.\n# TYPE a_c gauge\na_c 1\n# HELP a_b Again.\n# EOF\n"),
    ] {
        let text = good.replace(part, bad);
        assert!(std::panic::catch_unwind(|| read(&text)).is_err(), "{text}");
    }
}
