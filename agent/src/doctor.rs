//! `doctor`: tries what the agent would do here and says what is missing, with the remedy.
//!
//! Sensors are judged by loading them, for only that tells; they are detached again at once. Changes nothing.

use std::{fmt::Write as _, path::Path};

use common::{
    event::{
        SensorId,
        sensor::{SensorState, Tier},
    },
    spool::read_head_file,
};
use serde::Serialize;

use crate::{
    clock::Clock,
    config::{Config, Layout},
    files,
    identity::Identity,
    sensor,
    ship::{TlsFiles, read_policy, tls_files},
    status,
};

/// Bytes below which the spool's file system is called short.
const SPACE_MIN: u64 = 64 * 1024 * 1024;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The agent runs and knows less.
    Degraded,
    /// The agent, or the part named, does not work.
    Failed,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How good.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

fn check(name: &str, verdict: Verdict, found: impl Into<String>, remedy: &str) -> Check {
    Check {
        name: name.to_owned(),
        verdict,
        found: found.into(),
        remedy: if verdict == Verdict::Ok {
            String::new()
        } else {
            remedy.to_owned()
        },
    }
}

/// Everything, in the order in which an operator would fix it. `layout` is `None` before `init`.
#[must_use]
pub fn examine(layout: Option<&Layout>, config: &Config) -> Vec<Check> {
    let mut checks = vec![boot(), btf(), capabilities(), clock()];
    checks.extend(sensors(config));
    if let Some(layout) = layout {
        checks.push(identity(layout));
        checks.push(own_files(layout));
        checks.push(space(layout, config));
        checks.push(running(layout));
        checks.extend(enrolment(layout, config));
    }
    checks
}

fn boot() -> Check {
    match sensor::host::boot_id() {
        Ok(boot) => check("boot-id", Verdict::Ok, boot.to_string(), ""),
        Err(error) => check(
            "boot-id",
            Verdict::Failed,
            error.to_string(),
            "mount /proc; without a boot id no entity has a key",
        ),
    }
}

fn btf() -> Check {
    let path = crate::kernel::Options::default().btf;
    match std::fs::metadata(&path) {
        Ok(found) => check(
            "btf",
            Verdict::Ok,
            format!("{}, {} bytes", path.display(), found.len()),
            "",
        ),
        Err(error) => check(
            "btf",
            Verdict::Degraded,
            format!("{}: {error}", path.display()),
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; until then /proc is scanned",
        ),
    }
}

/// Capabilities and what needs them (capabilities(7)).
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "load programs"),
    (38, "CAP_PERFMON", "attach them and read kernel memory"),
    (
        19,
        "CAP_SYS_PTRACE",
        "see paths, namespaces and sockets of others in /proc",
    ),
    (
        2,
        "CAP_DAC_READ_SEARCH",
        "read what other users' processes hide in /proc",
    ),
];

fn capabilities() -> Check {
    /// Stands for `CAP_BPF` and `CAP_PERFMON`.
    const SYS_ADMIN: u32 = 21;
    let effective = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        });
    let Some(effective) = effective else {
        return check(
            "capabilities",
            Verdict::Degraded,
            "/proc/self/status does not tell",
            "mount /proc",
        );
    };
    let has = |bit: u32| effective & (1 << bit) != 0;
    let missing: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(bit, ..)| !(has(*bit) || matches!(bit, 38 | 39) && has(SYS_ADMIN)))
        .map(|(_, name, purpose)| format!("{name} (to {purpose})"))
        .collect();
    if missing.is_empty() {
        check("capabilities", Verdict::Ok, "all that are needed", "")
    } else {
        check(
            "capabilities",
            Verdict::Degraded,
            format!("missing: {}", missing.join(", ")),
            "run as root, or grant them: setcap, AmbientCapabilities= or securityContext.capabilities",
        )
    }
}

