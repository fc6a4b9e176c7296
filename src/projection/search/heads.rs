//! The heads of all sketches, scanned for those that are near a query's.
//!
//! A head is looked up four bits at a time in tables of what these bits weigh where they differ from the query's. Bytes of
//! 32 heads stand together, so that one instruction looks all of them up (known as fast scan; André, Kermarrec and Le
//! Scouarnec, *Cache locality is not enough*, VLDB 2015). Where the processor has none, they are looked up one by one, with the
//! same result.

/// Heads that stand together.
const LANES: usize = 32;
/// The distance of what is too far away, or not to be found at all.
pub(super) const TOO_FAR: u8 = u8::MAX;

/// Heads, [`LANES`] at a time: the first byte of each, then the second byte of each, and so on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Heads {
    bytes: Vec<[u8; LANES]>,
    count: usize,
}

impl Heads {
    /// Adds one. All have the same length.
    pub(super) fn push(&mut self, head: &[u64]) {
        let (lane, bytes) = (self.count % LANES, size_of_val(head));
        if lane == 0 {
            self.bytes.resize(self.bytes.len() + bytes, [0; LANES]);
        }
        let group = self.bytes.len() - bytes;
        let head = head.iter().flat_map(|word| word.to_le_bytes());
        for (some, byte) in self.bytes[group..].iter_mut().zip(head) {
            some[lane] = byte;
        }
        self.count += 1;
    }
}

/// What the bits of a head weigh where they differ from the query's.
pub(super) struct Tables {
    /// For each byte of a head, by its lower and by its upper four bits. Each table stands there twice, side by side, as the
    /// instruction wants it.
    weights: Vec<[[u8; LANES]; 2]>,
}

impl Tables {
    /// For a query's first numbers, which are sketched in the heads. Distances are in parts of half of what all of them weigh: who
    /// is farther away than [`TOO_FAR`] parts is not near at all.
    pub(super) fn new(numbers: &[i8]) -> Self {
        let weight = |number: i8| u32::from(number.unsigned_abs());
        let whole: u32 = numbers.iter().map(|number| weight(*number)).sum();
        let table = |some: &[i8]| {
            std::array::from_fn(|at| {
                let differing = some.iter().enumerate();
                let differing =
                    differing.filter(|(bit, number)| (at >> bit & 1 == 1) != (**number > 0));
                let sum: u32 = differing.map(|(_, number)| weight(*number)).sum();
                let parts = (2 * u32::from(TOO_FAR) * sum + whole / 2) / whole.max(1);
                u8::try_from(parts).unwrap_or(TOO_FAR)
            })
        };
        let words = numbers.len().div_ceil(64);
        let weights = (0..words * size_of::<u64>()).map(|byte| {
            let half = |half: usize| {
                let start = (8 * byte + 4 * half).min(numbers.len());
                let some: [u8; 16] = table(&numbers[start..(start + 4).min(numbers.len())]);
                std::array::from_fn(|at| some[at % some.len()])
            };
            [half(0), half(1)]
        });
        Self { weights: weights.collect() }
    }

    /// How far each of these heads is away.
    pub(super) fn distances(&self, heads: &Heads, into: &mut [u8]) {
        let (groups, weights) = (&heads.bytes[..], &self.weights[..]);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            simd.vectorize(wide::Distances { simd, groups, weights, into });
            return;
        }
        plain::distances(groups, weights, into);
    }
}

/// How many heads are at each distance.
pub(super) struct Counts {
    /// Counted in turns: most are nearly the same, and to count one twice in a row takes waiting.
    at: [[u32; Self::TURNS]; 1 + TOO_FAR as usize],
}

impl Counts {
    const TURNS: usize = 4;

    /// None yet.
    pub(super) fn new() -> Self {
        Self { at: [[0; Self::TURNS]; 1 + TOO_FAR as usize] }
    }

