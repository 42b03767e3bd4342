//! What each sensor can do here, in the words of the chain.

use common::{
    abi::Kind,
    event::{
        SensorId, SensorStatus,
        sensor::{SensorState, Tier},
    },
};

use super::procfs::Shortfall;
use crate::kernel::{Probe, SensorReport, State, Tier as KernelTier};

/// The sensors of the kernel's hooks, with their probes' attachment points.
const HOOKS: [(SensorId, Probe, &str); 8] = [
    (SensorId::FORK, Probe::ProcessFork, "tp_btf/sched_process_fork"),
    (SensorId::EXEC, Probe::ProcessExec, "tp_btf/sched_process_exec"),
    (SensorId::EXIT, Probe::ProcessExit, "tp_btf/sched_process_exit"),
    (SensorId::CONNECT, Probe::TcpState, "tp_btf/inet_sock_set_state"),
    (SensorId::LISTEN, Probe::TcpState, "tp_btf/inet_sock_set_state"),
    (SensorId::OPEN, Probe::TcpState, "tp_btf/inet_sock_set_state"),
    (SensorId::CLOSE, Probe::TcpState, "tp_btf/inet_sock_set_state"),
    (SensorId::UNLISTEN, Probe::TcpState, "tp_btf/inet_sock_set_state"),
];

/// Which families of entities something covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Families {
    /// Processes.
    pub processes: bool,
    /// Connections and listeners.
    pub sockets: bool,
}

impl Families {
    /// What the kernel's hooks cover: a family counts only if all of its hooks work, for records of half a
    /// life would contradict those from `/proc`.
    #[must_use]
    pub fn of(reports: &[SensorReport]) -> Self {
        let works = |probe| {
            reports
                .iter()
                .any(|report| report.probe == probe && report.works())
        };
        Self {
            processes: works(Probe::ProcessFork) && works(Probe::ProcessExec) && works(Probe::ProcessExit),
            sockets: works(Probe::TcpState),
        }
    }
}

/// The sensor whose sequence a kind of record has.
#[must_use]
pub fn sensor_of(kind: Kind) -> SensorId {
    match kind {
        Kind::ProcessFork => SensorId::FORK,
        Kind::ProcessExec => SensorId::EXEC,
        Kind::ProcessExit => SensorId::EXIT,
        Kind::TcpConnect => SensorId::CONNECT,
        Kind::TcpOpen => SensorId::OPEN,
        Kind::TcpClose => SensorId::CLOSE,
        Kind::ListenStart => SensorId::LISTEN,
        Kind::ListenStop => SensorId::UNLISTEN,
        Kind::ProcessSnapshot | Kind::TcpSnapshot | Kind::SocketOwner => SensorId::AGENT,
    }
}

/// The statuses where the kernel's object was loaded.
#[must_use]
pub fn of_kernel(reports: &[SensorReport], families: Families) -> Vec<(SensorId, SensorStatus)> {
    let mut statuses = vec![agent_status(reports, families)];
    for (sensor, probe, place) in HOOKS {
        let covered = match probe {
            Probe::TcpState => families.sockets,
            _ => families.processes,
        };
        let report = reports.iter().find(|report| report.probe == probe);
        let reason = report.map_or("not tried", SensorReport::reason).to_owned();
        let status = if covered {
            let mut reasons: Vec<String> = Vec::new();
            if !reason.is_empty() {
                reasons.push(reason);
            }
            SensorStatus {
                tier: Tier::B,
                state: if reasons.is_empty() {
                    SensorState::Active
                } else {
                    SensorState::Degraded
                },
                probe: place.into(),
                reason: reasons.join("; ").as_str().into(),
            }
        } else {
            scanned(
                sensor,
                &format!("{place} or its companions do not work: {reason}"),
            )
        };
        statuses.push((sensor, status));
    }
    statuses
}

