//! Sketches: one bit per component of a vector, set if it is above zero. They show which vectors
//! may be near without reading their components.
//!
//! With *q* for the query, *n* for a vector and *b* for its bits as 1 and -1, *q* and *n* both of
//! length 1, the cosine is about ⟨*q*, *b*⟩ / ⟨*n*, *b*⟩ (`RaBitQ`; Gao and Long, SIGMOD 2024; here
//! without its rotation). The numerator is the sum of the magnitudes of the query's components,
//! minus twice those at which the bits differ from the query's; the denominator does not depend on
//! the query.
//!
//! Bits are looked up four at a time in tables of what they weigh where they differ. Bytes of 32
//! sketches are interleaved, so that one instruction looks all of them up (fast scan; André,
//! Kermarrec and Le Scouarnec, *Cache locality is not enough*, VLDB 2015). On processors without
//! that instruction they are looked up one by one, with the same result.

/// Sketches per group.
const LANES: usize = 32;
/// Distance of a vector that is too far away, or excluded.
pub(super) const TOO_FAR: u8 = u8::MAX;
/// Lower limit for ⟨*n*, *b*⟩ as a share of its maximum; lower values count as this. Of the
/// built-in model's vectors hardly any is below 0.65 or above 0.8.
const EVENNESS_MIN: f32 = 0.65;

/// Sketches in groups of [`LANES`]. First and second halves are stored apart: if no cache holds all
/// sketches, one may hold all first halves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketches {
    halves: [HalfSketches; 2],
    /// Factor of the numerator, in 256ths.
    factors: Vec<[u8; LANES]>,
    count: usize,
}

/// Half sketches, interleaved: the first byte of each of [`LANES`], then the second byte of each,
/// and so on; then the next group.
#[derive(Clone, Debug, Default, PartialEq)]
struct HalfSketches {
    bytes: Vec<[u8; LANES]>,
    /// Bytes per half sketch.
    bytes_each: usize,
}

impl HalfSketches {
    fn push(&mut self, lane: usize, numbers: &[i8]) {
        self.bytes_each = bytes_of(numbers.len());
        if lane == 0 {
            self.bytes.resize(self.bytes.len() + self.bytes_each, [0; LANES]);
        }
        let group = self.bytes.len() - self.bytes_each;
        for (some, numbers) in self.bytes[group..].iter_mut().zip(numbers.chunks(8)) {
            let bits = numbers.iter().enumerate();
            some[lane] = bits.fold(0, |byte, (bit, number)| byte | u8::from(*number > 0) << bit);
        }
    }

    /// The group with this number.
    fn group(&self, number: usize) -> &[[u8; LANES]] {
        &self.bytes[number * self.bytes_each..][..self.bytes_each]
    }
}

impl Sketches {
    /// Adds the sketch of a vector. All have the same length.
    pub(super) fn push(&mut self, numbers: &[i8]) {
        let lane = self.count % LANES;
        let (first, second) = halves(numbers);
        for (half, numbers) in self.halves.iter_mut().zip([first, second]) {
            half.push(lane, numbers);
        }
        if lane == 0 {
            self.factors.push([0; LANES]);
        }
        if let Some(factors) = self.factors.last_mut() {
            factors[lane] = factor(numbers);
        }
        self.count += 1;
    }
}

/// The components sketched in the first half, and the others.
pub(super) fn halves(numbers: &[i8]) -> (&[i8], &[i8]) {
    numbers.split_at((8 * bytes_of(numbers.len()).div_ceil(2)).min(numbers.len()))
}

/// Bytes of a sketch of this many components.
fn bytes_of(numbers: usize) -> usize {
    numbers.div_ceil(8)
}

#[expect(clippy::cast_precision_loss, reason = "below 2^24 for 1,000 numbers")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 166 to 255")]
fn factor(numbers: &[i8]) -> u8 {
    let squares: u32 = numbers.iter().map(|number| u32::from(number.unsigned_abs()).pow(2)).sum();
    let evenness = weight(numbers) as f32 / (numbers.len() as f32 * squares as f32).sqrt();
    (256.0 * EVENNESS_MIN / evenness).round().min(255.0) as u8
}

/// Weights of four bits that differ from the query's: for each byte of a half, one table for its
/// lower and one for its upper four bits. Each table is stored twice, side by side, as the
/// instruction requires.
type Weights = Vec<[[u8; LANES]; 2]>;

/// Lookup tables of a query.
pub(super) struct WeightTables {
    halves: [Weights; 2],
}

impl WeightTables {
    /// For whole sketches.
    pub(super) fn new(query: &[i8]) -> Self {
        let (first, second) = halves(query);
        let whole = weight(query);
        Self { halves: [Self::weights(first, whole), Self::weights(second, whole)] }
    }

