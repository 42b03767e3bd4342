//! Text from outside: bytes kept exactly, shown escaped.
//!
//! Process names, arguments and paths are whatever a program put there: newlines, terminal escapes, invalid
//! UTF-8. The bytes are what is hashed; the escaped form is what a person or JSON sees, and it reads back to
//! the same bytes.

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that are usually, but not certainly, UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// The escaped form read back to bytes; `None` where an escape is malformed.
    #[must_use]
    pub fn from_escaped(escaped: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(escaped.len());
        let mut chars = escaped.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            match chars.next()? {
                '\\' => bytes.push(b'\\'),
                'n' => bytes.push(b'\n'),
                't' => bytes.push(b'\t'),
                'r' => bytes.push(b'\r'),
                'x' => {
                    let (high, low) = (chars.next()?.to_digit(16)?, chars.next()?.to_digit(16)?);
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                }
                _ => return None,
            }
        }
        Some(Self(bytes))
    }
}

/// Characters that would move a terminal's cursor, reorder a line or hide in it.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    c if deceives(c) => {
                        c.encode_utf8(&mut [0; 4])
                            .bytes()
                            .try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                    }
                    c => fmt::Write::write_char(f, c)?,
                }
            }
            chunk
                .invalid()
                .iter()
                .try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(self)
        } else {
            s.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let escaped = String::deserialize(d)?;
            return Self::from_escaped(&escaped).ok_or_else(|| serde::de::Error::custom("malformed escape"));
        }
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }
        d.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn hostile_names_are_shown_harmless() {
        assert_eq!(
            Text::from(&b"a\nb\x1b[31m\xff\\"[..]).to_string(),
            "a\\nb\\x1b[31m\\xff\\\\"
        );
        assert_eq!(Text::from("x\u{202e}y").to_string(), "x\\xe2\\x80\\xaey");
        assert_eq!(Text::from("grüß").to_string(), "grüß");
    }

    #[test]
    fn malformed_escapes_are_refused() {
        assert_eq!(Text::from_escaped("\\q"), None);
        assert_eq!(Text::from_escaped("\\x1"), None);
    }

    proptest! {
        #[test]
        fn prop_escaping_reads_back_to_the_same_bytes(bytes: Vec<u8>) {
            let text = Text(bytes);
            prop_assert_eq!(Text::from_escaped(&text.to_string()), Some(text.clone()));
            prop_assert!(!text.to_string().chars().any(deceives));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text.clone());
            let packed = postcard::to_allocvec(&text).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Text>(&packed).unwrap(), text);
        }
    }
}
