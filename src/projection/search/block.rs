//! Some vectors with what is needed to look through them: positions, rounded numbers and sketches.

use super::sketches::Sketches;

/// A vector, rounded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rounded {
    /// What the numbers are to be multiplied with.
    pub(super) scale: f32,
    /// Whole numbers from -127 to 127.
    pub(super) numbers: Vec<i8>,
}

impl Rounded {
    /// `vector`, rounded; `None` where it is all zeros.
    pub(super) fn new(vector: &[f32]) -> Option<Self> {
        let largest = vector.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        if !largest.is_finite() || largest <= 0.0 {
            return None;
        }
        let scale = largest / 127.0;
        #[expect(clippy::cast_possible_truncation, reason = "from -127 to 127")]
        let numbers = vector.iter().map(|number| (number / scale).round() as i8).collect();
        Some(Self { scale, numbers })
    }
}

/// Some vectors, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Block {
    /// The position of the memory that each belongs to, growing; the same for its pieces.
    pub(super) positions: Vec<u64>,
    /// Their factors.
    pub(super) scales: Vec<f32>,
    /// One vector after the other.
    pub(super) numbers: Vec<i8>,
    /// Their sketches; none where nobody is to search here.
    pub(super) sketches: Sketches,
}

impl Block {
    /// Adds a vector of a memory that is not older than the last.
    pub(super) fn push(&mut self, position: u64, vector: &Rounded) {
        self.positions.push(position);
        self.scales.push(vector.scale);
        self.numbers.extend_from_slice(&vector.numbers);
        self.sketches.push(&vector.numbers);
    }

    /// Vectors that were read back, not to be searched here.
    pub(super) fn read(positions: Vec<u64>, scales: Vec<f32>, numbers: Vec<i8>) -> Self {
        Self { positions, scales, numbers, ..Self::default() }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Those whose memories `is_kept` lets through, still to be searched.
    pub(super) fn kept(&self, is_kept: impl Fn(u64) -> bool, dimensions: usize) -> Self {
        let mut kept = Self::default();
        for (index, position) in self.positions.iter().enumerate().filter(|(_, p)| is_kept(**p)) {
            let (numbers, scale) = self.vector(index, dimensions);
            kept.push(*position, &Rounded { scale, numbers: numbers.to_vec() });
        }
        kept
    }

    /// How many vectors of memories before that position there are. Memories stand at fairly even distances: it is looked for
    /// where it should be then, which spares reading all over the block.
    pub(super) fn first_at(&self, position: u64) -> usize {
        /// So far from there at most.
        const AROUND: usize = 16;
        let positions = &self.positions[..];
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return 0 };
        let (before, all) = (position.saturating_sub(*first), last - first + 1);
        let share = before.min(all) * positions.len() as u64 / all;
        let expected = usize::try_from(share).unwrap_or(usize::MAX);
        let (start, end) =
            (expected.saturating_sub(AROUND), (expected + AROUND).min(positions.len()));
        let around = &positions[start..end];
        let is_here = around.first() < Some(&position) && around.last() >= Some(&position);
        let (start, around) = if is_here { (start, around) } else { (0, positions) };
        start + around.partition_point(|other| *other < position)
    }

    /// The numbers of a vector, and their factor.
    pub(super) fn vector(&self, index: usize, dimensions: usize) -> (&[i8], f32) {
        (&self.numbers[index * dimensions..][..dimensions], self.scales[index])
    }
}
