//! Field offsets from the kernel's own type information (BTF).
//!
//! Owns a reader for the raw BTF format, just deep enough to answer "where in this structure is that field, and
//! how wide is it". Takes bytes, touches no file, and trusts none of them.
//! Refuses to guess: a field that is missing, ambiguous, a bit-field, or of another width is an error by name.

use std::collections::HashMap;

use common::abi::fields::{ABSENT, COUNT, PLACES, Place};

/// Why the bytes are not BTF we can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Not BTF, or of the other byte order.
    #[error("not BTF of this machine's byte order (magic {0:#06x})")]
    Magic(u16),
    /// A version this reader does not know.
    #[error("BTF version {0} is not known here")]
    Version(u8),
    /// The bytes end in the middle of something.
    #[error("BTF is cut short at byte {0}")]
    Short(usize),
    /// A type kind this reader does not know, so the rest cannot be walked.
    #[error("BTF type kind {kind} at byte {at} is not known here")]
    Kind {
        /// The kind's number.
        kind: u32,
        /// Where.
        at: usize,
    },
}

/// Why a field has no offset on this kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The kernel has no such structure.
    #[error("kernel has no struct {0}")]
    NoStructure(&'static str),
    /// The structure has no such member.
    #[error("struct {structure} has no member {path}")]
    NoMember {
        /// The structure.
        structure: &'static str,
        /// The member path asked for.
        path: &'static str,
    },
    /// Several structures of that name place the member differently.
    #[error("struct {structure} is defined several times with {path} in different places")]
    Ambiguous {
        /// The structure.
        structure: &'static str,
        /// The member path asked for.
        path: &'static str,
    },
    /// The member does not start at a byte, or is a bit-field.
    #[error("struct {structure} member {path} is a bit-field")]
    BitField {
        /// The structure.
        structure: &'static str,
        /// The member path asked for.
        path: &'static str,
    },
    /// The member is wider or narrower than what the programs read.
    #[error("struct {structure} member {path} is {found} bytes wide, not {needed}")]
    Width {
        /// The structure.
        structure: &'static str,
        /// The member path asked for.
        path: &'static str,
        /// Bytes the programs read.
        needed: u32,
        /// Bytes the kernel has.
        found: u32,
    },
}

/// Every field's offset on this kernel, and what is missing.
#[derive(Clone, Debug)]
pub struct Offsets {
    /// In the order of [`PLACES`]; [`ABSENT`] where the kernel lacks the field.
    pub table: [u32; COUNT],
    /// The fields that have no offset, with the reason.
    pub missing: Vec<(Place, FieldError)>,
}

/// Parsed BTF: where each type starts, and which structures there are.
#[derive(Debug)]
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Byte offset of each type; index is the type id, 0 (void) is a placeholder.
    types: Vec<usize>,
    structures: HashMap<&'a [u8], Vec<u32>>,
    typedefs: HashMap<&'a [u8], u32>,
    enumerators: HashMap<&'a [u8], u32>,
}

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_FLOAT: u32 = 16;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;
/// Modifiers and unnamed members nest a few levels deep; a chain longer than this is a cycle.
const DEPTH_MAX: u32 = 32;

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    kind: u32,
    members: u32,
    /// Members carry a bit-field width in their offset's top byte.
    bit_fields: bool,
    /// Size or referenced type, by kind.
    value: u32,
}