    /// For first halves alone.
    pub(super) fn of_first_half(query: &[i8]) -> Self {
        let (first, _) = halves(query);
        Self { halves: [Self::weights(first, weight(first)), Weights::new()] }
    }

    /// Weights are in units that make half of the total magnitude of the components in use
    /// [`TOO_FAR`]: a vector whose differing bits weigh more is not near at all.
    fn weights(numbers: &[i8], whole: u32) -> Weights {
        let table = |some: &[i8]| {
            std::array::from_fn(|at| {
                let differing = some.iter().enumerate();
                let differing =
                    differing.filter(|(bit, number)| (at >> bit & 1 == 1) != (**number > 0));
                let sum: u32 = differing.map(|(_, number)| u32::from(number.unsigned_abs())).sum();
                let parts = (2 * u32::from(TOO_FAR) * sum + whole / 2) / whole.max(1);
                u8::try_from(parts).unwrap_or(TOO_FAR)
            })
        };
        let weights = (0..bytes_of(numbers.len())).map(|byte| {
            let half = |half: usize| {
                let start = (8 * byte + 4 * half).min(numbers.len());
                let some: [u8; 16] = table(&numbers[start..(start + 4).min(numbers.len())]);
                std::array::from_fn(|at| some[at % some.len()])
            };
            [half(0), half(1)]
        });
        weights.collect()
    }

    /// Distance of each of these sketches.
    pub(super) fn distances(&self, sketches: &Sketches, into: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            simd.vectorize(wide::DistancesKernel { simd, sketches, tables: self, into });
            return;
        }
        plain::distances(sketches, self, into);
    }
}

/// Sum of the magnitudes of these components.
fn weight(numbers: &[i8]) -> u32 {
    numbers.iter().map(|number| u32::from(number.unsigned_abs())).sum()
}

/// The least distance up to which there are `count` of `distances`, if it is not too far.
pub(super) fn reaching(distances: &[u8], count: usize) -> u8 {
    // Estimated from a sample and corrected with all: counting the distances up to a limit is
    // cheap, a histogram of all is not.
    let mut farthest = guess(distances, count);
    while farthest > 0 && within(distances, farthest - 1) >= count {
        farthest -= 1;
    }
    while farthest < TOO_FAR - 1 && within(distances, farthest) < count {
        farthest += 1;
    }
    farthest
}

/// Estimates the distance up to which there are `count`.
fn guess(distances: &[u8], count: usize) -> u8 {
    /// One in this many groups is sampled.
    const PART: usize = 16;
    let mut at = [0_usize; 1 + TOO_FAR as usize];
    for distance in distances.chunks(LANES).step_by(PART).flatten() {
        at[usize::from(*distance)] += PART;
    }
    let mut sum = 0;
    let reached = (0..TOO_FAR).find(|distance| {
        sum += at[usize::from(*distance)];
        sum >= count
    });
    reached.unwrap_or(TOO_FAR - 1)
}

/// Number of `distances` up to `farthest`.
fn within(distances: &[u8], farthest: u8) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(wide::WithinKernel { simd, distances, farthest });
    }
    plain::within(distances, farthest)
}

/// Calls `show` with the index of each of `distances` up to `farthest`, in order.
pub(super) fn near(distances: &[u8], farthest: u8, mut show: impl FnMut(usize)) {
    /// Groups whose masks are computed before any index is shown.
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

/// Sets a bit for each of `distances` up to `farthest`.
fn masks_into(distances: &[u8], farthest: u8, masks: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(wide::NearKernel { simd, distances, farthest, masks });
        return;
    }
    plain::near(distances, farthest, masks);
}

/// One sketch at a time.
mod plain {
    use super::{LANES, Sketches, TOO_FAR, WeightTables};

    pub(super) fn within(distances: &[u8], farthest: u8) -> usize {
        distances.iter().filter(|distance| **distance <= farthest).count()
    }

    pub(super) fn near(distances: &[u8], farthest: u8, masks: &mut [u32]) {
        for (group, mask) in distances.chunks(LANES).zip(masks) {
            let bits =
                (0..).zip(group).map(|(at, distance)| u32::from(*distance <= farthest) << at);
            *mask = bits.sum();
        }
    }

    pub(super) fn distances(sketches: &Sketches, tables: &WeightTables, into: &mut [u8]) {
        let groups = (0..).zip(&sketches.factors).zip(into.chunks_mut(LANES));
        for ((number, factors), into) in groups {
            for (lane, distance) in into.iter_mut().enumerate() {
                let mut differing = 0_u8;
                for (half, weights) in sketches.halves.iter().zip(&tables.halves) {
                    for (bytes, [low, high]) in half.group(number).iter().zip(weights) {
                        let byte = usize::from(bytes[lane]);
                        differing = differing
                            .saturating_add(low[byte & 0xF])
                            .saturating_add(high[byte >> 4]);
                    }
                }
                let near = u16::from(TOO_FAR - differing) * u16::from(factors[lane]);
                *distance = TOO_FAR - near.to_be_bytes()[0];
            }
        }
    }
}

