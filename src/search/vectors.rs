//! The vectors of one model: one per chunk of each memory, searched by a linear scan.
//!
//! A component takes one byte: a vector is quantised to integers from -127 to 127 and one factor.
//! Beside it is its [sketch](super::sketches). Above [`FULL_VECTORS_MAX`] vectors, only those with
//! the nearest sketches are compared in full. All are in memory, in blocks that are not changed
//! once they are full, so a search uses a consistent copy without a lock.
//!
//! *Promises.* A search sees every vector from the moment it is added, and the cost of adding one
//! does not depend on their number.
//!
//! *Limits.* A sketch can mislead: of the ten nearest of 50,000 texts, all but 2 in 1,000 are among
//! those that are compared.

use std::{collections::BTreeSet, sync::Arc};

use pulp::Arch;

use super::{
    kernels::{ProductKernel, ProductsKernel},
    position_filter::PositionFilter,
    sketches::{Sketches, TOO_FAR, WeightTables, halves, near, reaching},
    vector_block::{QuantizedVector, VectorBlock},
};

/// Vectors per block. Small, because the last block is copied when a vector is added during a
/// search.
const BLOCK_VECTORS: usize = 512;
/// Up to this many vectors all are compared in full.
const FULL_VECTORS_MAX: usize = 4_096;
/// Above that, this many vectors with the nearest sketches are compared in full. Up to
/// [`FEW_VECTORS_MAX`], [`COMPARED_OF_FEW`] miss no more of the nearest.
const COMPARED: usize = 600;
const FEW_VECTORS_MAX: usize = 12_000;
const COMPARED_OF_FEW: usize = 450;
/// Above this many vectors only the first halves of sketches are scanned, if they are informative
/// enough, and more vectors are compared in full: [`COMPARED_OF_MANY_MIN`], or one in
/// [`COMPARED_PART_OF_MANY`].
const MANY_VECTORS_MIN: usize = 256 * 1024;
const COMPARED_OF_MANY_MIN: usize = 4_000;
const COMPARED_PART_OF_MANY: usize = 256;
/// If whole sketches have to be scanned, at least one in this many vectors is compared.
const COMPARED_PART: usize = 1024;

/// Of vectors with the same sketch distance as the last one compared, at most this many times the
/// wanted number are compared.
const AS_NEAR_FACTOR: usize = 4;

/// All vectors at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    dimensions: usize,
    arch: Arch,
    /// Full blocks: no vectors are added to them; some may have been removed.
    full: Arc<Vec<Arc<VectorBlock>>>,
    /// Position of the last memory in each full block.
    ends: Arc<Vec<u64>>,
    last: Arc<VectorBlock>,
    count: usize,
}

impl Vectors {
    /// Without vectors.
    pub(super) fn new(dimensions: usize) -> Self {
        let (full, ends, last) = (Arc::default(), Arc::default(), Arc::default());
        Self { dimensions, arch: Arch::new(), full, ends, last, count: 0 }
    }

