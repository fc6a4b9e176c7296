//! The loops over many vectors, each compiled for the processor that is found.

/// How many bits of one sketch differ from those of many.
pub(super) struct Distances<'a> {
    pub(super) query: &'a [u64],
    pub(super) sketches: &'a [u64],
    pub(super) into: &'a mut Vec<u16>,
}

impl pulp::NullaryFnOnce for Distances<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    fn call(self) {
        self.into.extend(self.sketches.chunks_exact(self.query.len()).map(|sketch| {
            let bits = self.query.iter().zip(sketch).map(|(a, b)| (a ^ b).count_ones());
            // As many as there are dimensions at most.
            u16::try_from(bits.sum::<u32>()).unwrap_or(u16::MAX)
        }));
    }
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
