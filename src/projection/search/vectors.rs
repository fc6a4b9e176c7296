//! The index by meaning: a vector for each piece of each memory, compared with the query's one after the other.
//!
//! A number takes a byte: a vector is rounded to whole numbers from -127 to 127 and one factor. Beside it stands its
//! [sketch](super::sketches). Where there are many vectors, only those with the nearest sketches are compared in full. All of
//! them are in memory, in blocks that are never changed once they are full, so that a search takes what is there and looks
//! without a lock.
//!
//! *Promises.* A search sees every vector from the moment it is added, and adding one costs the same however many
//! there are.
//!
//! *Limits.* A sketch can mislead: of the ten nearest of 50,000 texts, all but 2 in 1,000 are among those that are compared.

use std::{collections::BTreeSet, sync::Arc};

use pulp::Arch;

use super::{
    allowed::Allowed,
    block::{Block, Rounded},
    heads::{Counts, Heads, TOO_FAR, Tables, near},
    loops::{Product, Products},
    sketches::{Probe, head_words},
};

/// Vectors in one block. Small, because the last one is copied when one is added during a search.
const BLOCK_VECTORS: usize = 512;
/// Up to so many vectors all are compared in full.
const FULL_VECTORS_MAX: usize = 4_096;
/// Of more, the whole sketches are looked at of so many whose sketches' heads are nearest; and of very many, of this part.
const SKETCHED_VECTORS_MIN: usize = 2_500;
const SKETCHED_PART: usize = 64;
/// Of these, so many with the nearest sketches are compared in full; and of very many, this part.
const COMPARED_VECTORS_MIN: usize = 800;
const COMPARED_PART: usize = 16;
/// Up to so many vectors, fewer are enough to miss no more of the nearest.
const FEW_VECTORS_MAX: usize = 12_000;
const SKETCHED_OF_FEW: usize = 1_500;
const COMPARED_OF_FEW: usize = 600;

/// All vectors at one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    dimensions: usize,
    arch: Arch,
    /// How many words the head of a sketch has; 0 as long as there are not enough vectors to tell.
    head_words: usize,
    /// No more is added to these; something may have been forgotten.
    full: Arc<Vec<Arc<Block>>>,
    /// The position of the last memory in each of them.
    ends: Arc<Vec<u64>>,
    last: Arc<Block>,
    count: usize,
}

impl Vectors {
    /// No vectors yet.
    pub(super) fn new(dimensions: usize) -> Self {
        let (full, ends, last) = (Arc::default(), Arc::default(), Arc::default());
        Self { dimensions, arch: Arch::new(), head_words: 0, full, ends, last, count: 0 }
    }

    /// How many vectors there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a vector of a memory that is not older than the last.
    pub(super) fn push(&mut self, position: u64, vector: &Rounded) {
        Arc::make_mut(&mut self.last).push(position, vector, self.head_words);
        self.count += 1;
        if self.last.len() == BLOCK_VECTORS {
            let last = std::mem::take(&mut self.last);
            Arc::make_mut(&mut self.full).push(last);
            Arc::make_mut(&mut self.ends).push(position);
            if self.head_words == 0 && self.count >= FULL_VECTORS_MAX {
                self.find_heads();
            }
        }
    }

    /// Finds out how long heads are, and gives all vectors theirs. Nothing has any yet.
    fn find_heads(&mut self) {
        let (dimensions, words) = (self.dimensions, self.dimensions.div_ceil(64));
        let vectors = self.blocks().flat_map(|block| block.numbers.chunks_exact(dimensions));
        let head_words = head_words(vectors);
        for block in Arc::make_mut(&mut self.full).iter_mut().chain([&mut self.last]) {
            let block = Arc::make_mut(block);
            for sketch in block.sketches.chunks_exact(words) {
                block.heads.push(&sketch[..head_words]);
            }
        }
        self.head_words = head_words;
    }

    fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.full.iter().chain([&self.last]).map(AsRef::as_ref)
    }

    /// Forgets the vectors of the memories at these positions, and of all up to `expired`.
    pub(super) fn forget(&mut self, positions: &BTreeSet<u64>, expired: u64) {
        let is_kept = |position| position > expired && !positions.contains(&position);
        let (dimensions, head_words) = (self.dimensions, self.head_words);
        let forget = |block: &mut Arc<Block>| {
            let range = block.positions.first().zip(block.positions.last());
            let is_concerned = range.is_some_and(|(first, last)| {
                *first <= expired || positions.range(first..=last).next().is_some()
            });
            if is_concerned {
                *block = Arc::new(block.kept(is_kept, dimensions, head_words));
            }
        };
        let full = Arc::make_mut(&mut self.full);
        full.iter_mut().for_each(forget);
        full.retain(|block| block.len() > 0);
        let ends = full.iter().filter_map(|block| block.positions.last().copied());
        self.ends = Arc::new(ends.collect());
        forget(&mut self.last);
        self.count = self.blocks().map(Block::len).sum();
    }

    /// How many vectors of memories behind a position there are.
    pub(super) fn len_since(&self, position: u64) -> usize {
        let behind = |block: &Block| {
            block.len() - block.positions.partition_point(|other| *other <= position)
        };
        self.blocks().rev().map(behind).take_while(|count| *count > 0).sum()
    }

    /// The vectors of memories behind a position.
    pub(super) fn since(&self, position: u64) -> Block {
        let mut since = Block::default();
        let first = self.ends.partition_point(|end| *end <= position);
        for block in self.full[first..].iter().chain([&self.last]) {
            let skipped = block.positions.partition_point(|other| *other <= position);
            since.positions.extend_from_slice(&block.positions[skipped..]);
            since.scales.extend_from_slice(&block.scales[skipped..]);
            since.numbers.extend_from_slice(&block.numbers[skipped * self.dimensions..]);
        }
        since
    }

    /// All vectors, in parts that are small enough to be written one by one.
    pub(super) fn parts(&self) -> impl Iterator<Item = Block> {
        self.blocks().map(|block| Block {
            sketches: Vec::new(),
            heads: Heads::default(),
            ..block.clone()
        })
    }

    /// The cosine of `query` and the vector of the memory at a position that is nearest to it; `None` where it has
    /// none.
    pub(super) fn cosine(&self, query: &[f32], position: u64) -> Option<f32> {
        let cosines = self.of(position).map(|(block, index)| self.exact(query, block, index));
        cosines.reduce(f32::max)
    }

    /// The vectors of the memory at a position.
    fn of(&self, position: u64) -> impl Iterator<Item = (&Block, usize)> {
        let at = self.ends.partition_point(|end| *end < position);
        // The pieces of one memory may stand in two blocks.
        let blocks = self.full[at..].iter().take(2).chain([&self.last]).map(AsRef::as_ref);
        let begins_before = move |block: &&Block| block.positions.first() <= Some(&position);
        blocks.take_while(begins_before).flat_map(move |block| {
            let first = block.first_at(position);
            let same = block.positions[first..].iter().take_while(|other| **other == position);
            (first..first + same.count()).map(move |index| (block, index))
        })
    }

    fn exact(&self, query: &[f32], block: &Block, index: usize) -> f32 {
        let (numbers, scale) = block.vector(index, self.dimensions);
        self.arch.dispatch(Product { query, numbers }) * scale
    }

    /// The memories whose vectors are nearest to `query`, nearest first.
    pub(super) fn nearest(
        &self,
        query: &[f32],
        limit: usize,
        allowed: Option<&Allowed>,
    ) -> Vec<Neighbour> {
        let Some(rounded) = Rounded::new(query) else { return Vec::new() };
        let numbers: Vec<i16> = rounded.numbers.iter().map(|number| i16::from(*number)).collect();
        let some = if let Some(few) = allowed.and_then(Allowed::few) {
            few.iter().flat_map(|position| self.of(*position)).collect()
        } else if self.head_words > 0 {
            self.with_near_sketches(&rounded, allowed)
        } else {
            let all = self.blocks().flat_map(|block| (0..block.len()).map(move |at| (block, at)));
            let is_allowed =
                |position| allowed.is_none_or(|some: &Allowed| some.contains(position));
            all.filter(|(block, index)| is_allowed(block.positions[*index])).collect()
        };
        let vectors = some.iter().map(|(block, index)| block.vector(*index, self.dimensions).0);
        let vectors: Vec<&[i8]> = vectors.collect();
        let mut products = vec![0; some.len()];
        self.arch.dispatch(Products { query: &numbers, vectors: &vectors, into: &mut products });
        let mut nearest = Nearest::new(limit);
        for ((at, (block, index)), product) in (0..).zip(&some).zip(products) {
            #[expect(clippy::cast_precision_loss, reason = "below 2^24 for 1,000 dimensions")]
            let cosine = product as f32 * block.scales[*index] * rounded.scale;
            if cosine > nearest.least {
                nearest.offer(Offer { position: block.positions[*index], cosine, at });
            }
        }
        let nearest = nearest.into_vec().into_iter();
        let neighbour = |Offer { position, cosine: rounded, at }| {
            let (block, index) = some[at as usize];
            let cosine = self.exact(query, block, index);
            Neighbour { position, rounded, cosine }
        };
        nearest.map(neighbour).collect()
    }

    /// The vectors that are to be compared in full, where sketches are to tell.
    fn with_near_sketches(
        &self,
        query: &Rounded,
        allowed: Option<&Allowed>,
    ) -> Vec<(&Block, usize)> {
        let (sketched_min, compared_min) = if self.len() <= FEW_VECTORS_MAX {
            (SKETCHED_OF_FEW, COMPARED_OF_FEW)
        } else {
            (SKETCHED_VECTORS_MIN, COMPARED_VECTORS_MIN)
        };
        let count = sketched_min.max(self.len() / SKETCHED_PART);
        let near = self.with_near_heads(&query.numbers, count, allowed);
        let words = self.dimensions.div_ceil(64);
        let sketches = near.iter().map(|(block, index)| &block.sketches[index * words..][..words]);
        let sketches: Vec<&[u64]> = sketches.collect();
        let count = compared_min.max(count / COMPARED_PART);
        let probe = Probe::new(self.arch, &query.numbers);
        let nearest = probe.nearest(&sketches, count).into_iter();
        nearest.map(|index| near[index]).collect()
    }

    /// The vectors whose sketches' heads are nearest to the query's: `count` of them, and those that are as near as the last.
    fn with_near_heads(
        &self,
        query: &[i8],
        count: usize,
        allowed: Option<&Allowed>,
    ) -> Vec<(&Block, usize)> {
        let tables = Tables::new(&query[..query.len().min(64 * self.head_words)]);
        let mut distances = vec![0; self.len()];
        let mut counts = Counts::new();
        let mut rest = &mut distances[..];
        for block in self.blocks() {
            let (here, behind) = rest.split_at_mut(block.len());
            rest = behind;
            tables.distances(&block.heads, here);
            if let Some(allowed) = allowed {
                for (distance, position) in here.iter_mut().zip(&block.positions) {
                    if !allowed.contains(*position) {
                        *distance = TOO_FAR;
                    }
                }
            }
            counts.add(here);
        }
        let farthest = counts.reaching(count);
        let mut found = Vec::with_capacity(count + count / 4);
        let mut rest = &distances[..];
        for block in self.blocks() {
            let (here, behind) = rest.split_at(block.len());
            rest = behind;
            near(here, farthest, |index| found.push((block, index)));
        }
        found
    }
}

