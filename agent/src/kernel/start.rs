//! Loading: resolve offsets, create maps, then try each probe by itself.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use aya::programs::{BtfTracePoint, FEntry, Iter, Lsm, ProgramError};
use aya::{Ebpf, EbpfLoader};
use common::abi::fields::{Field, Need};

use super::btf::{Btf, BtfError, Offsets};
use super::permission::{effective_capabilities, explain, missing_capabilities};
use super::reader::{Reader, ReaderError};
use super::report::{Probe, SensorReport, State, Tier};
use super::{Kernel, Options};

/// The object built from `agent-ebpf`, if there was one when the agent was built.
const OBJECT: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/kernel_object.rs"));

/// Why there are no kernel sensors at all. Each names its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The agent was built without the eBPF object.
    #[error("built without kernel sensors; build with `cargo xtask build` to have them")]
    NotBuilt,
    /// The kernel has no type information.
    #[error("kernel type information {path} cannot be read: {source}; it needs CONFIG_DEBUG_INFO_BTF")]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The type information is there and not understood.
    #[error("kernel type information {path} is not understood: {source}")]
    BadBtf {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: BtfError,
    },
    /// The process may not load programs.
    #[error("not permitted to load eBPF programs: {} missing; run as root or grant them", missing.join(" and "))]
    NotPermitted {
        /// The capabilities that are missing.
        missing: Vec<&'static str>,
    },
    /// An option is out of its range.
    #[error("option {name} is {value}, but {rule}")]
    BadOption {
        /// Which option.
        name: &'static str,
        /// Its value.
        value: u32,
        /// What it must be.
        rule: &'static str,
    },
    /// The kernel refused the maps or the object as a whole.
    #[error("the kernel refused the eBPF object: {0}")]
    Object(String),
    /// The maps that the reader needs are not there.
    #[error(transparent)]
    Reader(#[from] ReaderError),
}

