//! Netlink attributes: type-length-value records, padded to four bytes, nested where a type says so.

/// Set in the type of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// The bits of a type that are the type.
const TYPE_MASK: u16 = (1 << 14) - 1;
const HEADER: usize = 4;

/// Attributes being written, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// The bytes of what is written.
    pub(crate) fn of(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::default();
        write(&mut writer);
        writer.0
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        // No caller comes near the 64 KiB that an attribute can hold: long lists are sent in parts.
        let length = u16::try_from(HEADER + value.len()).expect("an attribute is shorter than 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute as it was read, which may have been a nest.
    pub(crate) fn copy(&mut self, kind: u16, value: &[u8], nested: bool) {
        self.bytes(if nested { kind | NESTED } else { kind }, value);
    }

    /// A string with its terminator.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// A number in network byte order, as nfnetlink has them.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in network byte order, as nfnetlink has them.
    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        self.bytes(kind | NESTED, &Self::of(write));
    }
}

/// Attributes being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

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
    pub(crate) fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|&(found, _)| found == kind).map(|(_, value)| value)
    }

    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(crate) fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(crate) fn nest(self, kind: u16) -> Option<Reader<'a>> {
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
            w.nest(2, |w| w.u32(3, 0x0102_0304));
            w.u64(4, 5);
        });
        let reader = Reader(&bytes);
        assert_eq!(reader.text(1).as_deref(), Some("abc"));
        assert_eq!(reader.nest(2).and_then(|nest| nest.u32(3)), Some(0x0102_0304));
        assert_eq!(reader.u64(4), Some(5));
        assert_eq!(reader.count(), 3);
    }

    #[test]
    fn a_cut_attribute_ends_the_list() {
        let bytes = Writer::of(|w| w.u64(1, 5));
        for end in 0..bytes.len() {
            assert_eq!(Reader(&bytes[..end]).count(), 0);
        }
    }
}