impl<'a> Btf<'a> {
    /// Indexes raw BTF as `/sys/kernel/btf/vmlinux` holds it.
    ///
    /// # Errors
    /// [`BtfError`] if the bytes are not well-formed BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = read_u16(bytes, 0)?;
        if magic != 0xeb9f {
            return Err(BtfError::Magic(magic));
        }
        let version = *bytes.get(2).ok_or(BtfError::Short(2))?;
        if version != 1 {
            return Err(BtfError::Version(version));
        }
        let header = index(read_u32(bytes, 4)?);
        let section = |at: usize| -> Result<(usize, usize), BtfError> {
            let start = header.saturating_add(index(read_u32(bytes, at)?));
            Ok((start, start.saturating_add(index(read_u32(bytes, at + 4)?))))
        };
        let (type_start, type_end) = section(8)?;
        let (string_start, string_end) = section(16)?;
        let strings = bytes
            .get(string_start..string_end)
            .ok_or(BtfError::Short(bytes.len()))?;
        bytes
            .get(type_start..type_end)
            .ok_or(BtfError::Short(bytes.len()))?;
        let mut btf = Self {
            bytes,
            strings,
            types: vec![0],
            structures: HashMap::new(),
            typedefs: HashMap::new(),
            enumerators: HashMap::new(),
        };
        let mut at = type_start;
        while at < type_end {
            at = btf.index_type(at)?;
        }
        Ok(btf)
    }

    /// Every field the programs want.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        let mut offsets = Offsets {
            table: [ABSENT; COUNT],
            missing: Vec::new(),
        };
        for (slot, place) in offsets.table.iter_mut().zip(PLACES) {
            match self.offset(place.structure, place.path, place.bytes) {
                Ok(offset) => *slot = offset,
                Err(error) => offsets.missing.push((*place, error)),
            }
        }
        offsets
    }

    /// Byte offset of `path` in `structure`, checked to be `bytes` wide unless that is 0. With an empty path, the
    /// size of the structure.
    ///
    /// # Errors
    /// [`FieldError`], naming structure and member.
    pub fn offset(&self, structure: &'static str, path: &'static str, bytes: u32) -> Result<u32, FieldError> {
        let ids = self
            .structures
            .get(structure.as_bytes())
            .ok_or(FieldError::NoStructure(structure))?;
        let mut found = Err(FieldError::NoMember { structure, path });
        for id in ids {
            let place = if path.is_empty() {
                self.get(*id)
                    .map(|ty| ty.value)
                    .ok_or(FieldError::NoStructure(structure))
            } else {
                let Some(member) = self.walk(*id, path) else {
                    continue;
                };
                self.place(structure, path, bytes, member)
            };
            match (&found, &place) {
                (Ok(one), Ok(other)) if one != other => {
                    return Err(FieldError::Ambiguous { structure, path });
                }
                (Ok(_), _) => {}
                (Err(_), _) => found = place,
            }
        }
        found
    }

    /// Number of arguments a BTF tracepoint hands to a program.
    #[must_use]
    pub fn tracepoint_arguments(&self, name: &str) -> Option<u32> {
        let typedef = self.get(*self.typedefs.get(format!("btf_trace_{name}").as_bytes())?)?;
        let pointer = self.get(typedef.value)?;
        let prototype = self.get(pointer.value)?;
        // The first parameter is the tracepoint's private data, which programs do not see.
        (prototype.kind == KIND_FUNC_PROTO).then(|| prototype.members.saturating_sub(1))
    }

    /// Value of an enumerator of any (32-bit) enum.
    #[must_use]
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.enumerators.get(name.as_bytes()).copied()
    }

    fn place(
        &self,
        structure: &'static str,
        path: &'static str,
        needed: u32,
        (bit, bit_field, kind): (u32, bool, u32),
    ) -> Result<u32, FieldError> {
        if bit_field || bit % 8 != 0 {
            return Err(FieldError::BitField { structure, path });
        }
        let found = self.size(kind, DEPTH_MAX).unwrap_or(0);
        if needed != 0 && found != needed {
            return Err(FieldError::Width {
                structure,
                path,
                needed,
                found,
            });
        }
        Ok(bit / 8)
    }

    /// Follows a dotted path; yields bit offset, whether it is a bit-field, and the member's type.
    fn walk(&self, structure: u32, path: &str) -> Option<(u32, bool, u32)> {
        let (mut bit, mut bit_field, mut id) = (0u32, false, structure);
        for name in path.split('.') {
            let (offset, is_bit_field, member) = self.member(id, name.as_bytes(), DEPTH_MAX)?;
            bit = bit.checked_add(offset)?;
            bit_field |= is_bit_field;
            id = member;
        }
        Some((bit, bit_field, id))
    }

    /// Finds a member by name, looking into unnamed unions and structures as C does.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, bool, u32)> {
        let depth = depth.checked_sub(1)?;
        let ty = self.get(self.strip(id)?)?;
        if ty.kind != KIND_STRUCT && ty.kind != KIND_UNION {
            return None;
        }
        for member in 0..index(ty.members) {
            let at = ty.at + 12 + member * 12;
            let member_name = self.string(read_u32(self.bytes, at).ok()?);
            let member_type = read_u32(self.bytes, at + 4).ok()?;
            let raw = read_u32(self.bytes, at + 8).ok()?;
            let (offset, width) = if ty.bit_fields {
                (raw & 0xff_ffff, raw >> 24)
            } else {
                (raw, 0)
            };
            if member_name == name {
                return Some((offset, width != 0, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, bit_field, found)) = self.member(member_type, name, depth)
            {
                return Some((offset.checked_add(inner)?, bit_field, found));
            }
        }
        None
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let ty = self.get(self.strip(id)?)?;
        match ty.kind {
            KIND_PTR => Some(8),
            KIND_ARRAY => {
                let element = read_u32(self.bytes, ty.at + 12).ok()?;
                let count = read_u32(self.bytes, ty.at + 20).ok()?;
                self.size(element, depth)?.checked_mul(count)
            }
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_FLOAT | KIND_ENUM64 => Some(ty.value),
            _ => None,
        }
    }

    /// The type behind names and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH_MAX {
            let ty = self.get(id)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => id = ty.value,
                _ => return Some(id),
            }
        }
        None
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(index(id)).filter(|_| id != 0)?;
        self.read_type(at).ok()
    }

    fn read_type(&self, at: usize) -> Result<Type, BtfError> {
        let info = read_u32(self.bytes, at + 4)?;
        Ok(Type {
            at,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            bit_fields: info >> 31 != 0,
            value: read_u32(self.bytes, at + 8)?,
        })
    }

    /// Records the type at `at` and yields where the next one starts.
    fn index_type(&mut self, at: usize) -> Result<usize, BtfError> {
        let ty = self.read_type(at)?;
        let id = u32::try_from(self.types.len()).map_err(|_| BtfError::Short(at))?;
        self.types.push(at);
        let name = self.string(read_u32(self.bytes, at)?);
        let members = index(ty.members);
        let extra = match ty.kind {
            KIND_STRUCT if !name.is_empty() => {
                self.structures.entry(name).or_default().push(id);
                members * 12
            }
            KIND_TYPEDEF => {
                self.typedefs.entry(name).or_insert(id);
                0
            }
            KIND_ENUM => {
                for member in 0..members {
                    let name = self.string(read_u32(self.bytes, at + 12 + member * 8)?);
                    let value = read_u32(self.bytes, at + 16 + member * 8)?;
                    self.enumerators.entry(name).or_insert(value);
                }
                members * 8
            }
            // int, variable, declaration tag
            KIND_INT | 14 | 17 => 4,
            KIND_ARRAY => 12,
            // structure, union, data section, 64-bit enum
            KIND_STRUCT | KIND_UNION | 15 | KIND_ENUM64 => members * 12,
            KIND_FUNC_PROTO => members * 8,
            // pointer, forward, qualifiers, function, float, type tag
            KIND_PTR | 7 | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | 12 | KIND_FLOAT | KIND_TYPE_TAG => 0,
            kind => return Err(BtfError::Kind { kind, at }),
        };
        Ok(at + 12 + extra)
    }

    fn string(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(index(offset)..).unwrap_or_default();
        rest.split(|&b| b == 0).next().unwrap_or_default()
    }
}

/// BTF offsets are 32 bits wide and so is the smallest machine this runs on.
fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn read_u16(bytes: &[u8], at: usize) -> Result<u16, BtfError> {
    match bytes.get(at..at.saturating_add(2)) {
        Some(&[a, b]) => Ok(u16::from_ne_bytes([a, b])),
        _ => Err(BtfError::Short(at)),
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    match bytes.get(at..at.saturating_add(4)) {
        Some(&[a, b, c, d]) => Ok(u32::from_ne_bytes([a, b, c, d])),
        _ => Err(BtfError::Short(at)),
    }
}

#[cfg(test)]
mod tests;
