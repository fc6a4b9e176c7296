//! The loops over many vectors, each compiled for the processor that is found.

/// How many bits of one sketch differ from those of many.
pub(super) struct Distances<'a> {
    pub(super) query: &'a [u64],
    pub(super) sketches: &'a [u64],
    /// One for each sketch.
    pub(super) into: &'a mut [u16],
}

impl pulp::NullaryFnOnce for Distances<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    fn call(self) {
        let Self { query, sketches, into } = self;
        // With a number of words that the compiler knows, it takes a third of the time.
        match query.len() {
            4 => differences::<4>(query, sketches, into),
            6 => differences::<6>(query, sketches, into),
            12 => differences::<12>(query, sketches, into),
            words => {
                for (distance, sketch) in into.iter_mut().zip(sketches.chunks_exact(words)) {
                    *distance = difference(query, sketch);
                }
            }
        }
    }
}

// Plain loops: what an iterator's `map` and `fold` make of them is a function of its own, compiled for any processor, which
// counts bits without the instruction for that.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
fn differences<const WORDS: usize>(query: &[u64], sketches: &[u64], into: &mut [u16]) {
    let Some(query) = query.first_chunk::<WORDS>() else { return };
    let (sketches, _) = sketches.as_chunks::<WORDS>();
    for (distance, sketch) in into.iter_mut().zip(sketches) {
        *distance = difference(query, sketch);
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
#[expect(clippy::cast_possible_truncation, reason = "as many as there are dimensions at most")]
fn difference(query: &[u64], sketch: &[u64]) -> u16 {
    let mut bits = 0;
    for (a, b) in query.iter().zip(sketch) {
        bits += (a ^ b).count_ones();
    }
    bits as u16
}

/// The products of one vector with many.
pub(super) struct Products<'a> {
    pub(super) query: &'a [i16],
    pub(super) vectors: &'a [i8],
    pub(super) dimensions: usize,
    pub(super) into: &'a mut Vec<i32>,
}

impl pulp::NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    fn call(self) {
        for vector in self.vectors.chunks_exact(self.dimensions) {
            let products = self
                .query
                .iter()
                .zip(vector)
                .map(|(query, number)| i32::from(*query) * i32::from(i16::from(*number)));
            self.into.push(products.sum());
        }
    }
}

/// The products of one vector with some, which are not side by side.
pub(super) struct SomeProducts<'a> {
    pub(super) query: &'a [i16],
    pub(super) vectors: &'a [&'a [i8]],
    pub(super) into: &'a mut Vec<i32>,
}

impl pulp::NullaryFnOnce for SomeProducts<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    fn call(self) {
        for numbers in self.vectors {
            let products = self
                .query
                .iter()
                .zip(*numbers)
                .map(|(query, number)| i32::from(*query) * i32::from(i16::from(*number)));
            self.into.push(products.sum());
        }
    }
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
        for (query, numbers) in queries.iter().zip(numbers) {
            for ((sum, query), number) in sums.iter_mut().zip(query).zip(numbers) {
                *sum += query * f32::from(*number);
            }
        }
        let rest = query_rest.iter().zip(rest).map(|(query, number)| query * f32::from(*number));
        sums.iter().sum::<f32>() + rest.sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Arch;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_counted_alike_whatever_the_length_of_a_sketch(
            words in 1_usize..14,
            bits in prop::collection::vec(any::<u64>(), 14..200),
        ) {
            let (query, rest) = bits.split_at(words);
            let sketches = &rest[..rest.len() / words * words];
            let plain: Vec<u16> = sketches
                .chunks(words)
                .map(|sketch| {
                    let differing = |at: usize| (query[at / 64] ^ sketch[at / 64]) >> (at % 64) & 1;
                    u16::try_from((0..64 * words).map(differing).sum::<u64>()).unwrap()
                })
                .collect();
            let mut found = vec![0; plain.len()];
            Arch::new().dispatch(Distances { query, sketches, into: &mut found });
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