    /// Number of vectors.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a vector of a memory that is not older than the last one.
    pub(super) fn push(&mut self, position: u64, vector: &QuantizedVector) {
        Arc::make_mut(&mut self.last).push(position, vector);
        self.count += 1;
        if self.last.len() == BLOCK_VECTORS {
            let last = std::mem::take(&mut self.last);
            Arc::make_mut(&mut self.full).push(last);
            Arc::make_mut(&mut self.ends).push(position);
        }
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = &VectorBlock> {
        self.full.iter().chain([&self.last]).map(AsRef::as_ref)
    }

    /// Removes the vectors of the memories at these positions, and of all up to `expired`.
    pub(super) fn forget(&mut self, positions: &BTreeSet<u64>, expired: u64) {
        let is_kept = |position| position > expired && !positions.contains(&position);
        let dimensions = self.dimensions;
        let forget = |block: &mut Arc<VectorBlock>| {
            let range = block.positions.first().zip(block.positions.last());
            let is_concerned = range.is_some_and(|(first, last)| {
                *first <= expired || positions.range(first..=last).next().is_some()
            });
            if is_concerned {
                *block = Arc::new(block.kept(is_kept, dimensions));
            }
        };
        let full = Arc::make_mut(&mut self.full);
        full.iter_mut().for_each(forget);
        full.retain(|block| block.len() > 0);
        let ends = full.iter().filter_map(|block| block.positions.last().copied());
        self.ends = Arc::new(ends.collect());
        forget(&mut self.last);
        self.count = self.blocks().map(VectorBlock::len).sum();
    }

    /// Number of vectors of memories behind a position.
    pub(super) fn len_since(&self, position: u64) -> usize {
        let behind = |block: &VectorBlock| {
            block.len() - block.positions.partition_point(|other| *other <= position)
        };
        self.blocks().rev().map(behind).take_while(|count| *count > 0).sum()
    }

    /// The vectors of memories behind a position.
    pub(super) fn since(&self, position: u64) -> VectorBlock {
        let mut since = VectorBlock::default();
        let first = self.ends.partition_point(|end| *end <= position);
        for block in self.full[first..].iter().chain([&self.last]) {
            let skipped = block.positions.partition_point(|other| *other <= position);
            since.positions.extend_from_slice(&block.positions[skipped..]);
            since.scales.extend_from_slice(&block.scales[skipped..]);
            since.numbers.extend_from_slice(&block.numbers[skipped * self.dimensions..]);
        }
        since
    }

    /// All vectors, in parts small enough to be written one by one.
    pub(super) fn parts(&self) -> impl Iterator<Item = VectorBlock> {
        self.blocks().map(|block| VectorBlock { sketches: Sketches::default(), ..block.clone() })
    }

    /// Cosine of `query` and the nearest vector of the memory at a position; `None` if it has no
    /// vector.
    pub(super) fn cosine(&self, query: &[f32], position: u64) -> Option<f32> {
        let cosines = self.of(position).map(|(block, index)| self.exact(query, block, index));
        cosines.reduce(f32::max)
    }

    /// The vectors of the memory at a position.
    fn of(&self, position: u64) -> impl Iterator<Item = (&VectorBlock, usize)> {
        let at = self.ends.partition_point(|end| *end < position);
        // The chunks of one memory may be in two blocks.
        let blocks = self.full[at..].iter().take(2).chain([&self.last]).map(AsRef::as_ref);
        let begins_before = move |block: &&VectorBlock| block.positions.first() <= Some(&position);
        blocks.take_while(begins_before).flat_map(move |block| {
            let first = block.first_at(position);
            let same = block.positions[first..].iter().take_while(|other| **other == position);
            (first..first + same.count()).map(move |index| (block, index))
        })
    }

    fn exact(&self, query: &[f32], block: &VectorBlock, index: usize) -> f32 {
        let (numbers, scale) = block.vector(index, self.dimensions);
        self.arch.dispatch(ProductKernel { query, numbers }) * scale
    }

    /// The memories with the vectors nearest to `query`, nearest first.
    pub(super) fn nearest(
        &self,
        query: &[f32],
        limit: usize,
        allowed: Option<&PositionFilter>,
    ) -> Vec<Neighbour> {
        let Some(rounded) = QuantizedVector::new(query) else { return Vec::new() };
        let numbers: Vec<i16> = rounded.numbers.iter().map(|number| i16::from(*number)).collect();
        let some = if let Some(few) = allowed.and_then(PositionFilter::few) {
            few.iter().flat_map(|position| self.of(*position)).collect()
        } else if self.len() > FULL_VECTORS_MAX {
            self.with_near_sketches(&rounded.numbers, allowed)
        } else {
            let all = self.blocks().flat_map(|block| (0..block.len()).map(move |at| (block, at)));
            let is_allowed =
                |position| allowed.is_none_or(|some: &PositionFilter| some.contains(position));
            all.filter(|(block, index)| is_allowed(block.positions[*index])).collect()
        };
        let vectors = some.iter().map(|(block, index)| block.vector(*index, self.dimensions).0);
        let vectors: Vec<&[i8]> = vectors.collect();
        let mut products = vec![0; some.len()];
        self.arch.dispatch(ProductsKernel {
            query: &numbers,
            vectors: &vectors,
            into: &mut products,
        });
        #[expect(clippy::cast_precision_loss, reason = "below 2^24 for 1,000 dimensions")]
        let cosine = |((block, index), product): (&(&VectorBlock, usize), i32)| {
            product as f32 * block.scales[*index] * rounded.scale
        };
        let cosines: Vec<f32> = some.iter().zip(products).map(cosine).collect();
        let neighbour = |(at, position): (usize, u64)| {
            let (block, index) = some[at];
            Neighbour { position, rounded: cosines[at], cosine: self.exact(query, block, index) }
        };
        let position = |at: usize| some[at].0.positions[some[at].1];
        nearest(&cosines, limit, position).into_iter().map(neighbour).collect()
    }

    /// The vectors to compare in full, selected by sketch.
    fn with_near_sketches(
        &self,
        query: &[i8],
        allowed: Option<&PositionFilter>,
    ) -> Vec<(&VectorBlock, usize)> {
        let count = self.len();
        if count > MANY_VECTORS_MIN && is_significant(halves(query).0, query) {
            let compared = COMPARED_OF_MANY_MIN.max(count / COMPARED_PART_OF_MANY);
            return self.nearest_by(&WeightTables::of_first_half(query), compared, allowed);
        }
        let compared = if count <= FEW_VECTORS_MAX { COMPARED_OF_FEW } else { COMPARED };
        self.nearest_by(&WeightTables::new(query), compared.max(count / COMPARED_PART), allowed)
    }

    /// The `count` vectors with the nearest sketches, and others with the same distance as the
    /// last; if those are very many, the newest.
    fn nearest_by(
        &self,
        tables: &WeightTables,
        count: usize,
        allowed: Option<&PositionFilter>,
    ) -> Vec<(&VectorBlock, usize)> {
        let mut distances = vec![0; self.len()];
        let mut rest = &mut distances[..];
        for block in self.blocks() {
            let (here, behind) = rest.split_at_mut(block.len());
            rest = behind;
            tables.distances(&block.sketches, here);
            if let Some(allowed) = allowed {
                for (distance, position) in here.iter_mut().zip(&block.positions) {
                    if !allowed.contains(*position) {
                        *distance = TOO_FAR;
                    }
                }
            }
        }
        let farthest = reaching(&distances, count);
        let mut room = AS_NEAR_FACTOR * count;
        let mut found = Vec::with_capacity(count + count / 4);
        let mut rest = &distances[..];
        for block in self.blocks().rev() {
            let (before, here) = rest.split_at(rest.len() - block.len());
            rest = before;
            near(here, farthest, |index| {
                let is_last = here[index] == farthest;
                if !is_last || room > 0 {
                    room -= usize::from(is_last);
                    found.push((block, index));
                }
            });
        }
        found
    }
}

/// Whether some of a query's components carry three fifths of its squared length. Many models put
/// more into the first components than into the last.
fn is_significant(some: &[i8], query: &[i8]) -> bool {
    let square = |numbers: &[i8]| -> u64 {
        numbers.iter().map(|number| u64::from(number.unsigned_abs()).pow(2)).sum()
    };
    5 * square(some) >= 3 * square(query)
}

/// A memory near a query.
#[derive(Clone, Debug)]
pub(super) struct Neighbour {
    /// Its position.
    pub(super) position: u64,
    /// Cosine of the query and its nearest vector, both quantised.
    pub(super) rounded: f32,
    /// Cosine of the exact query and that vector.
    pub(super) cosine: f32,
}

/// Indices and positions of the vectors with the largest positive cosines, one for each of the
/// `limit` nearest memories: nearest first, newer first among equals. `position` maps a vector to
/// its memory.
fn nearest(cosines: &[f32], limit: usize, position: impl Fn(usize) -> u64) -> Vec<(usize, u64)> {
    let nearer = |a: &(usize, u64), b: &(usize, u64)| cosines[b.0].total_cmp(&cosines[a.0]);
    let newer = |a: &(usize, u64), b: &(usize, u64)| b.1.cmp(&a.1);
    let mut sorted = cosines.to_vec();
    let mut count = limit;
    loop {
        let is_all = count >= cosines.len();
        let least = if is_all || count == 0 {
            0.0
        } else {
            *sorted.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
        };
        let near =
            cosines.iter().enumerate().filter(|(_, cosine)| **cosine > 0.0 && **cosine >= least);
        let mut near: Vec<(usize, u64)> = near.map(|(at, _)| (at, position(at))).collect();
        near.sort_unstable_by(|a, b| newer(a, b).then(nearer(a, b)));
        near.dedup_by_key(|(_, position)| *position);
        if near.len() >= limit || is_all {
            near.sort_unstable_by(|a, b| nearer(a, b).then(newer(a, b)));
            near.truncate(limit);
            return near;
        }
        // Some memories have several vectors among them.
        count *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::position_filter::Positions, *};

    const DIMENSIONS: usize = 24;

    /// Pseudo-random components.
    fn vector(seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut vector: Vec<f32> = (0..DIMENSIONS)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                f32::from(i8::try_from(state % 255).unwrap_or(-1))
            })
            .collect();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1.0);
        for number in &mut vector {
            *number /= length;
        }
        vector
    }

    fn vectors(count: u64) -> Vectors {
        let mut vectors = Vectors::new(DIMENSIONS);
        for number in 0..count {
            // Two chunks each.
            vectors.push(number / 2 + 1, &QuantizedVector::new(&vector(number)).unwrap());
        }
        vectors
    }

    #[test]
    fn the_nearest_are_those_with_the_largest_cosine_each_memory_once() {
        let vectors = vectors(3_001);
        for seed in [7_000, 7_001, 7_002] {
            let query = vector(seed);
            let mut expected: Vec<(u64, f32)> = (1..=1_501)
                .map(|position| (position, vectors.cosine(&query, position).unwrap()))
                .collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1));
            let nearest = vectors.nearest(&query, 20, None);
            assert_eq!(nearest.len(), 20, "seed {seed}");
            for (found, (_, best)) in nearest.iter().zip(&expected) {
                assert!((found.rounded - best).abs() < 0.01, "seed {seed}: {found:?} {best}");
                let cosine = vectors.cosine(&query, found.position).unwrap();
                // Two chunks that are equally near, except for rounding: either may be chosen.
                assert!(cosine >= found.cosine && cosine - found.cosine < 0.01, "seed {seed}");
            }
        }
    }

    #[test]
    fn where_there_are_many_the_nearest_are_found_by_their_sketches() {
        for count in [10_000, 20_000, MANY_VECTORS_MIN as u64 + 1_000] {
            let vectors = vectors(count);
            for number in [0, 9_999, count - 1] {
                let nearest = vectors.nearest(&vector(number), 5, None);
                let itself = vectors.cosine(&vector(number), number / 2 + 1).unwrap();
                // Both are quantised here, only one of them there.
                assert!(nearest[0].rounded >= itself - 0.01, "{number}: {nearest:?} {itself}");
                assert!(nearest.is_sorted_by(|a, b| a.rounded >= b.rounded) && nearest.len() == 5);
            }
        }
    }

    #[test]
    fn those_with_the_nearest_sketches_are_the_ones_that_sorting_finds() {
        let vectors = vectors(5_000);
        for (seed, count) in [(7_000, 1), (7_001, 40), (7_002, 1_000), (7_003, 6_000)] {
            let query = QuantizedVector::new(&vector(seed)).unwrap();
            let tables = WeightTables::new(&query.numbers);
            let far = |block: &VectorBlock, index: usize| {
                let mut distances = vec![0; block.len()];
                tables.distances(&block.sketches, &mut distances);
                distances[index]
            };
            let left_out = Positions::Few((0..5_000).step_by(3).collect());
            let allowed = PositionFilter::AllBut { upto: u64::MAX, left_out };
            let all = vectors.blocks().flat_map(|b| (0..b.len()).map(move |index| (b, index)));
            let mut all: Vec<(u8, u64)> = all
                .map(|(block, index)| (far(block, index), block.positions[index]))
                .filter(|(far, position)| *far != TOO_FAR && allowed.contains(*position))
                .collect();
            all.sort_unstable();
            // Includes those as far away as the last.
            let last = all.get(count - 1).map_or(TOO_FAR, |(distance, _)| *distance);
            all.retain(|(distance, _)| *distance <= last);
            let nearer = all.iter().filter(|(distance, _)| *distance < last).count();
            let found = vectors.nearest_by(&tables, count, Some(&allowed)).into_iter();
            let mut found: Vec<(u8, u64)> =
                found.map(|(block, index)| (far(block, index), block.positions[index])).collect();
            found.sort_unstable();
            assert_eq!(found[..nearer], all[..nearer], "seed {seed}");
            assert_eq!(found.len(), all.len().min(nearer + AS_NEAR_FACTOR * count), "seed {seed}");
            assert!(found.iter().all(|one| all.contains(one)), "seed {seed}");
        }
    }

    #[test]
    fn of_very_many_that_are_as_near_the_newest_are_compared() {
        let mut vectors = Vectors::new(DIMENSIONS);
        for position in 1..=6_000 {
            vectors.push(position, &QuantizedVector::new(&vector(position % 2)).unwrap());
        }
        let query = vector(1);
        let nearest = vectors.nearest(&query, 5, None).into_iter().map(|one| one.position);
        assert_eq!(nearest.collect::<Vec<_>>(), [5_999, 5_997, 5_995, 5_993, 5_991]);
        let query = QuantizedVector::new(&query).unwrap();
        assert_eq!(vectors.nearest_by(&WeightTables::new(&query.numbers), 30, None).len(), 120);
    }

    #[test]
    fn numbers_say_enough_that_are_three_fifths_of_a_query_by_their_squares() {
        assert!(is_significant(&[2, -2], &[2, -2, 2, 1]));
        assert!(!is_significant(&[-1, 1], &[-1, 1, -1, 1]));
        assert!(is_significant(&[5], &[5]));
    }

    #[test]
    fn a_memory_finds_its_own_vector_first() {
        let vectors = vectors(1_500);
        for number in [0, 511, 512, 1_023, 1_499] {
            let nearest = vectors.nearest(&vector(number), 1, None);
            assert_eq!(nearest[0].position, number / 2 + 1);
            assert!((nearest[0].rounded - 1.0).abs() < 0.02);
        }
    }

    #[test]
    fn what_was_added_since_is_exactly_that() {
        let vectors = vectors(1_500);
        for position in [0, 1, 255, 256, 257, 749, 750] {
            let since = vectors.since(position);
            assert_eq!(since.len() as u64, 1_500 - 2 * position);
            assert_eq!(since.numbers.len(), since.len() * DIMENSIONS);
            assert!(since.positions.iter().all(|other| *other > position));
        }
    }

    #[test]
    fn what_is_forgotten_is_not_near_any_more_and_the_rest_stays() {
        let mut some = vectors(3_001);
        some.forget(&BTreeSet::from([256, 257, 1_000, 1_501]), 9);
        assert_eq!(some.len(), 3_001 - 2 * 9 - 2 * 3 - 1);
        assert_eq!(some.since(0).len(), some.len());
        for number in 0..3_001 {
            let (query, position) = (vector(number), number / 2 + 1);
            let is_forgotten = position <= 9 || [256, 257, 1_000, 1_501].contains(&position);
            let cosine = some.cosine(&query, position);
            assert_eq!(cosine.is_none(), is_forgotten, "{number}");
            let nearest = &some.nearest(&query, 1, None)[0];
            assert!(!is_forgotten || nearest.position != position, "{number}");
            // Another may be equally near, except for rounding.
            assert!(cosine.is_none_or(|cosine| nearest.rounded > cosine - 0.02), "{number}");
        }
        some.push(1_502, &QuantizedVector::new(&vector(9_000)).unwrap());
        assert_eq!(some.nearest(&vector(9_000), 1, None)[0].position, 1_502);
        some.forget(&BTreeSet::new(), 2_000);
        assert!(some.len() == 0 && some.nearest(&vector(1), 1, None).is_empty());
    }

    #[test]
    fn a_vector_of_zeros_is_none() {
        assert_eq!(QuantizedVector::new(&[0.0; 4]), None);
        assert_eq!(
            QuantizedVector::new(&[f32::NAN, 1.0]).map(|rounded| rounded.numbers[1]),
            Some(127)
        );
        assert!(vectors(10).nearest(&[0.0; DIMENSIONS], 5, None).is_empty());
    }
}