fn clock() -> Check {
    let clock = Clock::sample();
    match clock.source {
        common::batch::ClockSource::Synchronised => {
            let micros = clock.error_ns / 1000;
            check(
                "clock",
                Verdict::Ok,
                format!("synchronised, maximum error {micros} µs"),
                "",
            )
        }
        source => check(
            "clock",
            Verdict::Degraded,
            format!("{source:?}: the error of wall times is unknown").to_lowercase(),
            "run an NTP client that disciplines the kernel clock (chrony, systemd-timesyncd)",
        ),
    }
}

fn sensors(config: &Config) -> Vec<Check> {
    let Ok(boot) = sensor::host::boot_id() else {
        return Vec::new();
    };
    let started = sensor::start(config, boot);
    started
        .statuses()
        .iter()
        .map(|(sensor, status)| {
            let verdict = match status.state {
                SensorState::Active => Verdict::Ok,
                SensorState::Degraded => Verdict::Degraded,
                SensorState::Failed | SensorState::Stopped => Verdict::Failed,
            };
            let tier = match status.tier {
                Tier::A => "tier A",
                Tier::B => "tier B",
                Tier::Procfs => "tier procfs",
            };
            let name = if *sensor == SensorId::AGENT {
                "sensors"
            } else {
                sensor.name()
            };
            let mut found = format!("{tier}, {}", status.probe);
            if !status.reason.0.is_empty() {
                let _ = write!(found, ": {}", status.reason);
            }
            let remedy = match (*sensor, status.tier) {
                (SensorId::AGENT, Tier::Procfs) => {
                    "needs a build with kernel sensors, BTF, and the capabilities above; see the reason"
                }
                // What is said of the agent as a whole is not repeated for each sensor.
                (_, Tier::Procfs) => "",
                _ => "the reason names the kernel field or program that is missing",
            };
            check(name, verdict, found, remedy)
        })
        .collect()
}

fn identity(layout: &Layout) -> Check {
    match Identity::inspect(layout) {
        Ok(host) => check("identity", Verdict::Ok, format!("host {host}"), ""),
        Err(error) => check(
            "identity",
            Verdict::Failed,
            error.to_string(),
            "run `hostledger-agent init --dir DIR`, or restore signing.keys",
        ),
    }
}

fn own_files(layout: &Layout) -> Check {
    let name = "files";
    let Ok(host) = Identity::inspect(layout) else {
        return check(
            name,
            Verdict::Degraded,
            "not looked at without an identity",
            "see identity",
        );
    };
    let head = std::fs::read(layout.spool().join("head")).unwrap_or_default();
    let mark = read_head_file(&head).0.and_then(|(_, head)| head.mark);
    let found: Vec<String> = files::examine(layout, &host, mark.as_ref())
        .iter()
        .map(ToString::to_string)
        .collect();
    if found.is_empty() {
        let text = "keys, checkpoint, evidence and certificates are as they were left";
        return check(name, Verdict::Ok, text, "");
    }
    check(
        name,
        Verdict::Degraded,
        found.join("; "),
        "restore what is named from a copy you trust; nothing that was acknowledged is lost by it",
    )
}

fn space(layout: &Layout, config: &Config) -> Check {
    match rustix::fs::statvfs(&layout.dir) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let short = free < SPACE_MIN.min(config.spool_bytes_max);
            check(
                "spool-space",
                if short { Verdict::Degraded } else { Verdict::Ok },
                format!(
                    "{free} bytes free, the spool takes up to {}",
                    config.spool_bytes_max
                ),
                "free space, or set spool.bytes_max lower",
            )
        }
        Err(error) => check(
            "spool-space",
            Verdict::Failed,
            format!("{}: {error}", layout.dir.display()),
            "make the directory with `hostledger-agent init`",
        ),
    }
}

fn running(layout: &Layout) -> Check {
    match status::ask(&layout.state()) {
        Ok(report) => check("running", Verdict::Ok, format!("yes, pid {}", report.pid), ""),
        Err(_) => check("running", Verdict::Ok, "no agent runs on this directory", ""),
    }
}

