//! Which state snapshots of a host are no longer needed.
//!
//! Snapshots stand at amounts of work ([`super::batch::work`]) along the chain. The older an instant, the further back
//! the nearest one may be: by at most one eighth of the work that lies after it, or of that share which a caller on
//! a small disk asks for. So their number grows with the logarithm of the chain, and so does the fold of a question
//! in relation to how long ago it asks about. Pure; owns no file.

/// A fold may go over one part in so many of what has happened since.
pub const SHARE: u64 = 8;

/// The positions in `taken` (ascending) that may go, `head` being the chain's end: a gap that opens between two that
/// stay is at most `1/share` of what lies after it. The newest stays. Those that `needed` names stay.
#[must_use]
pub fn superfluous(
    taken: &[u64],
    head: u64,
    share: u64,
    needed: impl Fn(usize) -> bool,
) -> alloc::vec::Vec<usize> {
    let mut gone = alloc::vec::Vec::new();
    let mut before = 0_u64;
    for (at, pair) in taken.windows(2).enumerate() {
        let [position, after] = *pair else { continue };
        let allowed = head.saturating_sub(after) / share.max(1);
        if after.saturating_sub(before) <= allowed && !needed(at) {
            gone.push(at);
        } else {
            before = position;
        }
    }
    gone
}
