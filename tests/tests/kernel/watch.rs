//! What the tests share: a running kernel side whose stream is collected, and the programs that make events.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use agent::kernel::{Item, Kernel, Loss, Options, Totals};
use common::abi::process::{Credentials, Namespaces, ProcessKey};
use common::abi::{Body, Kind, Process, Tcp};

/// A process record that outlives the ring.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) key: ProcessKey,
    pub(crate) parent: ProcessKey,
    pub(crate) tid: u32,
    pub(crate) old_tid: u32,
    pub(crate) exit: Option<(u8, u8)>,
    pub(crate) exe: Vec<u8>,
    pub(crate) cwd: Vec<u8>,
    pub(crate) file: Vec<u8>,
    pub(crate) interpreter: Vec<u8>,
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) argv_bytes_total: u32,
    pub(crate) credentials: Credentials,
    pub(crate) namespaces: Namespaces,
    pub(crate) ns_tgid: u32,
    pub(crate) exe_inode: u64,
    pub(crate) flags: u32,
}

impl Told {
    pub(crate) fn new(kind: Kind, p: &Process<'_>) -> Self {
        Self {
            kind,
            key: p.key,
            parent: p.parent,
            tid: p.tid,
            old_tid: p.old_tid,
            exit: p.exit.map(|e| (e.code, e.signal)),
            exe: p.exe.to_vec(),
            cwd: p.cwd.to_vec(),
            file: p.file.to_vec(),
            interpreter: p.interpreter.to_vec(),
            argv: p.arguments().map(<[u8]>::to_vec).collect(),
            argv_bytes_total: p.argv_bytes_total,
            credentials: p.credentials,
            namespaces: p.namespaces,
            ns_tgid: p.ns_tgid,
            exe_inode: p.exe_inode,
            flags: p.flags,
        }
    }
}

/// The kernel side and everything it has told so far.
pub(crate) struct Watch {
    pub(crate) kernel: Kernel,
    pub(crate) processes: Vec<Told>,
    pub(crate) sockets: Vec<(Kind, Tcp)>,
    pub(crate) losses: Vec<Loss>,
}

impl Watch {
    pub(crate) fn start(options: &Options) -> Self {
        let kernel = Kernel::start(options)
            .unwrap_or_else(|e| panic!("{e} (run `cargo xtask test`, which builds the object first)"));
        Self {
            kernel,
            processes: Vec::new(),
            sockets: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Reads the stream while `done` says no.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            self.turn();
        }
    }

    /// One turn of reading.
    pub(crate) fn turn(&mut self) {
        let Self {
            kernel,
            processes,
            sockets,
            losses,
        } = self;
        kernel.reader.wait(Duration::from_millis(5)).unwrap();
        kernel
            .reader
            .drain(4096, &mut |item| keep(item, processes, sockets, losses));
    }

    /// Brings the books into balance: other processes of the machine go on all the while, so an event may be
    /// between its number and the ring at any single look.
    pub(crate) fn settle(&mut self) -> Totals {
        let mut totals = Totals::default();
        for _ in 0..200 {
            let Self {
                kernel,
                processes,
                sockets,
                losses,
            } = self;
            totals = kernel
                .reader
                .reconcile(&mut |item| keep(item, processes, sockets, losses))
                .unwrap();
            if totals.kinds.iter().all(|t| t.seen + t.lost == t.happened) {
                return totals;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the books do not balance: {totals:?}");
    }

    /// Runs a program to its end while reading the stream; yields what it printed.
    pub(crate) fn run(&mut self, command: &mut Command) -> (u32, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let mut out = child.stdout.take().unwrap();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut out, &mut text).unwrap();
            text
        });
        let mut status = None;
        self.until(|_| {
            status = status.or_else(|| child.try_wait().unwrap());
            status.is_some()
        });
        assert!(status.is_some_and(|s| s.success()), "{command:?}: {status:?}");
        (pid, reading.join().unwrap())
    }
}

fn keep(item: Item<'_>, processes: &mut Vec<Told>, sockets: &mut Vec<(Kind, Tcp)>, losses: &mut Vec<Loss>) {
    match item {
        Item::Record(record) => match record.body {
            Body::Process(p) => processes.push(Told::new(record.kind, &p)),
            Body::Tcp(t) => sockets.push((record.kind, t)),
            Body::SocketOwner(o) => panic!("an iterator's record in the stream: {o:?}"),
        },
        Item::Loss(loss) => losses.push(loss),
        Item::Malformed(error) => panic!("malformed: {error}"),
        Item::OutOfOrder(error) => panic!("{error}"),
    }
}

/// Compiles a program of `tests/programs` and yields where it is.
pub(crate) fn program(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(name)
        .with_extension("c");
    // Tests run in threads of one process: each compiles its own copy.
    let unique = format!("{name}-{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .args([&binary, &source])
        .status()
        .expect("a C compiler named cc");
    assert!(status.success(), "cc {}", source.display());
    binary
}

/// A program that runs until it is dropped.
pub(crate) struct Standing {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Standing {
    /// Starts it and waits for its first line of output, which is yielded too.
    pub(crate) fn start(command: &mut Command) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut standing = Self { child, stdin, stdout };
        let first = standing.line();
        (standing, first)
    }

    /// Its next line of output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the program ended: {line:?}");
        line.trim_end().to_owned()
    }

    /// Tells it to go on.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.stdin = None;
        let _ = self.child.wait();
    }
}
