//! Random numbers for simulations of miners; tests outside of the crate include this file.

/// A small generator of random numbers, so that the runs below are the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Seconds until the next event of a Poisson process with that many events a minute.
    #[expect(clippy::cast_precision_loss, reason = "a random number between zero and one")]
    pub(crate) fn wait(&mut self, per_minute: f64) -> f64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        -(1.0 - uniform).ln() * 60.0 / per_minute
    }
}
