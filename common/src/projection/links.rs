//! Links between records of one chain, such that any record is reached from the newest in a number of steps that
//! grows with the logarithm of the chain (Myers, "An applicative random-access stack", 1983): each record names
//! the one before and one further back, so files of them are only ever appended to.

use super::Slot;

/// How a record links back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// How many records of the chain lie before it.
    pub depth: u64,
    /// Where the record before lies; the record's own place for the first.
    pub previous: Slot,
    /// Where a record further back lies; the record's own place for the first.
    pub jump: Slot,
    /// Depth of that one.
    pub jump_depth: u64,
}

impl Links {
    /// The first record of a chain, at `slot`.
    #[must_use]
    pub fn first(slot: Slot) -> Self {
        Self {
            depth: 0,
            previous: slot,
            jump: slot,
            jump_depth: 0,
        }
    }

    /// The record after `before`, which lies at `at`; `beyond` is the one that `before` jumps to.
    #[must_use]
    pub fn after(before: &Self, at: Slot, beyond: &Self) -> Self {
        let spans_alike =
            before.depth.saturating_sub(before.jump_depth) == beyond.depth.saturating_sub(beyond.jump_depth);
        let (jump, jump_depth) = if spans_alike {
            (beyond.jump, beyond.jump_depth)
        } else {
            (at, before.depth)
        };
        Self {
            depth: before.depth.saturating_add(1),
            previous: at,
            jump,
            jump_depth,
        }
    }

    /// Whether the links of a record at `slot` lead backwards, so that following them ends.
    #[must_use]
    pub fn lead_back_from(&self, slot: Slot) -> bool {
        if self.depth == 0 {
            return *self == Self::first(slot);
        }
        self.previous < slot && self.jump <= self.previous && self.jump_depth < self.depth
    }
}

/// A record that links back.
pub trait Linked {
    /// Its links.
    fn links(&self) -> &Links;
}

/// Two neighbours of a chain: the last record that is not past what is sought, and the first one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours<R> {
    /// `None` where all are past it.
    pub before: Option<R>,
    /// `None` where the record that the search began with is not past it.
    pub past: Option<R>,
}

/// Searches a chain backwards from `newest`. `past` holds for all records from some one on, and for none before.
///
/// # Errors
/// Whatever `read` meets, and `broken` where links do not lead back.
pub fn search<R: Linked, E>(
    newest: R,
    past: impl Fn(&R) -> bool,
    read: impl Fn(Slot) -> Result<R, E>,
    broken: impl Fn(&R) -> E,
) -> Result<Neighbours<R>, E> {
    if !past(&newest) {
        return Ok(Neighbours {
            before: Some(newest),
            past: None,
        });
    }
    let mut at = newest;
    loop {
        let links = *at.links();
        if links.depth == 0 {
            return Ok(Neighbours {
                before: None,
                past: Some(at),
            });
        }
        let far = read(links.jump)?;
        if far.links().depth != links.jump_depth || far.links().depth >= links.depth {
            return Err(broken(&at));
        }
        if past(&far) {
            at = far;
            continue;
        }
        let previous = read(links.previous)?;
        if previous.links().depth.saturating_add(1) != links.depth {
            return Err(broken(&at));
        }
        if !past(&previous) {
            return Ok(Neighbours {
                before: Some(previous),
                past: Some(at),
            });
        }
        at = previous;
    }
}

impl<R: Linked> Linked for (Slot, R) {
    fn links(&self) -> &Links {
        self.1.links()
    }
}