fn enrolment(layout: &Layout, config: &Config) -> Vec<Check> {
    let Some(collector) = &config.collector else {
        return vec![check(
            "collector",
            Verdict::Degraded,
            "none configured: batches stay in the spool",
            "set collector.address in agent.toml",
        )];
    };
    let mut checks = vec![check("collector", Verdict::Ok, collector.address.clone(), "")];
    match tls_files(layout) {
        TlsFiles::Usable { not_after } => {
            checks.push(check(
                "certificate",
                Verdict::Ok,
                format!("usable until {not_after}"),
                "",
            ));
        }
        TlsFiles::Expired { not_after } => checks.push(check(
            "certificate",
            Verdict::Failed,
            format!("expired at {not_after}"),
            "enrol again with `hostledger-collector enrol --csr agent.csr --out DIR`",
        )),
        TlsFiles::Unusable(error) => checks.push(check(
            "certificate",
            Verdict::Failed,
            error,
            "enrol with `hostledger-collector enrol --csr agent.csr --out DIR`",
        )),
    }
    checks.push(ledger_key(&layout.ledger_key()));
    let policy = config.witness_policy.as_ref();
    checks.extend(policy.map(|file| witness_policy(&layout.dir.join(file), &layout.ledger_key())));
    checks
}

fn witness_policy(path: &Path, ledger_key: &Path) -> Check {
    let key = std::fs::read_to_string(ledger_key).ok();
    let Some(key) = key.and_then(|text| common::note::VerifierKey::parse(text.trim()).ok()) else {
        return check(
            "witnesses",
            Verdict::Failed,
            "without the ledger's key the witness policy cannot be applied",
            "see ledger-key",
        );
    };
    match read_policy(path, &key) {
        Ok(policy) => {
            let names = policy.witnesses().iter().map(|one| one.key.name());
            let found = format!("{}: {}", path.display(), names.collect::<Vec<_>>().join(", "));
            check("witnesses", Verdict::Ok, found, "")
        }
        Err(fault) => check(
            "witnesses",
            Verdict::Failed,
            fault.to_string(),
            "give a C2SP tlog-policy file, or take witness_policy out of agent.toml; nothing is shipped until then",
        ),
    }
}

fn ledger_key(path: &Path) -> Check {
    let read = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| common::note::VerifierKey::parse(text.trim()).map_err(|error| error.to_string()));
    match read {
        Ok(key) => check("ledger-key", Verdict::Ok, key.name().to_owned(), ""),
        Err(error) => check(
            "ledger-key",
            Verdict::Failed,
            format!("{}: {error}", path.display()),
            "copy ledger.vkey from the collector; receipts are checked against it",
        ),
    }
}

/// The checks for people.
#[must_use]
pub fn table(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Degraded => "degraded",
            Verdict::Failed => "FAILED",
        };
        let _ = writeln!(text, "{verdict:<9} {:<13} {}", check.name, check.found);
        if !check.remedy.is_empty() {
            let _ = writeln!(text, "{:<9} {:<13} → {}", "", "", check.remedy);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let none = std::iter::empty();
        Config::load(
            Path::new("/nonexistent"),
            false,
            none,
            &[("sensors.choice", "procfs".into())],
        )
        .unwrap()
    }

    #[test]
    fn a_directory_without_identity_fails_and_names_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().to_owned(),
        };
        let checks = examine(Some(&layout), &config());
        let found = checks.iter().find(|check| check.name == "identity").unwrap();
        assert_eq!(found.verdict, Verdict::Failed);
        assert!(found.remedy.contains("hostledger-agent init"));
        let found = checks.iter().find(|check| check.name == "sensors").unwrap();
        assert_eq!(found.verdict, Verdict::Degraded);
        assert!(found.found.contains("procfs"), "{}", found.found);
    }
}
