//! Names of things: newtypes so that a host is never passed for a boot, nor a sequence for an index.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Domain separator of [`HostId::of_genesis_key`].
const HOST_ID_PREFIX: &[u8] = b"hostledger/host-id/v1\n";

/// Declares a fixed-size byte identifier shown as lower-case hex.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The first 6 bytes in hex: enough for a person, never for a comparison.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                write_hex(f, &self.0)?;
                f.write_str(")")
            }
        }

        impl core::str::FromStr for $name {
            type Err = BadHex;
            fn from_str(text: &str) -> Result<Self, BadHex> {
                let mut out = [0; $len];
                parse_hex(text, &mut out)?;
                Ok(Self(out))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = String::deserialize(d)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

/// Declares a counter whose unit the type names.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value `by` further on; `None` where the counter would wrap.
            #[must_use]
            pub fn checked_add(self, by: u64) -> Option<Self> {
                self.0.checked_add(by).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

byte_id!(
    /// A SHA-256 digest.
    Hash, 32
);
byte_id!(
    /// A host's identity: the hash of the public key of its first key epoch, so that a chain proves whose it
    /// is without any registry.
    HostId, 32
);
byte_id!(
    /// The kernel's `/proc/sys/kernel/random/boot_id`.
    BootId, 16
);
byte_id!(
    /// An Ed25519 public key (RFC 8032).
    PublicKey, 32
);
byte_id!(
    /// A value the collector draws at random and agents echo in the headers they sign: it proves that a batch
    /// was sealed after the nonce was given out.
    Nonce, 32
);
counter!(
    /// Position of a batch in its host's chain; gapless from 0.
    Sequence
);
counter!(
    /// Position of an event in its host's chain; gapless from 0 across batches.
    EventIndex
);
counter!(
    /// How often a host's signing key has been replaced; 0 for its first.
    KeyEpoch
);
counter!(
    /// Position of a leaf in the ledger; gapless from 0.
    LeafIndex
);
counter!(
    /// Position of a statement in the collector's own chain; gapless from 0.
    StatementNumber
);
counter!(
    /// Nanoseconds of `CLOCK_BOOTTIME`: since boot, suspend included.
    BootNanos
);
counter!(
    /// Nanoseconds since 1970-01-01T00:00:00Z as the host's wall clock had it.
    WallNanos
);

impl Hash {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl HostId {
    /// Stands for the collector itself where chains are looked up by host: the chain of its statements. No
    /// host has it, for the ids of hosts are SHA-256 digests.
    pub const COLLECTOR: Self = Self([0; 32]);

    /// The identity of the host whose key of epoch 0 is `key`.
    #[must_use]
    pub fn of_genesis_key(key: &PublicKey) -> Self {
        let mut hash = Sha256::new();
        hash.update(HOST_ID_PREFIX);
        hash.update(key.0);
        Self(hash.finalize().into())
    }
}

/// A text that is not the hex form of the identifier asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hex digits, found {found:?}")]
pub struct BadHex {
    expected: usize,
    found: String,
}

/// Lower-case hex of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('?'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('?'));
            text
        })
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str, out: &mut [u8]) -> Result<(), BadHex> {
    let bad = || BadHex {
        expected: out.len() * 2,
        found: text.chars().take(80).collect(),
    };
    if text.len() != out.len() * 2 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn hex_round_trips_and_rejects_the_rest() {
        let id = Hash::of(b"x");
        assert_eq!(id.to_string().parse::<Hash>(), Ok(id));
        assert!("zz".parse::<Hash>().is_err());
        assert!("é".repeat(32).parse::<Hash>().is_err());
    }

    #[test]
    fn counters_do_not_wrap() {
        assert_eq!(Sequence(u64::MAX).checked_add(1), None);
    }
}
