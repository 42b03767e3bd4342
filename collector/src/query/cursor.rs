//! Where a page ended: host, the instant that was answered for it, and the last entity given.

use common::{
    fold::EntityId,
    ids::{HostId, WallNanos, hex},
};

use super::QueryError;

/// The end of a page. Binds the instant, so that pages of a host's latest state are of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) host: HostId,
    pub(super) at: WallNanos,
    /// `None`: the next page begins with this host.
    pub(super) after: Option<EntityId>,
}

impl Cursor {
    pub(super) fn encode(&self) -> String {
        let after = self.after.as_ref();
        let after = after.map_or_else(String::new, |id| format!("{}.{}", id.kind, hex(&id.key)));
        format!("{}.{}.{after}", self.host, self.at)
    }

    pub(super) fn decode(text: &str) -> Result<Self, QueryError> {
        Self::read(text).ok_or_else(|| QueryError::BadRequest {
            cause: "`cursor` is none that a page gave".into(),
            remedy: "give `next` of the page before, unchanged".into(),
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (host, rest) = text.split_once('.')?;
        let (at, after) = rest.split_once('.')?;
        let after = match after.split_once('.') {
            None if after.is_empty() => None,
            None => return None,
            Some((kind, key)) => Some(EntityId {
                kind: kind.parse().ok()?,
                key: unhex(key)?,
            }),
        };
        Some(Self {
            host: host.parse().ok()?,
            at: WallNanos(at.parse().ok()?),
            after,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * common::limits::KEY_BYTES_MAX {
        return None;
    }
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_garbage_is_refused() {
        for after in [
            None,
            Some(EntityId {
                kind: 3,
                key: vec![0, 255, 7],
            }),
        ] {
            let cursor = Cursor {
                host: HostId([9; 32]),
                at: WallNanos(u64::MAX),
                after,
            };
            assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }
        for bad in ["", ".", "..", "zz.1.", "é.1.", "..3.zz"] {
            assert!(Cursor::decode(bad).is_err(), "{bad}");
        }
    }
}
