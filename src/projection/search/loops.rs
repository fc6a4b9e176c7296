//! The loops over many vectors, each compiled for the processor that is found.
//!
//! They count, where others would use iterators: what `zip`, `map` and `sum` are made of may become functions of their own, which
//! are compiled for any processor and called for each vector.

#![expect(clippy::needless_range_loop, reason = "see above")]

use std::ops::BitXor;

/// How many planes the weights of bits have: they go up to 15.
pub(super) const PLANES: usize = 4;

/// What the bits weigh together in which one sketch and each of many differ.
pub(super) struct Weights<'a> {
    pub(super) query: &'a [u64],
    /// Plane after plane, each as long as a sketch: a bit of the first one weighs 1, of the next one 2, and so on.
    pub(super) planes: &'a [u64],
    pub(super) sketches: &'a [&'a [u64]],
    /// One for each sketch.
    pub(super) into: &'a mut [u16],
}

impl pulp::NullaryFnOnce for Weights<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    fn call(self) {
        let Self { query, planes, sketches, into } = self;
        // With a number of words that the compiler knows, it takes a third of the time.
        match query.len() {
            4 => weights::<4>(query, planes, sketches, into),
            6 => weights::<6>(query, planes, sketches, into),
            12 => weights::<12>(query, planes, sketches, into),
            words => {
                for (weight, sketch) in into.iter_mut().zip(sketches) {
                    let mut sum = 0;
                    for (bit, plane) in planes.chunks_exact(words).enumerate() {
                        sum += u32::from(differing(query, plane, sketch)) << bit;
                    }
                    *weight = u16::try_from(sum).unwrap_or(u16::MAX - 1);
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
fn weights<const WORDS: usize>(
    query: &[u64],
    planes: &[u64],
    sketches: &[&[u64]],
    into: &mut [u16],
) {
    let Some(query) = query.first_chunk::<WORDS>() else { return };
    let Some(planes) = planes.as_chunks::<WORDS>().0.first_chunk::<PLANES>() else { return };
    let count = sketches.len().min(into.len());
    let (sketches, into) = (&sketches[..count], &mut into[..count]);
    for (some, into) in sketches.chunks(TOUCHED).zip(into.chunks_mut(TOUCHED)) {
        touch(some);
        for at in 0..some.len() {
            into[at] = match some[at].first_chunk::<WORDS>() {
                Some(sketch) => {
                    let mut sum = 0;
                    for bit in 0..PLANES {
                        sum += differing(query, &planes[bit], sketch) << bit;
                    }
                    sum
                }
                None => u16::MAX,
            };
        }
    }
}

/// So many pieces of memory are brought into the cache at once.
const TOUCHED: usize = 16;

/// Brings some pieces of memory into the cache, to wait for all of them at the same time: what is done with one does not reach far
/// enough ahead.
#[inline(always)]
fn touch<T: Copy + BitXor<Output = T> + Default>(some: &[&[T]]) {
    /// The cache brings so many bytes at a time.
    const LINE_BYTES: usize = 64;
    let mut touched = T::default();
    for at in 0..some.len() {
        let mut index = 0;
        while index < some[at].len() {
            touched = touched ^ some[at][index];
            index += LINE_BYTES / size_of::<T>();
        }
    }
    std::hint::black_box(touched);
}

/// In how many bits of a plane two sketches differ.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
#[expect(clippy::cast_possible_truncation, reason = "as many as there are dimensions at most")]
fn differing(query: &[u64], plane: &[u64], sketch: &[u64]) -> u16 {
    let mut bits = 0;
    for at in 0..query.len() {
        bits += ((query[at] ^ sketch[at]) & plane[at]).count_ones();
    }
    bits as u16
}

/// The products of one vector with some.
pub(super) struct Products<'a> {
    pub(super) query: &'a [i16],
    pub(super) vectors: &'a [&'a [i8]],
    /// One for each vector.
    pub(super) into: &'a mut [i32],
}

impl pulp::NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    fn call(self) {
        let count = self.vectors.len().min(self.into.len());
        let (vectors, into) = (&self.vectors[..count], &mut self.into[..count]);
        for (some, into) in vectors.chunks(TOUCHED).zip(into.chunks_mut(TOUCHED)) {
            touch(some);
            for at in 0..some.len() {
                into[at] = product(self.query, some[at]);
            }
        }
    }
}

#[inline(always)]
fn product(query: &[i16], numbers: &[i8]) -> i32 {
    /// Sums that grow side by side, each of the products of two neighbours: there is an instruction for that.
    const SUMS: usize = 16;
    let (queries, query_rest) = query.as_chunks::<{ 2 * SUMS }>();
    let (some, rest) = numbers.as_chunks::<{ 2 * SUMS }>();
    let mut sums = [0_i32; SUMS];
    for chunk in 0..queries.len().min(some.len()) {
        let (query, numbers) = (&queries[chunk], &some[chunk]);
        for at in 0..SUMS {
            let (left, right) = (2 * at, 2 * at + 1);
            sums[at] += i32::from(query[left]) * i32::from(numbers[left])
                + i32::from(query[right]) * i32::from(numbers[right]);
        }
    }
    let mut sum = 0;
    for at in 0..SUMS {
        sum += sums[at];
    }
    for at in 0..query_rest.len().min(rest.len()) {
        sum += i32::from(query_rest[at]) * i32::from(rest[at]);
    }
    sum
}

/// The product of one vector with another one that is rounded. Summed in the same order on every processor.
pub(super) struct Product<'a> {
    pub(super) query: &'a [f32],
    pub(super) numbers: &'a [i8],
}

