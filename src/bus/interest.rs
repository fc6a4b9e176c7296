//! The subscription table: finds the subscriptions that match a subject.
//!
//! Filters without wildcards are found by one hash look-up; those with wildcards are in a trie of
//! tokens, of which only branches that can match are visited. In both cases the cost does not grow
//! with the number of subscriptions to other subjects.

use std::collections::HashMap;

use ai_factory_schemas::subject::SubjectFilter;

/// Subscriptions, each with a number chosen by its owner.
pub(super) struct Interest<T> {
    exact: HashMap<Box<str>, Vec<(u64, T)>>,
    wild: Node<T>,
}

/// A node of the trie: its children, and the subscriptions that end here.
struct Node<T> {
    tokens: HashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    ends: Vec<(u64, T)>,
    rest: Vec<(u64, T)>,
}

impl<T> Default for Interest<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wild: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { tokens: HashMap::new(), any: None, ends: Vec::new(), rest: Vec::new() }
    }
}

fn has_wildcard(filter: &str) -> bool {
    filter.split('.').any(|token| token == "*" || token == ">")
}

impl<T> Interest<T> {
    /// Adds a subscription.
    pub(super) fn insert(&mut self, filter: &SubjectFilter, number: u64, subscription: T) {
        let filter = filter.as_str();
        let list = if has_wildcard(filter) {
            self.wild.list(filter)
        } else {
            self.exact.entry(filter.into()).or_default()
        };
        list.push((number, subscription));
    }

    /// Removes a subscription and the nodes that only it needed.
    pub(super) fn remove(&mut self, filter: &SubjectFilter, number: u64) {
        let filter = filter.as_str();
        if has_wildcard(filter) {
            self.wild.remove(filter, number);
        } else if let Some(list) = self.exact.get_mut(filter) {
            list.retain(|(of, _)| *of != number);
            if list.is_empty() {
                self.exact.remove(filter);
            }
        }
    }

    /// Calls `see` with every subscription that matches `subject`.
    pub(super) fn matching<'a>(&'a self, subject: &str, see: &mut impl FnMut(&'a T)) {
        for (_, subscription) in self.exact.get(subject).into_iter().flatten() {
            see(subscription);
        }
        self.wild.matching(Some(subject), see);
    }
}

/// The first token, and the rest.
fn split(tokens: &str) -> (&str, Option<&str>) {
    tokens.split_once('.').map_or((tokens, None), |(first, rest)| (first, Some(rest)))
}

impl<T> Node<T> {
    fn list(&mut self, filter: &str) -> &mut Vec<(u64, T)> {
        let mut node = self;
        for token in filter.split('.') {
            match token {
                ">" => return &mut node.rest,
                "*" => node = node.any.get_or_insert_default(),
                _ => node = node.tokens.entry(token.into()).or_default(),
            }
        }
        &mut node.ends
    }

    fn remove(&mut self, filter: &str, number: u64) {
        let (token, rest) = split(filter);
        if token == ">" {
            self.rest.retain(|(of, _)| *of != number);
            return;
        }
        let next = if token == "*" { self.any.as_deref_mut() } else { self.tokens.get_mut(token) };
        let Some(next) = next else { return };
        match rest {
            Some(rest) => next.remove(rest, number),
            None => next.ends.retain(|(of, _)| *of != number),
        }
        if next.is_empty() {
            if token == "*" {
                self.any = None;
            } else {
                self.tokens.remove(token);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.any.is_none() && self.ends.is_empty() && self.rest.is_empty()
    }

    /// `left`: the subject's tokens below this node.
    fn matching<'a>(&'a self, left: Option<&str>, see: &mut impl FnMut(&'a T)) {
        let Some(left) = left else {
            self.ends.iter().for_each(|(_, subscription)| see(subscription));
            return;
        };
        self.rest.iter().for_each(|(_, subscription)| see(subscription));
        let (token, left) = split(left);
        if let Some(next) = &self.any {
            next.matching(left, see);
        }
        if let Some(next) = self.tokens.get(token) {
            next.matching(left, see);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(pattern: &'static str) -> impl Strategy<Value = String> {
        prop::collection::vec(pattern, 1..5).prop_map(|tokens| tokens.join("."))
    }

    proptest! {
        #[test]
        fn it_finds_exactly_the_filters_that_match(
            filters in prop::collection::vec((tokens("[ab*]"), any::<bool>(), any::<bool>()), 0..20),
            subject in tokens("[ab]"),
        ) {
            let mut interest = Interest::default();
            let mut all: Vec<(SubjectFilter, u64, bool)> = Vec::new();
            for (number, (filter, open, removed)) in (0..).zip(filters) {
                let filter = if open { format!("{filter}.>") } else { filter };
                let filter: SubjectFilter = filter.parse().unwrap();
                interest.insert(&filter, number, number);
                all.push((filter, number, removed));
            }
            let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, _, gone)| *gone);
            for (filter, number, _) in &gone { interest.remove(filter, *number); }

            let mut found = Vec::new();
            interest.matching(&subject, &mut |number| found.push(*number));
            found.sort_unstable();
            let matching = left.iter().filter(|(filter, _, _)| filter.matches(&subject));
            prop_assert_eq!(found, matching.map(|(_, number, _)| *number).collect::<Vec<_>>());

            for (filter, number, _) in &left { interest.remove(filter, *number); }
            prop_assert!(interest.exact.is_empty() && interest.wild.is_empty());
        }
    }
}
