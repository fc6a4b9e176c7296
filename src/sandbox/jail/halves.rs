//! Two halves of some work at once: files in memory cost processor time only.

use std::{panic::resume_unwind, thread};

/// The result of `work` for each half of `items`; the second half has a thread of its own, if one
/// can be had.
pub(super) fn in_halves<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> [R; 2] {
    let (first, second) = items.split_at(items.len() / 2);
    let beside = || work(second);
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, beside) {
        Ok(thread) => {
            let first = work(first);
            [first, thread.join().unwrap_or_else(|panic| resume_unwind(panic))]
        }
        Err(_) => [work(first), work(second)],
    })
}

#[cfg(test)]
mod tests {
    use super::in_halves;

    #[test]
    fn every_item_is_in_one_half_and_the_halves_keep_their_order() {
        for count in 0..5 {
            let items: Vec<_> = (0..count).collect();
            assert_eq!(in_halves(&items, <[_]>::to_vec).concat(), items);
        }
    }
}
