//! What benches print of their own process. Judges nothing.

use std::{error::Error, fs, time::Duration};

/// What may go wrong.
type Failed = Box<dyn Error + Send + Sync>;

/// CPU time of all our threads, to 10 ms.
///
/// # Errors
/// `/proc` does not say.
pub fn cpu() -> Result<Duration, Failed> {
    cpu_of(std::process::id())
}

/// CPU time of all threads of a process, to 10 ms.
///
/// # Errors
/// `/proc` does not say.
pub fn cpu_of(pid: u32) -> Result<Duration, Failed> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
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
pub fn print_memory() -> Result<(), Failed> {
    let fields = [("VmRSS", "resident_kib"), ("VmHWM", "resident_max_kib")];
    print_fields(std::process::id(), &fields, "")
}

/// Prints a process's resident memory, KiB: all of it, which counts the pages of its own program; what is only its own;
/// and the most that all of it ever was.
///
/// # Errors
/// `/proc` does not say.
pub fn print_memory_of(pid: u32, prefix: &str) -> Result<(), Failed> {
    let fields = [
        ("VmRSS", "resident_kib"),
        ("RssAnon", "own_kib"),
        ("VmHWM", "resident_max_kib"),
    ];
    print_fields(pid, &fields, prefix)
}

fn print_fields(pid: u32, fields: &[(&str, &str)], prefix: &str) -> Result<(), Failed> {
    for (field, name) in fields {
        println!("{prefix}{name} {}", memory_of(pid, field)?);
    }
    Ok(())
}

/// A field of a process's status that counts memory, KiB.
///
/// # Errors
/// `/proc` does not say.
pub fn memory_of(pid: u32, field: &str) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| *name == field).ok_or("status")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

/// The words of the command line without options, of which `cargo bench` adds some.
#[must_use]
pub fn words() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect()
}
