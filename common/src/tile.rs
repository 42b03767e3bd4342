//! C2SP tlog-tiles: which file holds which hashes and entries, and the bytes of an entry bundle.
//!
//! Owns names and coordinates; refuses to read or write them. A tile is 256 hashes of one level, a bundle
//! the 256 entries below one tile of level 0. A partial one (`.p/W`) holds only the first `W`.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use crate::{checkpoint::parse_decimal, limits::ENTRY_BYTES_MAX};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Levels of tree that one level of tiles spans: log2 of [`TILE_WIDTH`].
pub const TILE_HEIGHT: u8 = 8;
/// Highest tile level: 256^8 leaves exceed what a u64 counts.
pub const TILE_LEVEL_MAX: u8 = 7;

/// What a resource of a tiled ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes of this tile level: leaf hashes at 0, above that the roots of full tiles one level below.
    Hashes(u8),
    /// Entries, each after its length.
    Entries,
}

/// Name of one immutable resource: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// Hashes or entries.
    pub kind: Kind,
    /// Index within the level.
    pub index: u64,
    /// Hashes or entries held, 1 to [`TILE_WIDTH`].
    pub width: u16,
}

impl TilePath {
    /// The tile or bundle that a tree of `size` leaves has at `index`: full, partial, or none.
    #[must_use]
    pub fn in_tree(kind: Kind, index: u64, size: u64) -> Option<Self> {
        let level = match kind {
            Kind::Hashes(level) => level,
            Kind::Entries => 0,
        };
        let count = size
            .checked_shr(u32::from(level) * u32::from(TILE_HEIGHT))
            .unwrap_or(0);
        let begin = index.checked_mul(u64::from(TILE_WIDTH))?;
        let width = u16::try_from(count.checked_sub(begin)?.min(u64::from(TILE_WIDTH))).ok()?;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// Whether every place is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The same resource with every place taken.
    #[must_use]
    pub fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// Reads a name as written by `Display`; anything else is `None`.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Hashes(
                parse_decimal(level)
                    .and_then(|l| u8::try_from(l).ok())
                    .filter(|l| *l <= TILE_LEVEL_MAX)?,
            ),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = parse_decimal(width).and_then(|w| u16::try_from(w).ok())?;
                (index, Some(width).filter(|w| (1..TILE_WIDTH).contains(w))?)
            }
            None => (rest, TILE_WIDTH),
        };
        Some(Self {
            kind,
            index: parse_index(index)?,
            width,
        })
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Entries => f.write_str("tile/entries/")?,
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        f.write_str(&index_path(self.index))?;
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

/// `index` as path elements of three digits, all but the last with an `x` before them, so that no directory
/// grows past a thousand names and none shares a name with a file.
#[must_use]
pub fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Reads [`index_path`] back; `None` for any other spelling of the number.
#[must_use]
pub fn parse_index(path: &str) -> Option<u64> {
    let mut index = 0_u64;
    let mut elements = path.split('/').peekable();
    while let Some(element) = elements.next() {
        let digits = if elements.peek().is_some() {
            element.strip_prefix('x')?
        } else {
            element
        };
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    (index_path(index) == path).then_some(index)
}

/// Why bytes are not an entry bundle. The disk, or whoever wrote it, is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry bundle ends inside entry {entry} at offset {offset}")]
pub struct BundleError {
    /// Entry within the bundle, from 0.
    pub entry: usize,
    /// Offset of its length, bytes.
    pub offset: usize,
}

/// An entry that does not fit its 16-bit length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry of {0} bytes exceeds {ENTRY_BYTES_MAX}")]
pub struct EntryTooLong(pub usize);

/// Appends one entry to a bundle: big-endian length, then bytes.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle in order, each with the offset of its length.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Result<(usize, &[u8]), BundleError>> {
    let (mut at, mut entry, mut broken) = (0, 0, false);
    core::iter::from_fn(move || {
        if broken || at == bundle.len() {
            return None;
        }
        let read = bundle.get(at..).and_then(|rest| {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            rest.get(..usize::from(u16::from_be_bytes(*length)))
        });
        let item = match read {
            Some(bytes) => Ok((at, bytes)),
            None => Err(BundleError { entry, offset: at }),
        };
        broken = item.is_err();
        at += 2 + read.map_or(0, <[u8]>::len);
        entry += 1;
        Some(item)
    })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        assert_eq!(index_path(1_234_067), "x001/x234/067");
        assert_eq!(index_path(0), "000");
        assert_eq!(index_path(1000), "x001/000");
        let name = |kind, index, size| TilePath::in_tree(kind, index, size).map(|p| p.to_string());
        assert_eq!(
            name(Kind::Hashes(0), 273, 70_000).as_deref(),
            Some("tile/0/273.p/112")
        );
        assert_eq!(name(Kind::Hashes(0), 272, 70_000).as_deref(), Some("tile/0/272"));
        assert_eq!(
            name(Kind::Hashes(1), 1, 70_000).as_deref(),
            Some("tile/1/001.p/17")
        );
        assert_eq!(
            name(Kind::Hashes(2), 0, 70_000).as_deref(),
            Some("tile/2/000.p/1")
        );
        assert_eq!(name(Kind::Hashes(3), 0, 70_000), None);
        assert_eq!(name(Kind::Hashes(1), 0, 256).as_deref(), Some("tile/1/000.p/1"));
        assert_eq!(name(Kind::Entries, 1, 256), None);
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/8/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/entries/x01/000",
            "tile/-1/000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert_eq!(TilePath::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cut_bundle_names_the_entry() {
        let mut bundle = Vec::new();
        push_entry(&mut bundle, b"one").unwrap();
        push_entry(&mut bundle, b"").unwrap();
        push_entry(&mut bundle, b"three").unwrap();
        bundle.pop();
        let read: Vec<_> = entries(&bundle).collect();
        let cut = BundleError { entry: 2, offset: 7 };
        assert_eq!(read, [Ok((0, &b"one"[..])), Ok((5, &b""[..])), Err(cut)]);
        assert_eq!(push_entry(&mut bundle, &[0; 65_536]), Err(EntryTooLong(65_536)));
    }

    proptest! {
        #[test]
        fn prop_names_read_back(level in 0u8..=TILE_LEVEL_MAX, index: u64, width in 1u16..=256, entries: bool) {
            let kind = if entries { Kind::Entries } else { Kind::Hashes(level) };
            let path = TilePath { kind, index, width };
            prop_assert_eq!(TilePath::parse(&path.to_string()), Some(path));
        }

        #[test]
        fn prop_bundles_read_back(items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut bundle = Vec::new();
            items.iter().for_each(|item| push_entry(&mut bundle, item).unwrap());
            let read: Vec<Vec<u8>> = super::entries(&bundle).map(|e| e.unwrap().1.to_vec()).collect();
            prop_assert_eq!(read, items);
        }

        #[test]
        fn prop_garbage_never_panics(bytes: Vec<u8>, path in "tile/[0-9ex/.p]{0,30}") {
            let _ = super::entries(&bytes).count();
            if let Some(read) = TilePath::parse(&path) {
                prop_assert_eq!(read.to_string(), path);
            }
        }
    }
}
