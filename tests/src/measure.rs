//! What benches print of their own process. Judges nothing.

use std::{error::Error, fs, time::Duration};

/// CPU time of all our threads, to 10 ms.
///
/// # Errors
/// `/proc` does not say.
pub fn cpu() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(')').ok_or("stat")?.1;
    let ticks: Vec<u32> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .flat_map(str::parse)
        .collect();
    Ok(Duration::from_millis(10) * ticks.iter().sum())
}

/// Prints our resident memory, now and at most, KiB.
///
/// # Errors
/// `/proc` does not say.
pub fn print_memory() -> Result<(), Box<dyn Error>> {
    for line in fs::read_to_string("/proc/self/status")?.lines() {
        for (field, name) in [("VmRSS:", "resident_kib"), ("VmHWM:", "resident_max_kib")] {
            if let Some(rest) = line.strip_prefix(field) {
                println!("{name} {}", rest.trim().trim_end_matches(" kB"));
            }
        }
    }
    Ok(())
}

/// The words of the command line without options, of which `cargo bench` adds some.
#[must_use]
pub fn words() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect()
}
