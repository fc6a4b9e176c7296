//! Vectors of length 1.

/// The vector scaled to length 1; zeros stay zeros.
pub(super) fn normalise(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    let is_none = !length.is_finite() || length <= 0.0;
    for number in &mut vector {
        #[expect(clippy::cast_possible_truncation, reason = "at most 1")]
        let scaled = (f64::from(*number) / length) as f32;
        *number = if is_none { 0.0 } else { scaled };
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_gets_length_one_and_one_that_is_none_becomes_zeros() {
        assert_eq!(normalise(vec![3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(normalise(vec![f32::MAX, 0.0]), [1.0, 0.0]);
        for none in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert_eq!(normalise(none), [0.0, 0.0]);
        }
        assert!(normalise(Vec::new()).is_empty());
    }
}
