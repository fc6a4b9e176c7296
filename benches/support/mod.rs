//! What the benchmarks share: the probe that durable figures stand beside, and the program with its
//! HTTP server.
#![allow(clippy::expect_used)]
#![allow(dead_code, reason = "no benchmark uses all of it")]

pub mod server;

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

/// Syncs a second of small appends, as the journal's own would be at best.
pub fn probe(dir: &Path) -> f64 {
    let mut file = tempfile::tempfile_in(dir).unwrap();
    let (start, mut syncs) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_millis(500) {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    f64::from(syncs) / start.elapsed().as_secs_f64()
}
