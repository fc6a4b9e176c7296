//! Sketches: a bit for each number of a vector, set where it is above zero, to find out which vectors may be near without
//! reading their numbers.
//!
//! How far a sketch is away is the weight of the bits in which it differs from the query's, where a bit weighs what the query's
//! number there does. Many models put more into the first numbers than into the last: so the [heads](super::heads) of all
//! sketches are looked at first, and then those that came out best as a whole, in fifteen steps.

use pulp::Arch;

use super::loops::{PLANES, Weights};

const WEIGHT_MAX: u32 = (1 << PLANES) - 1;

/// The sketch of a vector, in whole words.
pub(super) fn sketch(numbers: &[i8]) -> impl Iterator<Item = u64> {
    plane(numbers, |number| number > 0)
}

fn plane(numbers: &[i8], is_set: impl Fn(i8) -> bool) -> impl Iterator<Item = u64> {
    numbers.chunks(64).map(move |some| {
        let bits = some.iter().enumerate();
        bits.fold(0, |word, (bit, number)| word | u64::from(is_set(*number)) << bit)
    })
}

/// How many words of a sketch are its head: as many as have two thirds of what vectors are long, by the squares of
/// their numbers.
pub(super) fn head_words<'a>(vectors: impl Iterator<Item = &'a [i8]>) -> usize {
    let mut squares: Vec<u64> = Vec::new();
    for vector in vectors {
        squares.resize(vector.len().div_ceil(64), 0);
        for (sum, numbers) in squares.iter_mut().zip(vector.chunks(64)) {
            let square = |number: &i8| u64::from(number.unsigned_abs()).pow(2);
            *sum += numbers.iter().map(square).sum::<u64>();
        }
    }
    let all: u64 = squares.iter().sum();
    let mut sum = 0;
    let enough = squares.iter().position(|squares| {
        sum += squares;
        3 * sum >= 2 * all
    });
    enough.unwrap_or_default() + 1
}

/// The sketch of a query, and what each of its bits weighs.
pub(super) struct Probe {
    arch: Arch,
    bits: Vec<u64>,
    /// Plane after plane, the lowest bits of the weights first.
    planes: Vec<u64>,
}

impl Probe {
    /// Of a query that is rounded to whole numbers up to 127.
    pub(super) fn new(arch: Arch, numbers: &[i8]) -> Self {
        let weight = |number: i8| (u32::from(number.unsigned_abs()) * WEIGHT_MAX + 63) / 127;
        let planes = (0..PLANES)
            .flat_map(|bit| plane(numbers, move |number| weight(number) >> bit & 1 == 1));
        Self { arch, bits: sketch(numbers).collect(), planes: planes.collect() }
    }

    /// The numbers of those of these sketches that are nearest: `count` of them, and those that are as near as the last.
    pub(super) fn nearest(&self, sketches: &[&[u64]], count: usize) -> Vec<usize> {
        let mut weights = vec![0; sketches.len()];
        let (query, planes) = (&self.bits[..], &self.planes[..]);
        self.arch.dispatch(Weights { query, planes, sketches, into: &mut weights });
        let mut sorted = weights.clone();
        let farthest = match sorted.len().min(count) {
            0 => 0,
            count => *sorted.select_nth_unstable(count - 1).1,
        };
        let near = weights.iter().enumerate().filter(|(_, weight)| **weight <= farthest);
        near.map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn those_whose_bits_weigh_least_are_the_ones_that_sorting_finds(
            vectors in prop::collection::vec(prop::collection::vec(-127_i8..=127, 100), 2..200),
            count in 1_usize..60,
        ) {
            let (query, vectors) = vectors.split_first().unwrap();
            let weight = |vector: &Vec<i8>| {
                let differ = query.iter().zip(vector).filter(|(a, b)| (**a > 0) != (**b > 0));
                differ.map(|(a, _)| (u32::from(a.unsigned_abs()) * 15 + 63) / 127).sum::<u32>()
            };
            let mut all: Vec<u32> = vectors.iter().map(weight).collect();
            let sketches: Vec<Vec<u64>> = vectors.iter().map(|vector| sketch(vector).collect()).collect();
            let sketches: Vec<&[u64]> = sketches.iter().map(Vec::as_slice).collect();
            let found = Probe::new(Arch::new(), query).nearest(&sketches, count);
            let mut found: Vec<u32> = found.iter().map(|index| weight(&vectors[*index])).collect();
            found.sort_unstable();
            all.sort_unstable();
            let last = all[count.min(all.len()) - 1];
            all.retain(|weight| *weight <= last);
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn the_head_of_a_sketch_has_two_thirds_of_what_vectors_are_long() {
        let head = |vectors: &[Vec<i8>]| head_words(vectors.iter().map(Vec::as_slice));
        assert_eq!(head(&[]), 1);
        assert_eq!(head(&[vec![1; 64]]), 1);
        assert_eq!(head(&[vec![1; 256], vec![-1; 256]]), 3);
        assert_eq!(head(&[[vec![9; 64], vec![1; 192]].concat()]), 1);
        assert_eq!(head(&[[vec![1; 192], vec![9; 64]].concat()]), 4);
    }
}