impl pulp::NullaryFnOnce for Product<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        /// Sums that grow side by side.
        const SUMS: usize = 16;
        let ((queries, query_rest), (numbers, rest)) =
            (self.query.as_chunks::<SUMS>(), self.numbers.as_chunks::<SUMS>());
        let mut sums = [0.0; SUMS];
        for chunk in 0..queries.len().min(numbers.len()) {
            let (query, numbers) = (&queries[chunk], &numbers[chunk]);
            for at in 0..SUMS {
                sums[at] += query[at] * f32::from(numbers[at]);
            }
        }
        let mut sum = 0.0;
        for at in 0..SUMS {
            sum += sums[at];
        }
        for at in 0..query_rest.len().min(rest.len()) {
            sum += query_rest[at] * f32::from(rest[at]);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Arch;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_weighed_alike_whatever_the_length_of_a_sketch(
            words in 1_usize..14,
            bits in prop::collection::vec(any::<u64>(), 70..300),
        ) {
            let (query, rest) = bits.split_at(words);
            let (planes, rest) = rest.split_at(words * PLANES);
            let sketches: Vec<&[u64]> = rest.chunks_exact(words).collect();
            let bit = |words: &[u64], at: usize| words[at / 64] >> (at % 64) & 1;
            let weight = |at: usize| (0..PLANES).map(|plane| bit(&planes[plane * words..], at) << plane).sum::<u64>();
            let plain: Vec<u16> = sketches
                .iter()
                .map(|sketch| {
                    let weights = (0..64 * words).map(|at| (bit(query, at) ^ bit(sketch, at)) * weight(at));
                    u16::try_from(weights.sum::<u64>()).unwrap()
                })
                .collect();
            let mut found = vec![0; plain.len()];
            Arch::new().dispatch(Weights { query, planes, sketches: &sketches, into: &mut found });
            prop_assert_eq!(found, plain);
        }

        #[test]
        fn products_are_the_same_whatever_the_length_of_a_vector(
            dimensions in 1_usize..100,
            numbers in prop::collection::vec(any::<i8>(), 100..900),
        ) {
            let (query, rest) = numbers.split_at(dimensions);
            let vectors: Vec<&[i8]> = rest.chunks_exact(dimensions).collect();
            let query: Vec<i16> = query.iter().map(|number| i16::from(*number)).collect();
            let product = |vector: &&[i8]| query.iter().zip(*vector).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            let plain: Vec<i32> = vectors.iter().map(product).collect();
            let mut found = vec![0; vectors.len()];
            Arch::new().dispatch(Products { query: &query, vectors: &vectors, into: &mut found });
            prop_assert_eq!(found, plain);
        }

        #[test]
        fn a_product_is_the_same_on_every_processor(
            pairs in prop::collection::vec((-1.0_f32..1.0, any::<i8>()), 0..300),
        ) {
            let (query, numbers): (Vec<f32>, Vec<i8>) = pairs.iter().copied().unzip();
            let plain: f64 = pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let product = || Product { query: &query, numbers: &numbers };
            let found = Arch::new().dispatch(product());
            prop_assert_eq!(found.to_bits(), pulp::NullaryFnOnce::call(product()).to_bits());
            prop_assert!((f64::from(found) - plain).abs() < 1e-2, "{} {}", found, plain);
        }
    }
}
