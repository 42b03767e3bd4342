//! The address of an entity: its kind and key bytes, and the text people type for it.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use crate::{
    codec::Reader,
    event::{BaselineKey, Key, Kind, LossKey, ProcessKey, SensorId, SocketKey},
    ids::{BootId, BootNanos, HostId, hex},
};

/// Names an entity within its host. Ordered by kind, then key bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId {
    /// The kind's number, known or not.
    pub kind: u16,
    /// The key's bytes.
    pub key: Vec<u8>,
}

/// A text that addresses no entity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no entity: expected {expected}")]
pub struct BadEntity {
    text: String,
    expected: &'static str,
}

impl EntityId {
    /// The address of a typed key.
    #[must_use]
    pub fn of(kind: Kind, key: &impl Key) -> Self {
        let mut bytes = Vec::new();
        key.put(&mut bytes);
        Self {
            kind: kind.number(),
            key: bytes,
        }
    }

    /// Sorts before every entity of the kind.
    #[must_use]
    pub fn first_of(kind: Kind) -> Self {
        Self {
            kind: kind.number(),
            key: Vec::new(),
        }
    }

    /// The kind, where this build knows it.
    #[must_use]
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// The key as its type.
    #[must_use]
    pub fn typed<K: Key>(&self) -> Option<K> {
        let mut reader = Reader::new(&self.key);
        K::read(&mut reader).ok().filter(|_| reader.rest().is_empty())
    }

    /// The text after the colon; `None` where the key does not read.
    fn key_text(&self, kind: Kind) -> Option<String> {
        use alloc::format;
        Some(match kind {
            Kind::Host => self.typed::<HostId>()?.to_string(),
            Kind::Boot => self.typed::<BootId>()?.to_string(),
            Kind::Process => {
                let key = self.typed::<ProcessKey>()?;
                format!("{}/{}/{}", key.boot, key.tgid, key.started)
            }
            Kind::Listener | Kind::Connection => {
                let key = self.typed::<SocketKey>()?;
                format!("{}/{}", key.boot, key.cookie)
            }
            Kind::Loss => {
                let key = self.typed::<LossKey>()?;
                format!("{}/{}/{}/{}", key.boot, key.sensor.0, key.cpu, key.first)
            }
            Kind::Sensor => self.typed::<SensorId>()?.0.to_string(),
            Kind::Baseline => {
                let key = self.typed::<BaselineKey>()?;
                format!("{}/{}", key.boot, key.began)
            }
        })
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = self
            .known_kind()
            .and_then(|kind| Some((kind.name(), self.key_text(kind)?)));
        match typed {
            Some((kind, key)) => write!(f, "{kind}:{key}"),
            None => write!(f, "kind-{}:{}", self.kind, hex(&self.key)),
        }
    }
}

impl FromStr for EntityId {
    type Err = BadEntity;

    fn from_str(text: &str) -> Result<Self, BadEntity> {
        let (kind, key) = text
            .split_once(':')
            .and_then(|(kind, key)| Some((Kind::ALL.into_iter().find(|k| k.name() == kind)?, key)))
            .ok_or_else(|| BadEntity {
                text: text.chars().take(160).collect(),
                expected: "a kind and a key, as in `process:<boot>/<pid>/<start>`",
            })?;
        let (id, expected) = parse_key(kind, key);
        id.ok_or_else(|| BadEntity {
            text: text.chars().take(160).collect(),
            expected,
        })
    }
}

/// The entity a key text names, and how such a text should look.
fn parse_key(kind: Kind, key: &str) -> (Option<EntityId>, &'static str) {
    let mut parts = key.split('/');
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let (id, expected) = match kind {
        Kind::Host => (
            part().and_then(|text| Some(EntityId::of(kind, &text.parse::<HostId>().ok()?))),
            "`host:<64 hex digits>`",
        ),
        Kind::Boot => (
            part().and_then(|text| Some(EntityId::of(kind, &text.parse::<BootId>().ok()?))),
            "`boot:<32 hex digits>`",
        ),
        Kind::Process => (
            (|| {
                Some(EntityId::of(
                    kind,
                    &ProcessKey {
                        boot: part()?.parse().ok()?,
                        tgid: number(part()?)?,
                        started: BootNanos(number(part()?)?),
                    },
                ))
            })(),
            "`process:<boot>/<pid>/<start in ns since boot>`",
        ),
        Kind::Listener | Kind::Connection => (
            (|| {
                Some(EntityId::of(
                    kind,
                    &SocketKey {
                        boot: part()?.parse().ok()?,
                        cookie: number(part()?)?,
                    },
                ))
            })(),
            "`listener:<boot>/<cookie>` or `connection:<boot>/<cookie>`",
        ),
        Kind::Loss => (
            (|| {
                Some(EntityId::of(
                    kind,
                    &LossKey {
                        boot: part()?.parse().ok()?,
                        sensor: SensorId(number(part()?)?),
                        cpu: number(part()?)?,
                        first: number(part()?)?,
                    },
                ))
            })(),
            "`loss:<boot>/<sensor>/<cpu>/<first missing>`",
        ),
        Kind::Sensor => (
            part().and_then(|text| Some(EntityId::of(kind, &SensorId(number(text)?)))),
            "`sensor:<number>`",
        ),
        Kind::Baseline => (
            (|| {
                Some(EntityId::of(
                    kind,
                    &BaselineKey {
                        boot: part()?.parse().ok()?,
                        began: BootNanos(number(part()?)?),
                    },
                ))
            })(),
            "`baseline:<boot>/<began in ns since boot>`",
        ),
    };
    (id.filter(|_| parts.next().is_none()), expected)
}

/// A decimal number without sign or leading zeroes.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
