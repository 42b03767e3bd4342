//! auditd recording execve, exit and connect, for comparison in the same run.
//!
//! Owns its start and stop. Refuses to touch an audit daemon or rules that are there already: they
//! are somebody's record. What is changed in the kernel (rules, backlog, enabled) is put back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cpu;
use crate::paths::Paths;
use crate::shell::{output, run};

/// The calls that correspond to what our sensors record.
const RULES: [&[&str]; 2] = [
    &["-S", "execve", "-S", "execveat", "-S", "exit", "-S", "exit_group"],
    &["-S", "connect", "-S", "accept", "-S", "accept4"],
];
/// Records that the kernel may queue for the daemon.
const BACKLOG: &str = "8192";
/// How long the daemon may take to say that it runs, or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running auditd of ours.
#[derive(Debug)]
pub(super) struct Auditd {
    daemon: u32,
    kernel_thread: u32,
    folder: PathBuf,
    before: Before,
    auditctl: PathBuf,
}

/// The kernel's settings as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Before {
    enabled: String,
    backlog: String,
}

impl Auditd {
    /// Starts the daemon with a folder of its own and sets the rules.
    pub(super) fn start(paths: &Paths, folder: &Path) -> Result<Self> {
        let find = |name: &str| paths.program(name).with_context(|| format!("{name} is missing"));
        let (daemon, auditctl) = (find("auditd")?, find("auditctl")?);
        let status = output(Command::new(&auditctl).arg("-s"))?;
        let rules = output(Command::new(&auditctl).arg("-l"))?;
        if value(&status, "pid")? != "0" || rules.trim() != "No rules" {
            bail!(
                "an audit daemon or audit rules are there already: stop them, or leave out this comparison"
            );
        }
        let before = Before {
            enabled: value(&status, "enabled")?.to_owned(),
            backlog: value(&status, "backlog_limit")?.to_owned(),
        };
        fs::create_dir_all(folder)?;
        write_configuration(folder)?;
        run(Command::new(&daemon).arg("-c").arg(folder)).context("auditd did not start")?;
        let mut ours = Self {
            daemon: 0,
            kernel_thread: kernel_thread()?,
            folder: folder.to_path_buf(),
            before,
            auditctl,
        };
        ours.daemon = ours.wait_for_daemon()?;
        ours.set(&["-b", BACKLOG])?;
        for rule in RULES {
            let mut arguments = vec!["-a", "always,exit", "-F", "arch=b64"];
            arguments.extend(rule);
            arguments.extend(["-k", "hostledger-bench"]);
            ours.set(&arguments)?;
        }
        Ok(ours)
    }

    /// CPU time so far: the daemon and the kernel thread that feeds it.
    pub(super) fn cpu(&self) -> Result<Duration> {
        Ok(cpu::of_process(self.daemon)? + cpu::of_process(self.kernel_thread)?)
    }

    /// The daemon's process id.
    pub(super) fn process(&self) -> u32 {
        self.daemon
    }

    /// Records that the kernel lost so far.
    pub(super) fn lost(&self) -> Result<u64> {
        let status = output(Command::new(&self.auditctl).arg("-s"))?;
        value(&status, "lost")?
            .parse()
            .context("auditctl's count of lost records")
    }

    /// Bytes recorded so far.
    pub(super) fn bytes(&self) -> Result<u64> {
        cpu::folder_bytes(&self.folder.join("log"))
    }

    fn wait_for_daemon(&self) -> Result<u32> {
        let started = Instant::now();
        loop {
            let status = output(Command::new(&self.auditctl).arg("-s"))?;
            match value(&status, "pid")?.parse() {
                Ok(process) if process != 0 => return Ok(process),
                _ if started.elapsed() > PATIENCE => bail!("auditd did not register with the kernel"),
                _ => sleep(Duration::from_millis(50)),
            }
        }
    }

    fn set(&self, arguments: &[&str]) -> Result<()> {
        output(Command::new(&self.auditctl).args(arguments)).map(drop)
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        // Each step is tried even if one before it failed; the machine's settings matter more than order.
        let steps = [
            self.set(&["-D"]),
            self.set(&["-e", &self.before.enabled]),
            output(Command::new("kill").arg(self.daemon.to_string())).map(drop),
        ];
        let started = Instant::now();
        while Path::new(&format!("/proc/{}", self.daemon)).exists() && started.elapsed() < PATIENCE {
            sleep(Duration::from_millis(50));
        }
        // The daemon sets the backlog no more once it is gone.
        for failure in steps
            .into_iter()
            .chain([self.set(&["-b", &self.before.backlog])])
            .filter_map(Result::err)
        {
            eprintln!("auditd was not wholly undone: {failure:#}");
        }
    }
}

/// The kernel thread that hands records to the daemon.
fn kernel_thread() -> Result<u32> {
    let text = output(Command::new("pgrep").args(["-x", "kauditd"]))?;
    text.trim().parse().context("the kernel has no audit thread")
}

fn value<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(str::trim)
        .with_context(|| format!("auditctl -s says nothing of {name}"))
}

/// The distribution's defaults, but with a folder of our own and no plug-ins.
fn write_configuration(folder: &Path) -> Result<()> {
    let log = folder.join("log");
    let plugins = folder.join("plugins.d");
    fs::create_dir_all(&log)?;
    fs::create_dir_all(&plugins)?;
    let text = format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {}\nlog_group = root\nlog_format = ENRICHED\n\
         flush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 512\nnum_logs = 2\npriority_boost = 4\n\
         max_log_file_action = ROTATE\nspace_left = 75\nspace_left_action = IGNORE\nadmin_space_left = 50\n\
         admin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n\
         q_depth = 2000\noverflow_action = IGNORE\nplugin_dir = {}\n",
        log.join("audit.log").display(),
        plugins.display(),
    );
    fs::write(folder.join("auditd.conf"), text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_whole_names() {
        let status = "enabled 0\npid 0\nbacklog_limit 64\nlost 7\nbacklog 3\n";
        assert_eq!(value(status, "backlog").unwrap(), "3");
        assert_eq!(value(status, "backlog_limit").unwrap(), "64");
        assert_eq!(value(status, "lost").unwrap(), "7");
        assert!(value(status, "failure").is_err());
    }
}
