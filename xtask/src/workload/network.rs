//! Two network namespaces joined by a virtual link, with addresses of their own.
//!
//! The namespaces have no name: each lives as long as a process that sleeps in it, and that process
//! dies with us. Nothing in the machine's own network namespace is touched. Addresses are from the
//! ranges reserved for documentation.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::dying_with_us;
use crate::shell::output;

const CLIENT: [&str; 2] = ["192.0.2.1", "2001:db8:5::1"];
const SERVER: [&str; 2] = ["192.0.2.2", "2001:db8:5::2"];
/// The link's two ends; each name exists in its own namespace only.
const LINK: [&str; 2] = ["hlclient", "hlserver"];
/// How long a namespace may take to appear.
const NAMESPACE_TIME_MAX: Duration = Duration::from_secs(10);

/// The two namespaces, by the processes that hold them.
#[derive(Debug)]
pub(super) struct Namespaces {
    client: Child,
    server: Child,
}

impl Namespaces {
    /// Makes both, links them and gives them addresses.
    pub(super) fn make() -> Result<Self> {
        let namespaces = Self {
            client: holder()?,
            server: holder()?,
        };
        let (client, server) = (
            namespaces.client.id().to_string(),
            namespaces.server.id().to_string(),
        );
        ip(&[
            "link", "add", "name", LINK[0], "netns", &client, "type", "veth", "peer", "name", LINK[1],
            "netns", &server,
        ])?;
        for (holder, link, addresses) in [(&client, LINK[0], CLIENT), (&server, LINK[1], SERVER)] {
            ip_in(holder, &["link", "set", "dev", "lo", "up"])?;
            ip_in(
                holder,
                &["addr", "add", &format!("{}/24", addresses[0]), "dev", link],
            )?;
            // Without `nodad` the address could not be used before its uniqueness was probed.
            ip_in(
                holder,
                &[
                    "addr",
                    "add",
                    &format!("{}/64", addresses[1]),
                    "dev",
                    link,
                    "nodad",
                ],
            )?;
            ip_in(holder, &["link", "set", "dev", link, "up"])?;
        }
        Ok(namespaces)
    }

    /// The words that start a command in the client's namespace.
    pub(super) fn enter_client(&self) -> Vec<String> {
        enter(&self.client.id().to_string())
    }

    /// The words that start a command in the server's namespace.
    pub(super) fn enter_server(&self) -> Vec<String> {
        enter(&self.server.id().to_string())
    }

    /// The server role's arguments there.
    pub(super) fn serve_arguments(&self) -> [&'static str; 3] {
        ["serve", "192.0.2.2:0", "[2001:db8:5::2]:0"]
    }

    /// Ends the holders, and with them the namespaces and the link.
    pub(super) fn remove(mut self) -> Result<()> {
        for holder in [&mut self.client, &mut self.server] {
            holder.kill().context("a namespace's holder cannot be ended")?;
            holder.wait()?;
        }
        Ok(())
    }
}

/// A process that sleeps in a new network namespace.
fn holder() -> Result<Child> {
    let mut command = dying_with_us();
    command
        .args(["unshare", "--net", "sleep", "infinity"])
        .stdin(Stdio::null());
    let mut child = command
        .spawn()
        .context("`setpriv` (of util-linux) could not be started")?;
    let ours = fs::read_link("/proc/self/ns/net")?;
    let started = Instant::now();
    loop {
        if fs::read_link(format!("/proc/{}/ns/net", child.id())).is_ok_and(|theirs| theirs != ours) {
            return Ok(child);
        }
        if let Some(status) = child.try_wait()? {
            bail!("`unshare --net` ended with {status}: it needs root (CAP_SYS_ADMIN)");
        }
        if started.elapsed() > NAMESPACE_TIME_MAX {
            child.kill()?;
            bail!("`unshare --net` made no namespace within {NAMESPACE_TIME_MAX:?}");
        }
        sleep(Duration::from_millis(5));
    }
}

fn enter(holder: &str) -> Vec<String> {
    vec![
        "nsenter".to_owned(),
        format!("--net=/proc/{holder}/ns/net"),
        "--".to_owned(),
    ]
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(drop)
}

fn ip_in(holder: &str, arguments: &[&str]) -> Result<()> {
    let words = enter(holder);
    output(
        Command::new(&words[0])
            .args(&words[1..])
            .arg("ip")
            .args(arguments),
    )
    .map(drop)
}
