//! The real witness program in a directory of its own, and HTTP by hand.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::note::{VerifierKey, WitnessKey};

use crate::process::{PATIENCE, command, program};

/// A witness's directory, and the process that runs in it.
pub(crate) struct Witness {
    pub(crate) dir: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) key: WitnessKey,
    child: Option<Child>,
    _temporary: tempfile::TempDir,
}

impl Witness {
    /// A new witness called `name` that follows `logs`, running; `settings` are further lines of its file.
    pub(crate) fn start(name: &str, logs: &[String], settings: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("w");
        let path = dir.to_str().unwrap();
        let mut words = vec![
            "witness",
            "init",
            "--dir",
            path,
            "--name",
            name,
            "--listen",
            "127.0.0.1:0",
        ];
        for log in logs {
            words.extend(["--log", log]);
        }
        let made = command(&words);
        assert!(made.status.success(), "{made:?}");
        let file = dir.join("witness.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{settings}\n{text}")).unwrap();
        let key = std::fs::read_to_string(dir.join("witness.vkey")).unwrap();
        let mut witness = Self {
            dir,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            key: WitnessKey::parse(key.trim()).unwrap(),
            child: None,
            _temporary: temporary,
        };
        witness.run();
        witness
    }

    /// Starts the process in the directory there is, at the address it had.
    pub(crate) fn run(&mut self) {
        let mut child = self.spawn();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening http=");
        self.address = address
            .unwrap_or_else(|| panic!("it said {line:?}"))
            .parse()
            .unwrap();
        self.child = Some(child);
    }

    /// A process in the directory, whatever comes of it.
    pub(crate) fn spawn(&self) -> Child {
        let program = program();
        let mut command = Command::new(program);
        command
            .args(["witness", "run", "--log", "off", "--dir"])
            .arg(&self.dir);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Its operator is told of other keys of the one log it follows, and starts it again where it was.
    pub(crate) fn follow(&mut self, keys: &[&VerifierKey]) {
        if self.child.is_some() {
            self.kill();
        }
        let file = self.dir.join("witness.toml");
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let told: Vec<String> = fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(|line| match line.split(' ').next() {
                Some("listen") => format!("listen = \"{}\"", self.address),
                Some("keys") => format!("keys = [{}]", keys.join(", ")),
                _ => line.to_owned(),
            })
            .collect();
        fs::write(file, told.join("\n")).unwrap();
        self.run();
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Where ledgers find it.
    #[cfg(feature = "oracles")]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn ask(&self, body: &[u8]) -> Answer {
        http(self.address, "POST", "/add-checkpoint", body).unwrap()
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

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One request on a connection of its own; `None` when the server went away.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    // A server that refuses by length alone may close before all is written.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let split = answer.windows(4).position(|at| at == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..split].to_vec()).ok()?;
    Some(Answer {
        status: head.get(9..12)?.parse().ok()?,
        head,
        body: answer[split + 4..].to_vec(),
    })
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