/// [`LANES`] sketches at a time.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::__m256i;

    use pulp::{bytemuck::cast, x86::V3};

    use super::{LANES, Sketches, TOO_FAR, WeightTables, plain};

    pub(super) struct NearKernel<'a> {
        pub(super) simd: V3,
        pub(super) distances: &'a [u8],
        pub(super) farthest: u8,
        pub(super) masks: &'a mut [u32],
    }

    impl pulp::NullaryFnOnce for NearKernel<'_> {
        type Output = ();

        #[inline(always)]
        #[expect(clippy::inline_always, reason = "compiled for the processor in use")]
        fn call(self) {
            let Self { simd, distances, farthest, masks } = self;
            let (groups, rest) = distances.as_chunks::<LANES>();
            let (whole, end) = masks.split_at_mut(groups.len());
            for (group, mask) in groups.iter().zip(whole) {
                let is_near = is_within(simd, *group, farthest);
                *mask = simd.avx2._mm256_movemask_epi8(is_near).cast_unsigned();
            }
            plain::near(rest, farthest, end);
        }
    }

    /// Sets all bits of each byte that is at most `farthest`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor in use")]
    fn is_within(simd: V3, group: [u8; LANES], farthest: u8) -> __m256i {
        let distances: __m256i = cast(group);
        let limited = simd.avx2._mm256_min_epu8(distances, cast([farthest; LANES]));
        simd.avx2._mm256_cmpeq_epi8(limited, distances)
    }

    pub(super) struct WithinKernel<'a> {
        pub(super) simd: V3,
        pub(super) distances: &'a [u8],
        pub(super) farthest: u8,
    }

    impl pulp::NullaryFnOnce for WithinKernel<'_> {
        type Output = usize;

        #[inline(always)]
        fn call(self) -> usize {
            /// Groups after which a lane's counter may be full.
            const COUNTED: usize = u8::MAX as usize;
            let Self { simd, distances, farthest } = self;
            let avx2 = simd.avx2;
            let (groups, rest) = distances.as_chunks::<LANES>();
            let mut sum = plain::within(rest, farthest);
            for groups in groups.chunks(COUNTED) {
                let mut counts = simd.avx._mm256_setzero_si256();
                for group in groups {
                    // A byte with all bits set is minus one.
                    counts = avx2._mm256_sub_epi8(counts, is_within(simd, *group, farthest));
                }
                let counts: [u8; LANES] = cast(counts);
                sum += counts.iter().map(|count| usize::from(*count)).sum::<usize>();
            }
            sum
        }
    }

    pub(super) struct DistancesKernel<'a> {
        pub(super) simd: V3,
        pub(super) sketches: &'a Sketches,
        pub(super) tables: &'a WeightTables,
        pub(super) into: &'a mut [u8],
    }

    impl pulp::NullaryFnOnce for DistancesKernel<'_> {
        type Output = ();

        #[inline(always)]
        #[expect(clippy::inline_always, reason = "compiled for the processor in use")]
        fn call(self) {
            let Self { simd, sketches, tables, into } = self;
            let (avx, avx2) = (simd.avx, simd.avx2);
            let lower: __m256i = avx._mm256_set1_epi8(0xF);
            let groups = (0..).zip(&sketches.factors).zip(into.chunks_mut(LANES));
            for ((number, factors), into) in groups {
                let mut differing = avx._mm256_setzero_si256();
                for half in 0..tables.halves.len() {
                    let weights = &tables.halves[half][..];
                    let group = sketches.halves[half].group(number);
                    for at in 0..weights.len().min(group.len()) {
                        let bytes: __m256i = cast(group[at]);
                        let low = avx2._mm256_and_si256(bytes, lower);
                        let high = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(bytes), lower);
                        let [low_weights, high_weights] = weights[at];
                        let low = avx2._mm256_shuffle_epi8(cast(low_weights), low);
                        let high = avx2._mm256_shuffle_epi8(cast(high_weights), high);
                        let either = avx2._mm256_adds_epu8(low, high);
                        differing = avx2._mm256_adds_epu8(differing, either);
                    }
                }
                let far: __m256i = cast([TOO_FAR; LANES]);
                let (near, factors) = (avx2._mm256_sub_epi8(far, differing), cast(*factors));
                let zero = avx._mm256_setzero_si256();
                let product = |near: __m256i, factors: __m256i| {
                    avx2._mm256_srli_epi16::<8>(avx2._mm256_mullo_epi16(near, factors))
                };
                let low = product(
                    avx2._mm256_unpacklo_epi8(near, zero),
                    avx2._mm256_unpacklo_epi8(factors, zero),
                );
                let high = product(
                    avx2._mm256_unpackhi_epi8(near, zero),
                    avx2._mm256_unpackhi_epi8(factors, zero),
                );
                let near = avx2._mm256_packus_epi16(low, high);
                let distances: [u8; LANES] = cast(avx2._mm256_sub_epi8(far, near));
                match into.as_mut_array() {
                    Some(into) => *into = distances,
                    None => into.copy_from_slice(&distances[..into.len()]),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sketches_are_as_far_away_as_their_differing_numbers_and_their_evenness_say(
            dimensions in 1_usize..200,
            is_whole: bool,
            numbers in prop::collection::vec(-127_i8..=127, 200..4_000),
        ) {
            let (query, rest) = numbers.split_at(dimensions);
            let mut sketches = Sketches::default();
            let vectors: Vec<&[i8]> = rest.chunks_exact(dimensions).collect();
            for vector in &vectors {
                sketches.push(vector);
            }
            let (tables, query) = if is_whole {
                (WeightTables::new(query), query)
            } else {
                (WeightTables::of_first_half(query), halves(query).0)
            };
            let mut found = vec![0; vectors.len()];
            tables.distances(&sketches, &mut found);
            let mut plain = vec![0; vectors.len()];
            plain::distances(&sketches, &tables, &mut plain);
            prop_assert_eq!(&found, &plain);
            let weight = |number: &i8| f64::from(number.unsigned_abs());
            let whole: f64 = query.iter().map(weight).sum::<f64>().max(1.0);
            // Each four bits are rounded, and so is the result.
            let error = 1.51 + 0.51 * f64::from(u32::try_from(dimensions.div_ceil(4)).unwrap());
            for (vector, found) in vectors.iter().zip(found) {
                let differing = query.iter().zip(*vector).filter(|(a, b)| (**a > 0) != (**b > 0));
                let upper = 255.0 - 510.0 * differing.map(|(a, _)| weight(a)).sum::<f64>() / whole;
                let square: f64 = vector.iter().map(|number| weight(number).powi(2)).sum();
                let evenness = vector.iter().map(weight).sum::<f64>()
                    / (f64::from(u32::try_from(dimensions).unwrap()) * square).sqrt();
                let exact = 255.0 - upper.max(0.0) * (0.65 / evenness).min(255.0 / 256.0);
                prop_assert!((exact - f64::from(found)).abs() <= error, "{exact} {found}");
            }
        }

        #[test]
        fn the_near_ones_are_shown_in_order(distances in prop::collection::vec(any::<u8>(), 0..1_200), farthest: u8) {
            let mut found = Vec::new();
            near(&distances, farthest, |index| found.push(index));
            let all: Vec<usize> = (0..distances.len()).filter(|at| distances[*at] <= farthest).collect();
            prop_assert_eq!(within(&distances, farthest), all.len());
            prop_assert_eq!(found, all);
            let mut masks = [vec![0; distances.len().div_ceil(LANES)], vec![0; distances.len().div_ceil(LANES)]];
            masks_into(&distances, farthest, &mut masks[0]);
            plain::near(&distances, farthest, &mut masks[1]);
            prop_assert_eq!(&masks[0], &masks[1]);
        }
    }

    #[test]
    fn a_vector_of_zeros_is_as_far_away_as_its_bits_say() {
        let mut sketches = Sketches::default();
        sketches.push(&[0; 64]);
        let mut distances = [0];
        WeightTables::new(&[-3; 64]).distances(&sketches, &mut distances);
        assert_eq!(distances, [1]);
        WeightTables::new(&[0; 64]).distances(&sketches, &mut distances);
        assert_eq!(distances, [1]);
    }

    #[test]
    fn what_is_too_far_is_never_reached() {
        let distances = [3, TOO_FAR, 5, TOO_FAR, 5, 200];
        let reached = [1, 2, 3, 4, 5].map(|count| reaching(&distances, count));
        assert_eq!(reached, [3, 5, 5, 200, TOO_FAR - 1]);
    }

    #[test]
    fn as_far_is_reached_as_sorting_says() {
        let mut state = 11_u64;
        let mut distances: Vec<u8> = (0..70_001)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Most are about equally far away.
                (0..8).map(|byte| (state >> (8 * byte) & 31) as u8).sum()
            })
            .collect();
        // Unevenly: the sample may be the nearest or the farthest.
        distances[20_000..40_000].sort_unstable();
        let mut sorted = distances.clone();
        sorted.sort_unstable();
        for count in [1, 2, 40, 2_500, 35_000, 70_000, 70_001] {
            assert_eq!(reaching(&distances, count), sorted[count - 1], "{count}");
        }
        assert_eq!(reaching(&distances, 70_002), TOO_FAR - 1);
        assert_eq!(reaching(&distances, 0), 0);
    }
}