    /// Counts them.
    pub(super) fn add(&mut self, distances: &[u8]) {
        let (some, rest) = distances.as_chunks::<{ Self::TURNS }>();
        for some in some {
            for (turn, distance) in some.iter().enumerate() {
                self.at[usize::from(*distance)][turn] += 1;
            }
        }
        for distance in rest {
            self.at[usize::from(*distance)][0] += 1;
        }
    }

    /// The least distance up to which there are so many, if that is not too far.
    pub(super) fn reaching(&self, count: usize) -> u8 {
        let mut sum = 0;
        let reached = (0..TOO_FAR).find(|distance| {
            let turns = self.at[usize::from(*distance)];
            sum += turns.iter().map(|turn| *turn as usize).sum::<usize>();
            sum >= count
        });
        reached.unwrap_or(TOO_FAR - 1)
    }
}

/// Shows the numbers of those of `distances` that are no more than `farthest`, in order.
pub(super) fn near(distances: &[u8], farthest: u8, mut show: impl FnMut(usize)) {
    /// So many groups are looked at before any is shown.
    const GROUPS: usize = 16;
    for (some, start) in distances.chunks(GROUPS * LANES).zip((0..).step_by(GROUPS * LANES)) {
        let mut masks = [0; GROUPS];
        masks_into(some, farthest, &mut masks);
        for (mut mask, start) in masks.into_iter().zip((start..).step_by(LANES)) {
            while mask != 0 {
                show(start + mask.trailing_zeros() as usize);
                mask &= mask - 1;
            }
        }
    }
}

/// Sets a bit for each of `distances` that is no more than `farthest`.
fn masks_into(distances: &[u8], farthest: u8, masks: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(wide::Near { simd, distances, farthest, masks });
        return;
    }
    plain::near(distances, farthest, masks);
}

/// One by one.
mod plain {
    use super::LANES;

    pub(super) fn near(distances: &[u8], farthest: u8, masks: &mut [u32]) {
        for (group, mask) in distances.chunks(LANES).zip(masks) {
            let bits =
                (0..).zip(group).map(|(at, distance)| u32::from(*distance <= farthest) << at);
            *mask = bits.sum();
        }
    }

    pub(super) fn distances(groups: &[[u8; LANES]], weights: &[[[u8; LANES]; 2]], into: &mut [u8]) {
        for (group, into) in groups.chunks_exact(weights.len()).zip(into.chunks_mut(LANES)) {
            for (lane, distance) in into.iter_mut().enumerate() {
                *distance = 0;
                for (bytes, [low, high]) in group.iter().zip(weights) {
                    let byte = usize::from(bytes[lane]);
                    *distance =
                        distance.saturating_add(low[byte & 0xF]).saturating_add(high[byte >> 4]);
                }
            }
        }
    }
}

