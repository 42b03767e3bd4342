//! The real witness program in a directory of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use common::note::VerifierKey;

use crate::node::program;

/// A witness that follows one ledger; it may be killed and started again at the same address.
pub(crate) struct Witness {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    /// Its verifier key.
    pub(crate) key: String,
}

impl Witness {
    /// A new one called `name`, running.
    pub(crate) fn start(name: &str, log: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let place = dir.path().join("w");
        let made = Command::new(program("collector", "hostledger-collector"))
            .args(["witness", "init", "--name", name, "--log", log])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--dir"])
            .arg(&place)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let file = place.join("witness.toml");
        let settings = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("requests_per_second = 10000\n{settings}")).unwrap();
        let key = fs::read_to_string(place.join("witness.vkey")).unwrap();
        let mut witness = Self {
            dir,
            port,
            child: None,
            key: key.trim().to_owned(),
        };
        witness.run();
        witness
    }

    /// Its operator is told of other keys of the one ledger, and starts it again.
    pub(crate) fn follow(&mut self, keys: &[&VerifierKey]) {
        self.kill();
        let file = self.place().join("witness.toml");
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let told: Vec<String> = fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(|line| match line.starts_with("keys = ") {
                true => format!("keys = [{}]", keys.join(", ")),
                false => line.to_owned(),
            })
            .collect();
        fs::write(file, told.join("\n")).unwrap();
        self.run();
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("w")
    }

    /// Starts it again; returns once it listens.
    pub(crate) fn run(&mut self) {
        let mut child = Command::new(program("collector", "hostledger-collector"))
            .args(["witness", "run", "--log", "off", "--dir"])
            .arg(self.place())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("listening"), "{line:?}");
        self.child = Some(child);
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Where ledgers find it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A policy of all these witnesses.
pub(crate) fn policy(witnesses: &[Witness]) -> String {
    let (mut text, mut names) = (String::new(), String::new());
    for (n, witness) in witnesses.iter().enumerate() {
        text.push_str(&format!("witness w{n} {} {}\n", witness.key, witness.url()));
        names.push_str(&format!(" w{n}"));
    }
    format!("{text}group everybody all{names}\nquorum everybody\n")
}