/// A memory that is near.
#[derive(Clone, Debug)]
pub(super) struct Neighbour {
    /// Its position.
    pub(super) position: u64,
    /// The cosine of the query and its nearest vector, both rounded.
    pub(super) rounded: f32,
    /// The cosine of the query as it is and that vector.
    pub(super) cosine: f32,
}

/// A vector that may be among the nearest, and its number among those that are compared. Small: many are sorted.
#[derive(Clone, Copy)]
struct Offer {
    position: u64,
    cosine: f32,
    at: u32,
}

/// The best so far.
struct Nearest {
    limit: usize,
    /// What does not exceed this is not among the best.
    least: f32,
    found: Vec<Offer>,
}

impl Nearest {
    /// How often more than wanted are kept before they are sorted out.
    const SLACK: usize = 4;

    fn new(limit: usize) -> Self {
        Self { limit, least: 0.0, found: Vec::with_capacity(limit * Self::SLACK) }
    }

    fn offer(&mut self, offer: Offer) {
        self.found.push(offer);
        if self.found.len() >= self.limit * Self::SLACK {
            self.sort_out();
        }
    }

    /// Keeps the best piece of each memory, and the best memories.
    fn sort_out(&mut self) {
        let nearer = |a: &Offer, b: &Offer| b.cosine.total_cmp(&a.cosine);
        let newer = |a: &Offer, b: &Offer| b.position.cmp(&a.position);
        self.found.sort_unstable_by(|a, b| newer(a, b).then(nearer(a, b)));
        self.found.dedup_by_key(|offer| offer.position);
        self.found.sort_unstable_by(|a, b| nearer(a, b).then(newer(a, b)));
        if self.found.len() >= self.limit {
            self.found.truncate(self.limit);
            self.least = self.found.last().map_or(0.0, |offer| offer.cosine);
        }
    }

