//! Distinguished Encoding Rules (ITU-T X.690), as far as time stamps need them.
//!
//! Owns tags and lengths: definite, minimal, bounds-checked, nothing copied. What the values mean is the caller's.
//! Refuses tag numbers above 30 and indefinite lengths, which no time stamp has.

use alloc::vec::Vec;

/// Universal tags, and the constructed context-specific ones by [`context`].
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[n]`, constructed.
    pub(crate) const fn context(n: u8) -> u8 {
        0xa0 | n
    }

    /// `[n]`, primitive.
    pub(crate) const fn context_primitive(n: u8) -> u8 {
        0x80 | n
    }
}

/// Bytes that are not what the field named must be. Whoever encoded them is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing, cut short or not in the distinguished encoding")]
pub struct BadDer(pub &'static str);

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    /// Tag and length as well.
    pub(crate) whole: &'a [u8],
}

/// Elements one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self, what: &'static str) -> Result<Element<'a>, BadDer> {
        let (element, rest) = split(self.0).ok_or(BadDer(what))?;
        self.0 = rest;
        Ok(element)
    }

    /// The value of the next element, which must have this tag.
    pub(crate) fn value(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], BadDer> {
        let element = self.any(what)?;
        if element.tag == tag {
            Ok(element.value)
        } else {
            Err(BadDer(what))
        }
    }

    /// What is inside the next element, which must have this tag.
    pub(crate) fn inside(&mut self, tag: u8, what: &'static str) -> Result<Self, BadDer> {
        self.value(tag, what).map(Self)
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<Element<'a>>, BadDer> {
        if self.0.first() == Some(&tag) {
            self.any(what).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Nothing may follow.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), BadDer> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(BadDer(what))
        }
    }
}

fn split(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .try_fold(0_u32, |sum, byte| Some(sum.checked_mul(256)? + u32::from(*byte)))?;
            let minimal = digits.first() != Some(&0) && length > 0x7f;
            (usize::try_from(length).ok().filter(|_| minimal)?, rest)
        }
        _ => return None,
    };
    let (value, after) = rest.split_at_checked(length)?;
    let whole = bytes.get(..bytes.len() - after.len())?;
    Some((Element { tag, value, whole }, after))
}

/// The value of a non-negative INTEGER that fits 64 bits.
pub(crate) fn unsigned(value: &[u8]) -> Option<u64> {
    let digits = match value {
        [0, rest @ ..] if rest.is_empty() || rest.first().is_some_and(|byte| byte & 0x80 != 0) => rest,
        [0, ..] => return None,
        [first, ..] if first & 0x80 == 0 => value,
        _ => return None,
    };
    if digits.len() > 8 {
        return None;
    }
    Some(digits.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// The value of an INTEGER that is `number`.
pub(crate) fn integer(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let begin = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
    let digits = bytes.get(begin..).unwrap_or_default();
    let sign = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut out = Vec::with_capacity(9);
    if sign {
        out.push(0);
    }
    out.extend_from_slice(digits);
    out
}

/// Appends an element of fewer than 128 bytes; longer ones are not made here.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length < 0x80);
    out.push(tag);
    out.push(u8::try_from(length).unwrap_or(0x7f));
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_one_encoding_of_a_length_is_read() {
        let read = |bytes: &[u8]| split(bytes).map(|(element, rest)| (element.value.len(), rest.len()));
        assert_eq!(read(&[4, 2, 1, 2, 3]), Some((2, 1)));
        assert_eq!(read(&[4, 0x81, 2, 1, 2]), None, "two bytes need no long form");
        assert_eq!(read(&[4, 0x80, 0, 0]), None, "indefinite");
        assert_eq!(read(&[4, 0x85, 0, 0, 0, 0, 1]), None, "longer than any input");
        assert_eq!(read(&[0x1f, 0x81, 1, 0]), None, "high tag number");
        assert_eq!(read(&[4, 3, 1, 2]), None, "cut short");
        let mut long = alloc::vec![4, 0x82, 0x01, 0x00];
        long.resize(4 + 256, 7);
        assert_eq!(read(&long), Some((256, 0)));
        assert_eq!(read(&[4, 0x82, 0x00, 0x81]), None, "leading zero");
    }

    proptest! {
        #[test]
        fn prop_integers_round_trip(number: u64) {
            let value = integer(number);
            prop_assert_eq!(unsigned(&value), Some(number));
            let mut padded = alloc::vec![0];
            padded.extend_from_slice(&value);
            prop_assert!(unsigned(&padded).is_none(), "padded");
        }

        #[test]
        fn prop_no_input_is_read_past_its_end(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut elements = Elements::new(&bytes);
            while let Ok(element) = elements.any("element") {
                prop_assert!(element.whole.ends_with(element.value));
            }
        }
    }
}
