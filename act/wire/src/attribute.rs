//! Netlink attributes: type-length-value records, padded to four bytes, nested where a type says so.

use std::net::IpAddr;

use crate::field::text;

/// Set in the type of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// The bits of a type that are the type.
const TYPE_MASK: u16 = (1 << 14) - 1;
const HEADER: usize = 4;

/// Attributes being written, one after the other.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes of what is written.
    pub fn of(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        Self::after(&[], write)
    }

    /// The bytes of a structure, the length of which is a multiple of four, and of what is written after it.
    pub fn after(structure: &[u8], write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self(structure.to_vec());
        write(&mut writer);
        writer.0
    }

    /// Writes an attribute as it is. Panics if the value is longer than an attribute can be, 64 KiB.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        // No caller comes near the 64 KiB that an attribute can hold: long lists are sent in parts.
        let length = u16::try_from(HEADER + value.len()).expect("an attribute is shorter than 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute as it was read, which may have been a nest.
    pub fn copy(&mut self, kind: u16, value: &[u8], nested: bool) {
        self.bytes(if nested { kind | NESTED } else { kind }, value);
    }

    /// A string with its terminator.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// A number in the host's byte order, as rtnetlink has them.
    pub fn u32_ne(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as nfnetlink has them.
    pub fn u32_be(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in network byte order, as nfnetlink has them.
    pub fn u64_be(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An address, without its family.
    pub fn ip(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.bytes(kind, &v4.octets()),
            IpAddr::V6(v6) => self.bytes(kind, &v6.octets()),
        }
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        self.bytes(kind | NESTED, &Self::of(write));
    }
}

/// Attributes being read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(
    /// What is still to be read.
    pub &'a [u8],
);

impl<'a> Iterator for Reader<'a> {
    /// The type, without its flags, and the value.
    type Item = (u16, &'a [u8]);

    /// The next whole attribute; a cut one ends the list.
    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?);
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

impl<'a> Reader<'a> {
    /// The value of the first attribute of that type.
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|&(found, _)| found == kind).map(|(_, value)| value)
    }

    /// The string of that type, up to its terminator.
    pub fn text(self, kind: u16) -> Option<String> {
        self.get(kind).map(text)
    }

    /// The number of that type, in network byte order.
    pub fn u32_be(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// The number of that type, in network byte order.
    pub fn u64_be(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// The attributes in the attribute of that type.
    pub fn nest(self, kind: u16) -> Option<Reader<'a>> {
        self.get(kind).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let bytes = Writer::of(|w| {
            w.text(1, "abc");
            w.nest(2, |w| w.u32_be(3, 0x0102_0304));
            w.u64_be(4, 5);
        });
        let reader = Reader(&bytes);
        assert_eq!(reader.text(1).as_deref(), Some("abc"));
        assert_eq!(reader.nest(2).and_then(|nest| nest.u32_be(3)), Some(0x0102_0304));
        assert_eq!(reader.u64_be(4), Some(5));
        assert_eq!(reader.count(), 3);
    }

    #[test]
    fn a_cut_attribute_ends_the_list() {
        let bytes = Writer::of(|w| w.u64_be(1, 5));
        for end in 0..bytes.len() {
            assert_eq!(Reader(&bytes[..end]).count(), 0);
        }
    }
}