/// The loaded programs and their attachments; dropping this detaches them.
pub struct Hooks {
    pub(super) ebpf: Ebpf,
    pub(super) btf: aya::Btf,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// How a probe is loaded and attached.
#[derive(Clone, Copy)]
enum Mechanism {
    TracePoint(&'static str),
    Iter(&'static str),
    TrialFentry(&'static str),
    TrialLsm(&'static str),
}

/// A probe, the program that implements it, and which fields it cannot do without.
struct Plan {
    probe: Probe,
    program: &'static str,
    mechanism: Mechanism,
    need: Need,
}

/// Exit before exec before fork: a process seen to begin is then also seen to end. Iterators come last, so
/// that whatever they miss has already been seen live.
const PLANS: &[Plan] = {
    use Mechanism::{Iter, TracePoint, TrialFentry, TrialLsm};
    const fn plan(probe: Probe, program: &'static str, mechanism: Mechanism, need: Need) -> Plan {
        Plan {
            probe,
            program,
            mechanism,
            need,
        }
    }
    &[
        plan(
            Probe::ProcessExit,
            "process_exit",
            TracePoint("sched_process_exit"),
            Need::Process,
        ),
        plan(
            Probe::ProcessExec,
            "process_exec",
            TracePoint("sched_process_exec"),
            Need::Process,
        ),
        plan(
            Probe::ProcessFork,
            "process_fork",
            TracePoint("sched_process_fork"),
            Need::Process,
        ),
        plan(
            Probe::TcpState,
            "tcp_state",
            TracePoint("inet_sock_set_state"),
            Need::Tcp,
        ),
        plan(
            Probe::TcpRead,
            "tcp_read",
            TracePoint("tcp_rcv_space_adjust"),
            Need::Tcp,
        ),
        plan(Probe::IterTask, "iter_task", Iter("task"), Need::Process),
        plan(Probe::IterTcp, "iter_tcp", Iter("tcp"), Need::Tcp),
        plan(
            Probe::IterTaskFile,
            "iter_task_file",
            Iter("task_file"),
            Need::Tcp,
        ),
        plan(
            Probe::TrialFentry,
            "trial_fentry",
            TrialFentry("acct_process"),
            Need::Optional,
        ),
        plan(
            Probe::TrialLsm,
            "trial_lsm",
            TrialLsm("bprm_committed_creds"),
            Need::Optional,
        ),
    ]
};

pub(super) fn start(options: &Options) -> Result<Kernel, Refused> {
    let object = OBJECT.ok_or(Refused::NotBuilt)?;
    check(options)?;
    let missing = effective_capabilities()
        .map(missing_capabilities)
        .unwrap_or_default();
    if !missing.is_empty() {
        return Err(Refused::NotPermitted { missing });
    }
    let path = &options.btf;
    let raw = fs::read(path).map_err(|source| Refused::NoBtf {
        path: path.clone(),
        source,
    })?;
    let types = Btf::parse(&raw).map_err(|source| Refused::BadBtf {
        path: path.clone(),
        source,
    })?;
    let offsets = types.offsets();
    // aya wants its own view of the same bytes to find attachment points.
    let btf =
        aya::Btf::parse(&raw, aya::Endianness::default()).map_err(|error| Refused::Object(chain(&error)))?;

    let tells_last = types.tracepoint_arguments("sched_process_exit") >= Some(2);
    let exit_tells_last = u32::from(tells_last && !options.count_threads);
    let sock_done_bit = types.enumerator("SOCK_DONE").unwrap_or(u32::MAX);
    // Woken only when the ring is nearly full, the agent would come too late.
    let wake_bytes = options.wake_bytes.min(options.ring_bytes / 4);
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .override_global("OFFSETS", &offsets.table[..], true)
        .override_global("EXIT_TELLS_LAST", &exit_tells_last, true)
        .override_global("SOCK_DONE_BIT", &sock_done_bit, true)
        .override_global("WAKE_BYTES", &wake_bytes, true)
        .override_global("ARGV_BYTES", &options.argv_bytes_max, true)
        .map_max_entries("RING", options.ring_bytes)
        .load(object)
        .map_err(|error| Refused::Object(chain(&error)))?;
    let reader = Reader::new(&mut ebpf)?;
    let mut hooks = Hooks { ebpf, btf };
    let reports: Vec<_> = PLANS
        .iter()
        .map(|plan| try_probe(&mut hooks, plan, &offsets))
        .collect();
    let reader = reader.with_programs(&hooks.ebpf);
    Ok(Kernel {
        hooks,
        reader,
        reports,
    })
}

fn check(options: &Options) -> Result<(), Refused> {
    let bad = |name, value, rule| Err(Refused::BadOption { name, value, rule });
    if !options.ring_bytes.is_power_of_two() || options.ring_bytes < 4096 {
        return bad(
            "ring_bytes",
            options.ring_bytes,
            "must be a power of two and at least 4096",
        );
    }
    if options.argv_bytes_max > 4096 {
        return bad("argv_bytes_max", options.argv_bytes_max, "must be at most 4096");
    }
    Ok(())
}

/// Without these a socket's owner could not be told from a later process with the same id.
const OF_OWNER: [Field; 3] = [Field::TaskTgid, Field::TaskLeader, Field::TaskStart];

fn try_probe(hooks: &mut Hooks, plan: &Plan, offsets: &Offsets) -> SensorReport {
    let tier = match plan.mechanism {
        Mechanism::TracePoint(_) | Mechanism::Iter(_) => Tier::B,
        Mechanism::TrialFentry(_) | Mechanism::TrialLsm(_) => Tier::A,
    };
    let report = |state| SensorReport {
        tier,
        probe: plan.probe,
        state,
    };
    let lacking: Vec<String> = match plan.need {
        Need::Optional => Vec::new(),
        need => offsets
            .missing
            .iter()
            .filter(|(place, _)| place.need == need || (need == Need::Tcp && OF_OWNER.contains(&place.field)))
            .map(|(_, error)| error.to_string())
            .collect(),
    };
    if !lacking.is_empty() {
        return report(State::Failed(lacking.join("; ")));
    }
    if let Mechanism::Iter(_) = plan.mechanism
        && let Some(field) = unexpected_context(offsets)
    {
        return report(State::Failed(format!(
            "the kernel's iterator context has {field} elsewhere"
        )));
    }
    if let Err(error) = attach(hooks, plan) {
        return report(State::Failed(error));
    }
    let thinner: Vec<String> = match plan.need {
        Need::Optional => Vec::new(),
        need => optional_of(need, offsets),
    };
    report(if thinner.is_empty() {
        State::Active
    } else {
        State::Degraded(thinner.join("; "))
    })
}

/// Programs cannot take the layout of their own context from a table, so it is compared here.
fn unexpected_context(offsets: &Offsets) -> Option<&'static str> {
    const EXPECTED: [(Field, u32, &str); 7] = [
        (Field::IterMeta, 0, "meta"),
        (Field::IterTask, 8, "task"),
        (Field::IterTcpSock, 8, "sk_common"),
        (Field::IterFileTask, 8, "task"),
        (Field::IterFileFd, 16, "fd"),
        (Field::IterFileFile, 24, "file"),
        (Field::IterMetaSeq, 0, "seq"),
    ];
    EXPECTED
        .iter()
        .find(|(field, expected, _)| offsets.table.get(*field as usize) != Some(expected))
        .map(|(_, _, name)| *name)
}

/// Optional fields that are missing and concern this family.
fn optional_of(need: Need, offsets: &Offsets) -> Vec<String> {
    const OF_TCP: [&str; 6] = [
        "sock",
        "socket",
        "tcp_sock",
        "inet_sock",
        "bpf_iter__tcp",
        "bpf_iter__task_file",
    ];
    offsets
        .missing
        .iter()
        .filter(|(place, _)| place.need == Need::Optional)
        .filter(|(place, _)| OF_TCP.contains(&place.structure) == (need == Need::Tcp))
        .map(|(_, error)| error.to_string())
        .collect()
}

fn attach(hooks: &mut Hooks, plan: &Plan) -> Result<(), String> {
    let Hooks { ebpf, btf } = hooks;
    let program = ebpf
        .program_mut(plan.program)
        .ok_or_else(|| format!("the object has no program {}", plan.program))?;
    let outcome = match plan.mechanism {
        Mechanism::TracePoint(name) => <&mut BtfTracePoint>::try_from(program).and_then(|p| {
            p.load(name, btf)?;
            p.attach().map(drop)
        }),
        // Iterators are attached anew for each snapshot.
        Mechanism::Iter(name) => <&mut Iter>::try_from(program).and_then(|p| p.load(name, btf)),
        // Nothing uses these yet: loading tells what the kernel allows, attaching would only cost.
        Mechanism::TrialFentry(name) => {
            <&mut FEntry>::try_from(program).and_then(|p| p.load(name, btf).and_then(|()| p.unload()))
        }
        Mechanism::TrialLsm(name) => {
            <&mut Lsm>::try_from(program).and_then(|p| p.load(name, btf).and_then(|()| p.unload()))
        }
    };
    outcome.map_err(|error| reason(&error))
}

/// What happened and what it most likely means.
fn reason(error: &ProgramError) -> String {
    let errno = match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => return chain(error),
    };
    let said = match error {
        // The verifier's log runs to thousands of lines; its end says what was wrong.
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let end = lines
                .get(lines.len().saturating_sub(6)..)
                .unwrap_or_default()
                .join(" | ");
            if end.is_empty() {
                io_error.to_string()
            } else {
                format!("{io_error}: {end}")
            }
        }
        other => chain(other),
    };
    format!("{said} ({})", explain(errno))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
