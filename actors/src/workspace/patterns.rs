//! The patterns of protected files: what they may say, and which paths they cover.
//!
//! `*` and `?` match within one part of a path, `**` any number of parts; a pattern that matches a
//! directory covers everything below it. Matching works on the bytes of names in UTF-8: `?` is one
//! of them, so that `?` stands for `e` and `??` for `é`.

use ai_factory_schemas::file::check_name;
use globset::{Glob, GlobBuilder, GlobSet};

/// Signs that other languages of patterns give a meaning.
const NOT_UNDERSTOOD: [char; 5] = ['[', ']', '{', '}', '\\'];
/// The most `*` and `?` of a pattern, `**` being one: each multiplies the places in it where a path
/// may stand.
const WILDCARDS_MAX: usize = 10;

/// Patterns of protected files, ready for matching.
#[derive(Clone, Debug, Default)]
pub struct ProtectedPaths(GlobSet);

impl ProtectedPaths {
    /// The paths that one of `patterns` covers.
    ///
    /// # Errors
    /// A sentence, if a pattern is none that a goal may have.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let wrong = |pattern: &str, fault: String| format!("the pattern {pattern:?} {fault}");
        let mut globs = GlobSet::builder();
        for pattern in patterns {
            for glob in globs_of(pattern).map_err(|fault| wrong(pattern, fault))? {
                globs.add(glob);
            }
        }
        let set = globs.build().map_err(|fault| format!("the patterns are too large: {fault}"))?;
        Ok(Self(set))
    }

    /// Whether a pattern covers the file at `path`.
    pub fn covers(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// Whether `pattern` may stand in a goal.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the pattern.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    check_name(without_slash(pattern))?;
    if let Some(sign) = pattern.chars().find(|sign| NOT_UNDERSTOOD.contains(sign)) {
        return Err(format!(
            "has a `{sign}`: a pattern understands `*` and `?` within one part of a path, and `**` for any number of \
             parts; `?` may stand for the sign"
        ));
    }
    let wildcards = pattern.replace("**", "*").matches(['*', '?']).count();
    if wildcards > WILDCARDS_MAX {
        return Err(format!(
            "has {wildcards} `*` and `?`: at most {WILDCARDS_MAX}, where `**` counts once"
        ));
    }
    globs_of(pattern).map(drop)
}

/// The file, and everything below a directory of that name.
fn globs_of(pattern: &str) -> Result<[Glob; 2], String> {
    let pattern = without_slash(pattern);
    Ok([glob(pattern)?, glob(&format!("{pattern}/**"))?])
}

fn glob(pattern: &str) -> Result<Glob, String> {
    let mut builder = GlobBuilder::new(pattern);
    let built = builder.literal_separator(true).backslash_escape(false).build();
    built.map_err(|fault| format!("is no pattern: {}", fault.kind()))
}

/// A slash at the end says that a directory is meant, which any pattern may name.
fn without_slash(pattern: &str) -> &str {
    pattern.strip_suffix('/').unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::limit::PROTECT_PATTERNS_MAX;

    use super::*;

    fn covers(pattern: &str, path: &str) -> bool {
        check_pattern(pattern).unwrap();
        ProtectedPaths::new(&[pattern.to_owned()]).unwrap().covers(path)
    }

    #[test]
    fn a_pattern_matches_whole_paths_part_by_part() {
        for (pattern, path, is_covered) in [
            ("test_*.py", "test_a.py", true),
            ("test_*.py", "a/test_a.py", false),
            ("**/test_*.py", "test_a.py", true),
            ("**/test_*.py", "a/b/test_a.py", true),
            ("tests/**", "tests/a/b.py", true),
            ("tests/**", "tests/b.py", true),
            ("tests/**", "other/tests/b.py", false),
            ("tests/*.py", "tests/a/b.py", false),
            ("**", "a/b", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/b/c", false),
            ("?.py", "a.py", true),
            ("?.py", "ab.py", false),
            ("a?b", "a/b", false),
            ("*.py", ".hidden.py", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a**b", "axxb", true),
            ("a**b", "a/b", false),
            ("ä*.py", "äö.py", true),
            ("??.py", "ä.py", true),
            ("a/b", "a", false),
            ("a/b", "b", false),
            ("A", "a", false),
            ("!a", "b", false),
        ] {
            assert_eq!(covers(pattern, path), is_covered, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_that_matches_a_directory_covers_everything_below_it() {
        for pattern in ["tests", "tests/", "tes*", "tes*/", "**/tests", "tests/*", "tests/**"] {
            assert!(covers(pattern, "tests/a.py"), "{pattern}");
            assert!(covers(pattern, "tests/a/b.py"), "{pattern}");
            assert!(!covers(pattern, "other/a.py"), "{pattern}");
        }
        assert!(covers("tests", "tests") && covers("tests/", "tests"));
        assert!(!covers("tests", "tests.py") && !covers("tests", "a/tests/b.py"));
    }

    #[test]
    fn signs_without_a_meaning_are_refused() {
        for (pattern, sign) in [("a[b]", '['), ("{a,b}", '{'), ("a\\*", '\\'), ("a}", '}')] {
            let fault = check_pattern(pattern).unwrap_err();
            assert!(fault.contains(&format!("`{sign}`")), "{fault}");
            assert!(fault.contains("`**` for any number"), "{fault}");
        }
        for pattern in ["", "/", "/a", "a//b", "../a", "a//"] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
        assert!(ProtectedPaths::new(&["a".to_owned(), "{".to_owned()]).is_err());
    }

    #[test]
    fn a_pattern_has_a_limited_number_of_wildcards() {
        assert!(check_pattern("**/????-??-??/*").is_ok());
        assert!(check_pattern(&"**/".repeat(WILDCARDS_MAX)).is_ok());
        let fault = check_pattern(&"?".repeat(WILDCARDS_MAX + 1)).unwrap_err();
        assert!(fault.starts_with("has 11 `*` and `?`: at most 10"), "{fault}");
    }

    /// Paths of 240 bytes, each a walk through the states that hostile patterns can be in.
    fn odd_paths() -> impl Iterator<Item = String> {
        const PARTS: [[&str; 2]; 3] =
            [["a", "c"], ["a", "a/"], ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "c"]];
        let mut state = 1_u64;
        (0..2_000).map(move |n| {
            let mut path = format!("{n}");
            while path.len() < 240 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                path.push_str(PARTS[n % PARTS.len()][usize::from(state >> 63 == 0)]);
            }
            path
        })
    }

    /// Every sign multiplies the places where a path may stand in a pattern: without a limit, and
    /// with a comparison that tries them one by one, this takes minutes to days.
    #[test]
    fn hostile_patterns_are_compared_with_every_path_of_a_large_workspace() {
        let any = WILDCARDS_MAX;
        for hostile in [
            format!("{}b", "*a".repeat(any)),
            format!("*a{}b", "?".repeat(any - 1)),
            format!("*{}b", format!("{}?", "a".repeat(24)).repeat(any - 1)),
            format!("{}b", "**/a/".repeat(any)),
        ] {
            let patterns: Vec<_> =
                (0..PROTECT_PATTERNS_MAX).map(|n| format!("{hostile}{n}")).collect();
            assert!(patterns.iter().all(|pattern| check_pattern(pattern).is_ok()), "{hostile}");
            let paths = ProtectedPaths::new(&patterns).unwrap();
            assert!(!odd_paths().any(|path| paths.covers(&path)), "{hostile}");
            let wanted = hostile.replace("**/", "d/e/").replace(['*', '?'], "x");
            assert!(paths.covers(&format!("{wanted}63")), "{hostile}");
        }
    }
}
