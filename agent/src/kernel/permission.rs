//! What this process lacks to load programs, said exactly.

use std::fs;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Names the capabilities that are missing, empty if none is.
///
/// `CAP_SYS_ADMIN` stands for both others, as the kernel has it.
pub(super) fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    if has(CAP_SYS_ADMIN) {
        return Vec::new();
    }
    [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|&(bit, _)| !has(bit))
        .map(|(_, name)| name)
        .collect()
}

/// This process's effective capabilities; `None` where /proc does not tell.
pub(super) fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    capability_line(&status)
}

fn capability_line(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// The kernel's lockdown mode, or why it is not known.
fn lockdown() -> String {
    match fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(modes) => selected(&modes).unwrap_or("not understood").to_owned(),
        Err(error) => format!("unknown (/sys/kernel/security/lockdown: {error})"),
    }
}

/// The mode in brackets, as in `none [integrity] confidentiality`.
fn selected(modes: &str) -> Option<&str> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// What an errno from the `bpf` call most likely means here.
pub(super) fn explain(errno: Option<i32>) -> String {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EINVAL: i32 = 22;
    let missing = effective_capabilities()
        .map(missing_capabilities)
        .unwrap_or_default();
    match errno {
        Some(EPERM) if !missing.is_empty() => format!("{} missing", missing.join(" and ")),
        Some(EPERM) => {
            format!(
                "the kernel forbids it though no capability is missing; lockdown is {}",
                lockdown()
            )
        }
        Some(EACCES) => "the kernel's verifier refused the program".to_owned(),
        Some(EINVAL) => "this kernel does not know that kind of program or attachment".to_owned(),
        _ => "unexpected".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(missing_capabilities(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(1 << CAP_BPF), ["CAP_PERFMON"]);
        assert!(missing_capabilities(1 << CAP_BPF | 1 << CAP_PERFMON).is_empty());
        assert!(missing_capabilities(1 << CAP_SYS_ADMIN).is_empty());
    }

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        assert_eq!(selected("none [integrity] confidentiality\n"), Some("integrity"));
        assert_eq!(selected("nonsense"), None);
    }

    #[test]
    fn the_status_line_is_read_as_hex() {
        assert_eq!(
            capability_line("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Some(0x1ff_ffff_ffff)
        );
        assert_eq!(capability_line("Name:\tx\n"), None);
    }
}
