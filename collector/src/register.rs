//! A thread that tells the pipeline which hosts are registered, at start and whenever that changes.
//!
//! `enrol` and `host end` are other processes: what they leave under `hosts/` is noticed by the directory's own
//! time stamp, which every change of a file there moves. Owns nothing; ends with the pipeline.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use common::{ids::WallNanos, text::Text, watchman::Registered};

use crate::{
    layout::Layout,
    pipeline::{Input, PipelineHandle},
    registry::{self, Registration},
};

/// How often the directory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A time stamp younger than this may stand for a later change as well: the list is read again.
const SETTLED: Duration = Duration::from_secs(2);

/// Starts the thread.
///
/// # Errors
/// The system refuses another thread.
pub fn follow(layout: Layout, pipeline: PipelineHandle) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("register".into())
        .spawn(move || {
            let mut known: Option<(Option<SystemTime>, bool)> = None;
            while !pipeline.has_ended() {
                let changed = fs::metadata(layout.hosts()).and_then(|found| found.modified()).ok();
                let settled = changed
                    .and_then(|at| at.elapsed().ok())
                    .is_some_and(|age| age > SETTLED);
                if known != Some((changed, true)) {
                    match registry::list(&layout) {
                        Ok(list) => {
                            let list = list.iter().map(registered).collect();
                            if !pipeline.send_blocking(Input::Register(list)) {
                                return;
                            }
                            known = Some((changed, settled));
                        }
                        Err(error) => {
                            tracing::error!(%error, "the register of hosts cannot be read; what is known of it stays");
                            known = Some((changed, settled));
                        }
                    }
                }
                std::thread::sleep(LOOK_EVERY);
            }
        })
        .map(|_| ())
}

fn registered(registration: &Registration) -> Registered {
    Registered {
        host: registration.host,
        name: Text::from(registration.name.as_str()),
        enrolled_at: instant(&registration.enrolled_at),
        ended: registration
            .ended
            .as_ref()
            .map(|ended| (instant(&ended.at), Text::from(ended.reason.as_str()))),
    }
}

/// An instant of the operator's file; zero where somebody made it unreadable.
fn instant(text: &str) -> WallNanos {
    let parsed = text.parse::<jiff::Timestamp>().ok();
    WallNanos(
        parsed
            .and_then(|at| u64::try_from(at.as_nanosecond()).ok())
            .unwrap_or(0),
    )
}
