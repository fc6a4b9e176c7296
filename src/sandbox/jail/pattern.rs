//! File name patterns: `*` and `?` match within one path component, `**` matches any number of
//! components.

/// One pattern, as its components.
pub(super) struct Pattern<'a>(Vec<&'a str>);

/// Which prefixes of a pattern match a path: element `n` is true if the first `n` components do.
#[derive(Clone)]
pub(super) struct PrefixMatches(Vec<bool>);

impl<'a> Pattern<'a> {
    pub(super) fn new(pattern: &'a str) -> Self {
        Self(pattern.split('/').collect())
    }

    /// The state for the empty path.
    pub(super) fn start(&self) -> PrefixMatches {
        let mut reached = vec![false; self.0.len() + 1];
        reached[0] = true;
        self.skip_empty(reached)
    }

    /// The state after one more path component.
    pub(super) fn step(&self, reached: &PrefixMatches, part: &str) -> PrefixMatches {
        let mut next = vec![false; self.0.len() + 1];
        for (at, wanted) in self.0.iter().enumerate().filter(|(at, _)| reached.0[*at]) {
            match *wanted {
                "**" => next[at] = true,
                wanted => next[at + 1] |= part_matches(wanted, part),
            }
        }
        self.skip_empty(next)
    }

    /// `**` may match no component at all.
    fn skip_empty(&self, mut reached: Vec<bool>) -> PrefixMatches {
        for (at, wanted) in self.0.iter().enumerate() {
            reached[at + 1] |= reached[at] && *wanted == "**";
        }
        PrefixMatches(reached)
    }
}

impl PrefixMatches {
    /// Whether the pattern matches the path.
    pub(super) fn is_match(&self) -> bool {
        self.0.last() == Some(&true)
    }

    /// Whether the pattern may match something below the path.
    pub(super) fn goes_on(&self) -> bool {
        self.0.iter().rev().skip(1).any(|reached| *reached)
    }
}

fn part_matches(pattern: &str, part: &str) -> bool {
    let (pattern, part): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), part.chars().collect());
    let (mut at, mut of) = (0, 0);
    // The last `*` and the length it covers: only the last one ever has to be extended.
    let mut star: Option<(usize, usize)> = None;
    while of < part.len() {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, of));
                at += 1;
            }
            (Some(wanted), _) if *wanted == '?' || *wanted == part[of] => {
                at += 1;
                of += 1;
            }
            (_, Some((star_at, reach))) => {
                star = Some((star_at, reach + 1));
                at = star_at + 1;
                of = reach + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(pattern: &str, name: &str) -> PrefixMatches {
        let pattern = Pattern::new(pattern);
        name.split('/').fold(pattern.start(), |reached, part| pattern.step(&reached, part))
    }

    #[test]
    fn patterns_stop_at_slashes_unless_they_say_otherwise() {
        for (pattern, name, is_match) in [
            ("a.txt", "a.txt", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("*/*.txt", "d/a.txt", true),
            ("?.txt", "a.txt", true),
            ("?.txt", ".txt", false),
            ("?", "?", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("d?a", "d/a", false),
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "c", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "b/c", false),
            ("**/b", "a/b/c", false),
        ] {
            assert_eq!(reached(pattern, name).is_match(), is_match, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_goes_on_where_it_may_ask_for_something_below() {
        for (pattern, directory, goes_on) in [
            ("a", "a", false),
            ("*", "a", false),
            ("a/b", "a", true),
            ("a/b", "b", false),
            ("a/b", "a/b", false),
            ("a/**", "a", true),
            ("a/**", "a/b/c", true),
            ("**/x", "a/b", true),
            ("*/x", "a", true),
        ] {
            assert_eq!(reached(pattern, directory).goes_on(), goes_on, "{pattern} {directory}");
        }
    }
}
