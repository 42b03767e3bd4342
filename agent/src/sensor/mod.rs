//! Sensors: from what the kernel and `/proc` tell to whole events.
//!
//! One file per source and one per entity family. Everything a sensor says ends as an event offered to the
//! journal; what it could not see is said as well. [`start`] tries what this machine allows, [`Sensors::run`]
//! is the sensor thread.

pub mod baseline;
pub mod host;
mod live;
pub mod process;
pub mod procfs;
pub mod socket;
pub mod status;

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use common::{
    event::{Fact, SensorId, SensorStatus, Why},
    ids::{BootId, BootNanos, HostId},
};

use self::{live::Live, procfs::Scanner, status::Families};
use crate::{
    clock::{Clock, boot_now},
    config::{Config, SensorChoice},
    kernel::{self, Kernel, Refused},
    pipeline::{Pipeline, Recorder},
};

/// Why a field could not be read, from the error of reading it.
#[must_use]
pub fn why(error: &io::Error) -> Why {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => Why::NotPermitted,
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => Why::Gone,
        _ => Why::Fault,
    }
}

/// The sensors that this machine allows, attached.
#[derive(Debug)]
pub struct Sensors {
    kernel: Option<(kernel::Hooks, kernel::Reader)>,
    families: Families,
    statuses: Vec<(SensorId, SensorStatus)>,
    boot: BootId,
    /// Since when everything is watched.
    pub since: BootNanos,
}

/// Loads what can be loaded. Never fails: without the kernel's sensors `/proc` is left, and the status says so.
#[must_use]
pub fn start(config: &Config, boot: BootId) -> Sensors {
    let options = kernel::Options {
        argv_bytes_max: u32::try_from(config.argv_bytes_max).unwrap_or(u32::MAX),
        ..kernel::Options::default()
    };
    let kernel = match config.sensors {
        SensorChoice::Procfs => Err("sensors.choice is procfs".to_owned()),
        SensorChoice::Auto => Kernel::start(&options).map_err(|refused: Refused| refused.to_string()),
    };
    let (kernel, families, statuses) = match kernel {
        Ok(kernel) => {
            let families = Families::of(&kernel.reports);
            let statuses = status::of_kernel(&kernel.reports, families);
            let used = families.processes || families.sockets;
            (used.then_some((kernel.hooks, kernel.reader)), families, statuses)
        }
        Err(reason) => {
            tracing::warn!(%reason, "no kernel sensors: /proc is scanned, short processes are missed");
            (None, Families::default(), status::of_procfs(&reason))
        }
    };
    Sensors {
        kernel,
        families,
        statuses,
        boot,
        since: boot_now(),
    }
}

impl Sensors {
    /// What each sensor can do here.
    #[must_use]
    pub fn statuses(&self) -> &[(SensorId, SensorStatus)] {
        &self.statuses
    }

    /// Watches until `stop` is set, then takes what is left and detaches.
    pub fn run(self, pipeline: &Pipeline, host: HostId, config: &Config, stop: &AtomicBool) {
        let clock = Clock::sample();
        let mut recorder = Recorder::new(pipeline, clock);
        for (sensor, status) in &self.statuses {
            recorder.set_sensor(*sensor, status.clone());
        }
        recorder.record(self.since, host::host(host));
        recorder.record(self.since, host::boot(self.boot, &clock));
        let scanned = Families {
            processes: !self.families.processes,
            sockets: !self.families.sockets,
        };
        let mut scanner = Scanner::new(self.boot, config.argv_bytes_max);
        let mut watch = Watch {
            recorder,
            scanner: (scanned.processes || scanned.sockets).then_some(&mut scanner),
            scanned,
            scan_every: config.scan_every,
            stop,
        };
        match self.kernel {
            Some((hooks, reader)) => {
                Live::new(self.boot, self.families, hooks, reader).run(&mut watch, self.since, config)
            }
            None => watch.scan_until_stopped(self.boot, self.since),
        }
        for (sensor, mut status) in self.statuses {
            status.state = common::event::sensor::SensorState::Stopped;
            watch.recorder.set_sensor(sensor, status);
        }
        watch.recorder.flush(boot_now(), None);
        let mut state = pipeline.lock();
        state.sensors_ended = true;
        drop(state);
        pipeline.wake();
    }
}

/// What both ways of watching share.
struct Watch<'a, 'p> {
    recorder: Recorder<'p>,
    /// For the families that the kernel's sensors do not cover.
    scanner: Option<&'a mut Scanner>,
    scanned: Families,
    scan_every: Duration,
    stop: &'a AtomicBool,
}

impl Watch<'_, '_> {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One scan of `/proc` for what is scanned at all.
    fn scan(&mut self) {
        let Some(scanner) = &mut self.scanner else {
            return;
        };
        let recorder = &mut self.recorder;
        let now = boot_now();
        let shortfall = scanner.scan(now, self.scanned, &mut |at, fact| {
            recorder.record(at, fact);
        });
        if let Some((sensor, status)) = status::of_shortfall(&shortfall) {
            recorder.set_sensor(sensor, status);
        }
    }

    fn scan_until_stopped(&mut self, boot: BootId, since: BootNanos) {
        let kinds = baseline::KINDS.to_vec();
        let mark = baseline::Mark::new(boot, since, common::event::Source::Procfs, kinds);
        self.recorder.record(since, mark.begun());
        let mut written = 0;
        let now = boot_now();
        if let Some(scanner) = &mut self.scanner {
            let recorder = &mut self.recorder;
            scanner.scan(now, self.scanned, &mut |at, fact: Fact| {
                recorder.record(at, fact);
                written += 1;
            });
        }
        self.recorder.record(boot_now(), mark.complete(written));
        self.recorder.flush(boot_now(), Some(Vec::new()));
        while !self.stopping() {
            let pause = self.scan_every.min(Duration::from_millis(100));
            let until = boot_now().0.saturating_add(nanos(self.scan_every));
            while boot_now().0 < until && !self.stopping() {
                std::thread::sleep(pause);
            }
            self.recorder.clock = Clock::sample();
            // What began after this instant may be seen by the next scan only.
            let before = boot_now();
            self.scan();
            self.recorder.flush(before, None);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
