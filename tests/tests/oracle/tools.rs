//! Running the third-party programs, each under a time limit: Tessera's fsck hangs on some damage.

use std::{
    env,
    io::{BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use common::ids::{Hash, hex};

/// Polls before a program is taken to hang; 30 seconds.
const POLLS_MAX: u32 = 600;
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn tool(name: &str) -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin");
    let path = env::var_os("HOSTLEDGER_TOOLS_BIN")
        .map_or_else(default, PathBuf::from)
        .join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask setup`",
        path.display()
    );
    path
}

/// Lets Tessera recompute the ledger in `dir` as it lies, which must have `size` leaves and `root`; the error
/// is what it said, or that it hung. Its exit status says nothing: it is 0 whatever it found.
pub(crate) fn tessera_fsck(dir: &Path, size: u64, root: &Hash) -> Result<(), String> {
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let mut said = tempfile::tempfile().map_err(|error| error.to_string())?;
    let mut child = Command::new(tool("fsck"))
        .arg(format!("--storage_url=file://{}/log/", dir.display()))
        .arg(format!("--public_key={}", dir.join("ledger.vkey").display()))
        .args(["--ui=false", "--N=2"])
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(|error| error.to_string())?)
        .spawn()
        .map_err(|error| error.to_string())?;
    wait(&mut child)?;
    let mut words = String::new();
    said.rewind()
        .and_then(|()| said.read_to_string(&mut words))
        .map_err(|error| error.to_string())?;
    let accepted = words.contains(&format!("Successfully fsck'd log with size {size} and root "))
        && words.contains(&format!("({root})"));
    if accepted { Ok(()) } else { Err(words) }
}

fn wait(child: &mut Child) -> Result<(), String> {
    for _ in 0..POLLS_MAX {
        if child.try_wait().map_err(|error| error.to_string())?.is_some() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    child
        .kill()
        .and_then(|()| child.wait())
        .map_err(|error| error.to_string())?;
    Err("fsck hung".to_owned())
}

/// The Go program of `tests/oracle`, one request a line.
pub(crate) struct Oracle {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(tool("hostledger-oracle"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (requests, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self {
            child,
            requests,
            answers,
        }
    }

    fn answer(&mut self, request: &str) -> Result<String, String> {
        writeln!(self.requests.as_mut().unwrap(), "{request}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            ("ok", data) => Ok(data.to_owned()),
            (_, why) => Err(why.to_owned()),
        }
    }

    /// What the oracle answers to a request that it must not refuse.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.answer(request)
            .unwrap_or_else(|why| panic!("{}: {why}", request.get(..200).unwrap_or(request)))
    }

    /// Whether the oracle refuses.
    pub(crate) fn refuses(&mut self, request: &str) -> bool {
        self.answer(request).is_err()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}

/// Hashes as the oracle reads them.
pub(crate) fn list(hashes: &[Hash]) -> String {
    if hashes.is_empty() {
        return "-".to_owned();
    }
    hashes
        .iter()
        .map(|hash| hex(&hash.0))
        .collect::<Vec<_>>()
        .join(",")
}
