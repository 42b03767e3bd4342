//! A real process with a real ledger directory whose system calls fail: `strace` refuses or kills at each call
//! by which the ledger writes, and a file system of one megabyte fills up. Nothing acknowledged may be lost, no
//! size may have two roots, and the check finds nothing.
#![cfg(feature = "privileged")]

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        path::Path,
        process::{Command, Stdio},
    };

    use common::ids::LeafIndex;
    use ledger::{Local, fsck};

    const WORKER: &str = env!("CARGO_BIN_EXE_ledger-worker");
    const LEAVES: u64 = 400;

    /// What the workers of one directory have told.
    #[derive(Default)]
    struct Told {
        acknowledged: u64,
        roots: BTreeMap<u64, String>,
    }

    impl Told {
        /// Reads a worker's words; a line cut by its death tells nothing.
        fn hear(&mut self, words: &str, context: &str) {
            for line in words
                .split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'))
            {
                let mut parts = line.split(' ');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some("recovered"), Some(leaves), None) => {
                        let leaves: u64 = leaves.parse().unwrap();
                        assert!(
                            leaves >= self.acknowledged,
                            "{context}: {leaves} of {}",
                            self.acknowledged
                        );
                        // A worker may have died between making a group durable and saying so. Opening publishes
                        // it, so from here on it must be found again as well.
                        self.acknowledged = leaves;
                    }
                    (Some("ack"), Some(leaves), None) => self.acknowledged = leaves.parse().unwrap(),
                    (Some("head"), Some(size), Some(root)) => {
                        let size = size.parse().unwrap();
                        let known = self.roots.entry(size).or_insert_with(|| root.to_owned());
                        assert_eq!(known, root, "{context}: two roots for {size} leaves");
                    }
                    (Some("fatal"), ..) => {}
                    _ => panic!("{context}: the worker said {line:?}"),
                }
            }
        }
    }

    fn run(command: &mut Command, told: &mut Told, context: &str) -> Option<i32> {
        let output = command.stderr(Stdio::null()).output().unwrap();
        told.hear(&String::from_utf8(output.stdout).unwrap(), context);
        output.status.code()
    }

    /// The worker to the end without faults, then every byte of what it left.
    fn settle(dir: &Path, told: &mut Told, context: &str) {
        let code = run(
            Command::new(WORKER).arg(dir).arg(LEAVES.to_string()),
            told,
            context,
        );
        assert_eq!(code, Some(0), "{context}: the worker does not recover");
        let storage = Local::open_reader(dir).unwrap();
        let report = fsck::run(
            &storage,
            &fsck::Options::default(),
            &|LeafIndex(leaf), header, body| {
                let fits = header == tests::worker_header(leaf) && body == [0x5a; 2048];
                if fits {
                    Ok(())
                } else {
                    Err("not what was appended".to_owned())
                }
            },
        );
        assert!(report.is_sound(), "{context}: {:?}", report.faults);
        assert_eq!(
            (report.counts.leaves, told.acknowledged),
            (LEAVES, LEAVES),
            "{context}"
        );
    }

    #[test]
    fn each_system_call_fails_or_is_the_last() {
        let calls = [
            "writev",
            "fdatasync",
            "linkat",
            "fsync",
            "rename",
            "mkdir",
            "unlink",
        ];
        let mut ended = BTreeMap::<String, u32>::new();
        for call in calls {
            for fault in ["error=EIO", "error=ENOSPC", "signal=KILL"] {
                for when in [1, 2, 3, 5, 9, 17, 33] {
                    let context = format!("{call} {fault} at {when}");
                    let dir = tempfile::tempdir().unwrap();
                    let mut told = Told::default();
                    let mut traced = Command::new("strace");
                    traced
                        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                        .arg(format!("trace={call}"))
                        .arg("-e")
                        .arg(format!("inject={call}:{fault}:when={when}"))
                        .arg(WORKER)
                        .arg(dir.path().join("ledger"))
                        .arg(LEAVES.to_string());
                    let code = run(&mut traced, &mut told, &context);
                    let how = match code {
                        Some(0) => "went on",
                        Some(3) => "full",
                        Some(4) => "poisoned",
                        Some(_) => "could not open",
                        None => "killed",
                    };
                    *ended.entry(format!("{fault}: {how}")).or_default() += 1;
                    settle(&dir.path().join("ledger"), &mut told, &context);
                }
            }
        }
        println!("{ended:?}");
        for expected in ["error=EIO: poisoned", "error=ENOSPC: full", "signal=KILL: killed"] {
            assert!(
                ended.contains_key(expected),
                "no run ended with {expected}: {ended:?}"
            );
        }
    }

    /// A mounted tmpfs, unmounted when dropped.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount(size: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = format!("size={size}");
            let status = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(dir.path())
                .status();
            assert!(status.unwrap().success(), "mounting a tmpfs needs root");
            Self(dir)
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0.path()).status();
        }
    }

    #[test]
    fn a_full_disk_is_stated_and_work_resumes_with_space() {
        let disk = SmallDisk::mount("1536k");
        let (dir, ballast) = (disk.0.path().join("ledger"), disk.0.path().join("ballast"));
        let mut told = Told::default();
        // Room for ever more, so that the disk fills at another step of the work each time.
        let mut full = 0;
        for keep_free in (60..1200).step_by(60) {
            let _ = fs::remove_file(&ballast);
            let used = Command::new("du").arg("-sk").arg(disk.0.path()).output().unwrap();
            let used = String::from_utf8(used.stdout).unwrap();
            let used: usize = used.split_whitespace().next().unwrap().parse().unwrap();
            let _ = fs::write(
                &ballast,
                vec![1; 1024 * 1536_usize.saturating_sub(used + keep_free % 240)],
            );
            let context = format!("{keep_free} KiB");
            let code = run(
                Command::new(WORKER).arg(&dir).arg(LEAVES.to_string()),
                &mut told,
                &context,
            );
            assert!(matches!(code, Some(0 | 1 | 3)), "{context}: ended with {code:?}");
            full += u32::from(code == Some(3));
        }
        assert!(full > 3, "the disk was full only {full} times");
        fs::remove_file(&ballast).unwrap();
        settle(&dir, &mut told, "space again");
        println!("full {full} times, then whole");
    }
}
