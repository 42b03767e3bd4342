//! Two network namespaces joined by a pair of virtual interfaces; gone when dropped.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses of the two ends, IPv4 and IPv6.
pub(crate) const NEAR: [&str; 2] = ["10.77.0.1", "fd77::1"];
pub(crate) const FAR: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// Two namespaces, `near` and `far`.
pub(crate) struct Network {
    pub(crate) near: String,
    pub(crate) far: String,
}

impl Network {
    pub(crate) fn make() -> Self {
        // Names are the machine's: tests at the same time must not share them.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let network = Self {
            near: format!("hl-near-{id}"),
            far: format!("hl-far-{id}"),
        };
        let Self { near, far } = &network;
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        ip(&[
            "-n", near, "link", "add", "hl0", "type", "veth", "peer", "name", "hl0", "netns", far,
        ]);
        for (name, [v4, v6]) in [(near, NEAR), (far, FAR)] {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "addr", "add", &format!("{v4}/24"), "dev", "hl0"]);
            ip(&[
                "-n",
                name,
                "-6",
                "addr",
                "add",
                &format!("{v6}/64"),
                "dev",
                "hl0",
                "nodad",
            ]);
            ip(&["-n", name, "link", "set", "hl0", "up"]);
        }
        network
    }

    /// A command that runs inside one of the namespaces.
    pub(crate) fn inside(name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name]).arg(program);
        command
    }

    /// The inode by which the kernel names a namespace.
    pub(crate) fn inode(name: &str) -> u32 {
        let metadata = std::fs::metadata(Path::new("/run/netns").join(name)).unwrap();
        u32::try_from(std::os::unix::fs::MetadataExt::ino(&metadata)).unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(args: &[&str]) {
    let status = Command::new("ip")
        .args(args)
        .status()
        .expect("the program `ip` of iproute2");
    assert!(status.success(), "ip {}", args.join(" "));
}
