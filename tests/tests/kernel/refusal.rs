//! What the kernel side says where it cannot do its work, or not all of it.

use std::io::Write;

use agent::kernel::{Kernel, Options, Probe, Refused, SensorReport, State};
use common::abi::Kind;

use crate::watch::Watch;

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The kernel's type information with one member's name changed, as a kernel without it would have it.
fn without(member: &str) -> tempfile::NamedTempFile {
    let mut bytes = std::fs::read(BTF).unwrap();
    let name = [b"\0", member.as_bytes(), b"\0"].concat();
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at + 1] = b'?';
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

fn state(reports: &[SensorReport], probe: Probe) -> &State {
    &reports.iter().find(|r| r.probe == probe).unwrap().state
}

#[test]
fn a_kernel_without_type_information_is_named() {
    let missing = Options {
        btf: "/nonexistent/btf".into(),
        ..Options::default()
    };
    let Err(Refused::NoBtf { path, .. }) = Kernel::start(&missing) else {
        panic!("started")
    };
    assert_eq!(path, missing.btf);
    let mut garbage = tempfile::NamedTempFile::new().unwrap();
    garbage.write_all(b"no type information").unwrap();
    let garbage = Options {
        btf: garbage.path().into(),
        ..Options::default()
    };
    assert!(matches!(Kernel::start(&garbage), Err(Refused::BadBtf { .. })));
}

#[test]
fn an_option_out_of_range_is_named() {
    for (options, name) in [
        (
            Options {
                ring_bytes: 5000,
                ..Options::default()
            },
            "ring_bytes",
        ),
        (
            Options {
                argv_bytes_max: 4097,
                ..Options::default()
            },
            "argv_bytes_max",
        ),
    ] {
        let Err(Refused::BadOption { name: found, .. }) = Kernel::start(&options) else {
            panic!("{name}")
        };
        assert_eq!(found, name);
    }
}

#[test]
fn a_required_field_that_is_missing_fails_its_probes_by_name_and_no_others() {
    let btf = without("group_exit_code");
    let watch = Watch::start(&Options {
        btf: btf.path().into(),
        ..Options::default()
    });
    let reports = &watch.kernel.reports;
    for probe in [
        Probe::ProcessFork,
        Probe::ProcessExec,
        Probe::ProcessExit,
        Probe::IterTask,
    ] {
        let State::Failed(reason) = state(reports, probe) else {
            panic!("{reports:?}")
        };
        assert_eq!(reason, "struct signal_struct has no member group_exit_code");
    }
    assert_eq!(state(reports, Probe::TcpState), &State::Active);
}

/// An owner without its start could be taken for a later process with the same id.
#[test]
fn without_the_start_of_processes_sockets_are_not_told_either() {
    let btf = without("start_boottime");
    let watch = Watch::start(&Options {
        btf: btf.path().into(),
        ..Options::default()
    });
    let State::Failed(reason) = state(&watch.kernel.reports, Probe::TcpState) else {
        panic!("{:?}", watch.kernel.reports)
    };
    assert_eq!(reason, "struct task_struct has no member start_boottime");
}

#[test]
fn an_optional_field_that_is_missing_degrades_its_probes_and_is_told_as_unset() {
    let btf = without("cap_ambient");
    let mut watch = Watch::start(&Options {
        btf: btf.path().into(),
        ..Options::default()
    });
    let State::Degraded(reason) = state(&watch.kernel.reports, Probe::ProcessExec) else {
        panic!("{:?}", watch.kernel.reports)
    };
    assert_eq!(reason, "struct cred has no member cap_ambient");
    assert_eq!(state(&watch.kernel.reports, Probe::TcpState), &State::Active);
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    watch.settle();
    let told = watch
        .processes
        .iter()
        .any(|t| t.kind == Kind::ProcessExec && t.key.tgid == child.id());
    assert!(told, "the rest of the record still comes");
}