/// [`LANES`] at once.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::__m256i;

    use pulp::{bytemuck::cast, x86::V3};

    use super::{LANES, plain};

    pub(super) struct Near<'a> {
        pub(super) simd: V3,
        pub(super) distances: &'a [u8],
        pub(super) farthest: u8,
        pub(super) masks: &'a mut [u32],
    }

    impl pulp::NullaryFnOnce for Near<'_> {
        type Output = ();

        #[inline(always)]
        #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
        fn call(self) {
            let Self { simd, distances, farthest, masks } = self;
            let avx2 = simd.avx2;
            let (groups, rest) = distances.as_chunks::<LANES>();
            let (whole, end) = masks.split_at_mut(groups.len());
            let limits: __m256i = cast([farthest; LANES]);
            for (group, mask) in groups.iter().zip(whole) {
                let distances: __m256i = cast(*group);
                let limited = avx2._mm256_min_epu8(distances, limits);
                let is_near = avx2._mm256_cmpeq_epi8(limited, distances);
                *mask = avx2._mm256_movemask_epi8(is_near).cast_unsigned();
            }
            plain::near(rest, farthest, end);
        }
    }

    pub(super) struct Distances<'a> {
        pub(super) simd: V3,
        pub(super) groups: &'a [[u8; LANES]],
        pub(super) weights: &'a [[[u8; LANES]; 2]],
        pub(super) into: &'a mut [u8],
    }

    impl pulp::NullaryFnOnce for Distances<'_> {
        type Output = ();

        #[inline(always)]
        #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
        fn call(self) {
            let Self { simd, groups, weights, into } = self;
            let (avx, avx2) = (simd.avx, simd.avx2);
            let lower: __m256i = avx._mm256_set1_epi8(0xF);
            for (group, into) in groups.chunks_exact(weights.len()).zip(into.chunks_mut(LANES)) {
                let mut sums = avx._mm256_setzero_si256();
                for at in 0..weights.len() {
                    let bytes: __m256i = cast(group[at]);
                    let low = avx2._mm256_and_si256(bytes, lower);
                    let high = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(bytes), lower);
                    let [low_weights, high_weights] = weights[at];
                    let low = avx2._mm256_shuffle_epi8(cast(low_weights), low);
                    let high = avx2._mm256_shuffle_epi8(cast(high_weights), high);
                    sums = avx2._mm256_adds_epu8(avx2._mm256_adds_epu8(sums, low), high);
                }
                let sums: [u8; LANES] = cast(sums);
                into.copy_from_slice(&sums[..into.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::sketches::sketch, *};

    proptest! {
        #[test]
        fn heads_are_as_far_away_as_their_differing_numbers_weigh(
            dimensions in 1_usize..200,
            numbers in prop::collection::vec(-127_i8..=127, 200..4_000),
        ) {
            let (query, rest) = numbers.split_at(dimensions);
            let mut heads = Heads::default();
            let vectors: Vec<&[i8]> = rest.chunks_exact(dimensions).collect();
            for vector in &vectors {
                heads.push(&sketch(vector).collect::<Vec<_>>());
            }
            let tables = Tables::new(query);
            let mut found = vec![0; vectors.len()];
            tables.distances(&heads, &mut found);
            let mut plain = vec![0; vectors.len()];
            plain::distances(&heads.bytes, &tables.weights, &mut plain);
            prop_assert_eq!(&found, &plain);
            let weight = |number: &i8| f64::from(number.unsigned_abs());
            let whole: f64 = query.iter().map(weight).sum::<f64>().max(1.0);
            // Each four bits are rounded.
            let error = 0.51 * f64::from(u32::try_from(dimensions.div_ceil(4)).unwrap());
            for (vector, found) in vectors.iter().zip(found) {
                let differing = query.iter().zip(*vector).filter(|(a, b)| (**a > 0) != (**b > 0));
                let exact = 510.0 * differing.map(|(a, _)| weight(a)).sum::<f64>() / whole;
                prop_assert!((exact.min(255.0) - f64::from(found)).abs() <= error, "{exact} {found}");
            }
        }

        #[test]
        fn the_near_ones_are_shown_in_order(distances in prop::collection::vec(any::<u8>(), 0..1_200), farthest: u8) {
            let mut found = Vec::new();
            near(&distances, farthest, |index| found.push(index));
            let all: Vec<usize> = (0..distances.len()).filter(|at| distances[*at] <= farthest).collect();
            prop_assert_eq!(found, all);
            let mut masks = [vec![0; distances.len().div_ceil(LANES)], vec![0; distances.len().div_ceil(LANES)]];
            masks_into(&distances, farthest, &mut masks[0]);
            plain::near(&distances, farthest, &mut masks[1]);
            prop_assert_eq!(&masks[0], &masks[1]);
        }
    }

    #[test]
    fn what_is_too_far_is_never_reached() {
        let mut counts = Counts::new();
        counts.add(&[3, TOO_FAR, 5, TOO_FAR, 5, 200]);
        let reached = [1, 2, 3, 4, 5].map(|count| counts.reaching(count));
        assert_eq!(reached, [3, 5, 5, 200, TOO_FAR - 1]);
    }
}
