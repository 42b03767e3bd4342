//! What this machine and this boot are.

use std::fs;

use common::{
    event::{Boot, Fact, Field, Host, Source, Why},
    ids::{BootId, HostId},
    text::Text,
};

use crate::clock::Clock;

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where the kernel names its clock source.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Where the kernel lists the processors online, e.g. `0-3,6`.
const CPUS_ONLINE: &str = "/sys/devices/system/cpu/online";

/// Why the boot is not known, without which no entity has a key. The system is at fault.
#[derive(Debug, thiserror::Error)]
pub enum BootIdError {
    /// No `/proc`, or one that hides it.
    #[error("{BOOT_ID}: {0}; mount /proc (hidepid and ProtectProc must leave /proc/sys readable)")]
    Io(#[from] std::io::Error),
    /// Not a UUID.
    #[error("{BOOT_ID} holds {0:?}, which is no boot id")]
    Malformed(String),
}

/// The kernel's id of this boot.
///
/// # Errors
/// [`BootIdError`].
pub fn boot_id() -> Result<BootId, BootIdError> {
    let text = fs::read_to_string(BOOT_ID)?;
    text.trim()
        .replace('-', "")
        .parse()
        .map_err(|_| BootIdError::Malformed(text))
}

/// The machine as it is now.
#[must_use]
pub fn host(host: HostId) -> Fact {
    let uname = rustix::system::uname();
    let system = rustix::system::sysinfo();
    let unit = u64::from(system.mem_unit);
    Fact::Host {
        key: host,
        record: Host {
            source: Source::Procfs,
            hostname: uname.nodename().to_bytes().into(),
            kernel_release: uname.release().to_bytes().into(),
            kernel_version: uname.version().to_bytes().into(),
            architecture: uname.machine().to_bytes().into(),
            os: os_release(),
            cpus: fs::read_to_string(CPUS_ONLINE).map_or(0, |list| count_cpus(&list)),
            memory_bytes: system.totalram.saturating_mul(unit),
            clock_source: read_field(CLOCK_SOURCE),
            clock_synchronised: match Clock::sample().source {
                common::batch::ClockSource::Unknown => Field::Unknown(Why::NotOffered),
                source => Field::Known(source == common::batch::ClockSource::Synchronised),
            },
            agent_version: env!("CARGO_PKG_VERSION").into(),
        },
    }
}

/// This boot.
#[must_use]
pub fn boot(boot: BootId, clock: &Clock) -> Fact {
    Fact::Boot {
        key: boot,
        record: Boot {
            source: Source::Procfs,
            booted: clock.booted,
            command_line: read_field("/proc/cmdline"),
        },
    }
}

fn read_field(path: &str) -> Field<Text> {
    match fs::read(path) {
        Ok(bytes) => Field::Known(bytes.trim_ascii().into()),
        Err(error) => Field::Unknown(super::why(&error)),
    }
}

/// Processors in a list such as `0-3,6`; what does not parse counts for none.
fn count_cpus(list: &str) -> u32 {
    list.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            (last.parse::<u32>().ok()? + 1).checked_sub(first.parse().ok()?)
        })
        .sum()
}

fn os_release() -> Field<Text> {
    let Ok(text) =
        fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"))
    else {
        return Field::Absent;
    };
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    match (value("ID"), value("VERSION_ID")) {
        (Some(id), Some(version)) => Field::Known(format!("{id} {version}").as_str().into()),
        (Some(id), None) => Field::Known(id.into()),
        (None, _) => Field::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        for (list, expected) in [("0\n", 1), ("0-3,6\n", 5), ("", 0), ("x", 0), ("3-1", 0)] {
            assert_eq!(count_cpus(list), expected, "{list:?}");
        }
    }

    #[test]
    fn this_machine_has_a_boot_a_kernel_and_processors() {
        assert_ne!(boot_id().unwrap(), BootId::default());
        let Fact::Host { record, .. } = host(HostId::default()) else {
            panic!("host() gives a host");
        };
        assert!(!record.kernel_release.0.is_empty());
        assert!(record.cpus > 0 && record.memory_bytes > 0);
    }
}