    fn into_vec(mut self) -> Vec<Offer> {
        self.sort_out();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::{super::allowed::Positions, *};

    const DIMENSIONS: usize = 8;

    /// Numbers that only look like chance.
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
            // Two pieces each.
            vectors.push(number / 2 + 1, &Rounded::new(&vector(number)).unwrap());
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
                // Of two pieces that are as near, but for the rounding, either may be taken.
                assert!(cosine >= found.cosine && cosine - found.cosine < 0.01, "seed {seed}");
            }
        }
    }

    #[test]
    fn where_there_are_many_the_nearest_are_found_by_their_sketches() {
        let vectors = vectors(20_000);
        for number in [0, 9_999, 19_999] {
            let nearest = vectors.nearest(&vector(number), 5, None);
            let itself = vectors.cosine(&vector(number), number / 2 + 1).unwrap();
            // Both are rounded here, only one of them there.
            assert!(nearest[0].rounded >= itself - 0.01, "{number}: {nearest:?} {itself}");
            assert!(nearest.is_sorted_by(|a, b| a.rounded >= b.rounded) && nearest.len() == 5);
        }
    }

    #[test]
    fn those_with_the_nearest_heads_are_the_ones_that_sorting_finds() {
        let vectors = vectors(5_000);
        for (seed, count) in [(7_000, 1), (7_001, 40), (7_002, 1_000), (7_003, 6_000)] {
            let query = Rounded::new(&vector(seed)).unwrap();
            let tables = Tables::new(&query.numbers);
            let far = |block: &Block, index: usize| {
                let mut distances = vec![0; block.len()];
                tables.distances(&block.heads, &mut distances);
                distances[index]
            };
            let left_out = Positions::Few((0..5_000).step_by(3).collect());
            let allowed = Allowed::AllBut { upto: u64::MAX, left_out };
            let all = vectors.blocks().flat_map(|b| (0..b.len()).map(move |index| (b, index)));
            let mut all: Vec<(u8, u64)> = all
                .map(|(block, index)| (far(block, index), block.positions[index]))
                .filter(|(far, position)| *far != TOO_FAR && allowed.contains(*position))
                .collect();
            all.sort_unstable();
            // Those as near as the last one too.
            let last = all.get(count - 1).map_or(TOO_FAR, |(distance, _)| *distance);
            all.retain(|(distance, _)| *distance <= last);
            let found = vectors.with_near_heads(&query.numbers, count, Some(&allowed)).into_iter();
            let mut found: Vec<(u8, u64)> =
                found.map(|(block, index)| (far(block, index), block.positions[index])).collect();
            found.sort_unstable();
            assert_eq!(found, all, "seed {seed}");
        }
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
            // Another may be as near, but for the rounding.
            assert!(cosine.is_none_or(|cosine| nearest.rounded > cosine - 0.02), "{number}");
        }
        some.push(1_502, &Rounded::new(&vector(9_000)).unwrap());
        assert_eq!(some.nearest(&vector(9_000), 1, None)[0].position, 1_502);
        some.forget(&BTreeSet::new(), 2_000);
        assert!(some.len() == 0 && some.nearest(&vector(1), 1, None).is_empty());
    }

    #[test]
    fn a_vector_of_zeros_is_none() {
        assert_eq!(Rounded::new(&[0.0; 4]), None);
        assert_eq!(Rounded::new(&[f32::NAN, 1.0]).map(|rounded| rounded.numbers[1]), Some(127));
        assert!(vectors(10).nearest(&[0.0; DIMENSIONS], 5, None).is_empty());
    }
}
