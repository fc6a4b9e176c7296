//! A block of vectors with what a scan needs: positions, quantised components and sketches.

use super::sketches::Sketches;

/// A quantised vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuantizedVector {
    /// Factor of the components.
    pub(super) scale: f32,
    /// Components, from -127 to 127.
    pub(super) numbers: Vec<i8>,
}

impl QuantizedVector {
    /// Quantises `vector`; `None` if it is all zeros.
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

/// A block of vectors, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct VectorBlock {
    /// Position of each vector's memory, ascending; equal for the chunks of one memory.
    pub(super) positions: Vec<u64>,
    /// Factor of each vector.
    pub(super) scales: Vec<f32>,
    /// Components of all vectors, one vector after the other.
    pub(super) numbers: Vec<i8>,
    /// Sketches of the vectors; empty in a block that is not searched.
    pub(super) sketches: Sketches,
}

impl VectorBlock {
    /// Adds a vector of a memory that is not older than the last one.
    pub(super) fn push(&mut self, position: u64, vector: &QuantizedVector) {
        self.positions.push(position);
        self.scales.push(vector.scale);
        self.numbers.extend_from_slice(&vector.numbers);
        self.sketches.push(&vector.numbers);
    }

    /// A block read from a file, without sketches: not for searching.
    pub(super) fn read(positions: Vec<u64>, scales: Vec<f32>, numbers: Vec<i8>) -> Self {
        Self { positions, scales, numbers, ..Self::default() }
    }

    /// Number of vectors.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// A searchable block of the vectors whose memories pass `is_kept`.
    pub(super) fn kept(&self, is_kept: impl Fn(u64) -> bool, dimensions: usize) -> Self {
        let mut kept = Self::default();
        for (index, position) in self.positions.iter().enumerate().filter(|(_, p)| is_kept(**p)) {
            let (numbers, scale) = self.vector(index, dimensions);
            kept.push(*position, &QuantizedVector { scale, numbers: numbers.to_vec() });
        }
        kept
    }

    /// Number of vectors whose memories lie before this position. Positions are spread fairly
    /// evenly: the search begins at the expected index, which saves reading all over the block.
    pub(super) fn first_at(&self, position: u64) -> usize {
        /// Distance from the expected index that is searched first.
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

    /// Components of a vector, and their factor.
    pub(super) fn vector(&self, index: usize, dimensions: usize) -> (&[i8], f32) {
        (&self.numbers[index * dimensions..][..dimensions], self.scales[index])
    }
}
