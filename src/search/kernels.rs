//! Loops over many vectors, each compiled for the processor in use.
//!
//! They use indices rather than iterators: the functions behind `zip`, `map` and `sum` may not be
//! inlined, and are then compiled for any processor and called for each vector.

#![expect(clippy::needless_range_loop, reason = "see above")]

/// Vectors loaded into the cache at once.
const TOUCHED: usize = 16;

/// Loads some vectors into the cache, waiting for all of them at the same time: the loop over one
/// vector does not prefetch far enough ahead.
#[inline(always)]
fn touch(some: &[&[i8]]) {
    /// Size of a cache line.
    const LINE_BYTES: usize = 64;
    let mut touched = 0;
    for at in 0..some.len() {
        let mut index = 0;
        while index < some[at].len() {
            touched ^= some[at][index];
            index += LINE_BYTES;
        }
    }
    std::hint::black_box(touched);
}

/// Products of one vector with several others.
pub(super) struct ProductsKernel<'a> {
    pub(super) query: &'a [i16],
    pub(super) vectors: &'a [&'a [i8]],
    /// The results, one per vector.
    pub(super) into: &'a mut [i32],
}

impl pulp::NullaryFnOnce for ProductsKernel<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor in use")]
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
    /// Parallel sums, each of products of two neighbours: there is a processor instruction for
    /// that.
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

/// Product of a vector with a quantised one. Summed in the same order on every processor.
pub(super) struct ProductKernel<'a> {
    pub(super) query: &'a [f32],
    pub(super) numbers: &'a [i8],
}

impl pulp::NullaryFnOnce for ProductKernel<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        /// Parallel sums.
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
            Arch::new().dispatch(ProductsKernel { query: &query, vectors: &vectors, into: &mut found });
            prop_assert_eq!(found, plain);
        }

        #[test]
        fn a_product_is_the_same_on_every_processor(
            pairs in prop::collection::vec((-1.0_f32..1.0, any::<i8>()), 0..300),
        ) {
            let (query, numbers): (Vec<f32>, Vec<i8>) = pairs.iter().copied().unzip();
            let plain: f64 = pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let product = || ProductKernel { query: &query, numbers: &numbers };
            let found = Arch::new().dispatch(product());
            prop_assert_eq!(found.to_bits(), pulp::NullaryFnOnce::call(product()).to_bits());
            prop_assert!((f64::from(found) - plain).abs() < 1e-2, "{} {}", found, plain);
        }
    }
}