fn agent_status(reports: &[SensorReport], families: Families) -> (SensorId, SensorStatus) {
    let whole = families.processes && families.sockets;
    let mut reasons: Vec<String> = reports
        .iter()
        .filter(|report| {
            matches!(
                report.probe,
                Probe::IterTask | Probe::IterTcp | Probe::IterTaskFile
            )
        })
        .filter(|report| !report.works())
        .map(|report| {
            format!(
                "{} failed, the baseline comes from /proc: {}",
                report.probe.name(),
                report.reason()
            )
        })
        .collect();
    let degraded = !whole || !reasons.is_empty();
    for report in reports.iter().filter(|report| report.tier == KernelTier::A) {
        reasons.push(match &report.state {
            State::Active => format!("{}: tier A is possible here", report.probe.name()),
            State::Degraded(reason) | State::Failed(reason) => format!("{}: {reason}", report.probe.name()),
        });
    }
    let status = SensorStatus {
        tier: Tier::B,
        state: if degraded {
            SensorState::Degraded
        } else {
            SensorState::Active
        },
        probe: "ebpf".into(),
        reason: reasons.join("; ").as_str().into(),
    };
    (SensorId::AGENT, status)
}

/// The statuses where `/proc` is all there is.
#[must_use]
pub fn of_procfs(reason: &str) -> Vec<(SensorId, SensorStatus)> {
    let agent = SensorStatus {
        tier: Tier::Procfs,
        state: SensorState::Degraded,
        probe: "/proc".into(),
        reason: reason.into(),
    };
    std::iter::once((SensorId::AGENT, agent))
        .chain(HOOKS.map(|(sensor, ..)| (sensor, scanned(sensor, ""))))
        .collect()
}

/// A sensor that scans; `reason` says why no hook does, where that is not the agent's as a whole.
fn scanned(sensor: SensorId, reason: &str) -> SensorStatus {
    let (probe, misses) = match sensor {
        SensorId::FORK | SensorId::EXEC => ("/proc/<pid>", "what ends between two scans is missed"),
        SensorId::EXIT => ("/proc/<pid>", "exit codes are unknown"),
        _ => (
            "/proc/<pid>/net/tcp",
            "what ends between two scans is missed; direction and bytes are unknown",
        ),
    };
    let reason = if reason.is_empty() {
        misses.to_owned()
    } else {
        format!("{misses} ({reason})")
    };
    SensorStatus {
        tier: Tier::Procfs,
        state: SensorState::Degraded,
        probe: probe.into(),
        reason: reason.as_str().into(),
    }
}

/// A status for what a scan could not do; `None` where it did everything.
#[must_use]
pub fn of_shortfall(shortfall: &Shortfall) -> Option<(SensorId, SensorStatus)> {
    if *shortfall == Shortfall::default() {
        return None;
    }
    let mut reasons = Vec::new();
    if shortfall.namespaces_refused > 0 {
        reasons.push(format!(
            "socket tables of {} network namespaces were refused (CAP_SYS_PTRACE missing?)",
            shortfall.namespaces_refused
        ));
    }
    if shortfall.descriptors_refused {
        reasons
            .push("descriptors of other users' processes were refused (CAP_SYS_PTRACE missing?)".to_owned());
    }
    if shortfall.left_out > 0 {
        reasons.push("the table of entities is full; new ones are left out".to_owned());
    }
    let status = SensorStatus {
        tier: Tier::Procfs,
        state: SensorState::Degraded,
        probe: "/proc".into(),
        reason: reasons.join("; ").as_str().into(),
    };
    Some((SensorId::AGENT, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(probe: Probe, state: State) -> SensorReport {
        SensorReport {
            tier: KernelTier::B,
            probe,
            state,
        }
    }

    #[test]
    fn half_a_family_is_none() {
        let reports = [
            report(Probe::ProcessFork, State::Active),
            report(Probe::ProcessExec, State::Failed("no such field".into())),
            report(Probe::ProcessExit, State::Active),
            report(Probe::TcpState, State::Degraded("thin".into())),
        ];
        let families = Families::of(&reports);
        assert_eq!(
            families,
            Families {
                processes: false,
                sockets: true
            }
        );
        let statuses = of_kernel(&reports, families);
        let of = |sensor| &statuses.iter().find(|(id, _)| *id == sensor).unwrap().1;
        assert_eq!(of(SensorId::EXIT).tier, Tier::Procfs);
        assert_eq!(of(SensorId::OPEN).state, SensorState::Degraded);
        assert_eq!(of(SensorId::OPEN).tier, Tier::B);
        assert_eq!(of(SensorId::AGENT).state, SensorState::Degraded);
    }

    #[test]
    fn every_live_kind_has_a_sensor_of_its_own() {
        let sensors: std::collections::BTreeSet<_> = Kind::LIVE.into_iter().map(sensor_of).collect();
        assert_eq!(sensors.len(), Kind::LIVE.len());
    }
}
