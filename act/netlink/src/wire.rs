//! Netlink's framing, as received: messages in a datagram, attributes in a message.

use crate::error::Refusal;

/// Length of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;

/// NLMSGERR_ATTR_MSG: the sentence in an extended acknowledgement.
const ERROR_TEXT: u16 = 1;

/// One message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// nlmsg_type.
    pub(crate) kind: u16,
    /// NLM_F_*.
    pub(crate) flags: u16,
    /// The sequence number of the request it answers.
    pub(crate) sequence: u32,
    /// The socket whose request it answers or tells of; 0 for the kernel's own doing.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl Message<'_> {
    /// The verdict that ends an answer (NLMSG_ERROR, or NLMSG_DONE of a dump), `None` for any other message.
    pub(crate) fn verdict(&self) -> Option<Result<(), Refusal>> {
        let tail = match i32::from(self.kind) {
            // struct nlmsgerr: the error, then the header of the request; its payload is left out (NETLINK_CAP_ACK).
            libc::NLMSG_ERROR => 4 + HEADER,
            libc::NLMSG_DONE => 4,
            _ => return None,
        };
        let errno = u32_at(self.payload, 0).map_or(0, |code| code.cast_signed().wrapping_neg());
        if errno == 0 {
            return Some(Ok(()));
        }
        let extended = self.flags & NLM_F_ACK_TLVS != 0;
        let tail = if extended { self.payload.get(tail..).unwrap_or(&[]) } else { &[] };
        let sentence = attributes(tail).find(|(kind, _)| *kind == ERROR_TEXT).map(|(_, bytes)| text(bytes));
        Some(Err(Refusal::explained(errno, sentence)))
    }
}

/// Extended attributes follow the error.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The messages in a datagram. A malformed rest is left out.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let message = Message {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            sequence: u32_at(rest, 8)?,
            port: u32_at(rest, 12)?,
            payload: rest.get(HEADER..length)?,
        };
        rest = rest.get(aligned(length)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes in a message's tail or in a nested attribute, by kind. A malformed rest is left out.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    const KIND: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let attribute = (u16_at(rest, 2)? & KIND, rest.get(4..length)?);
        rest = rest.get(aligned(length)..).unwrap_or(&[]);
        Some(attribute)
    })
}

/// The number in the host's byte order at an offset.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let four = bytes.get(offset..offset.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_ne_bytes)
}

/// The number in the host's byte order at an offset.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let two = bytes.get(offset..offset.checked_add(2)?)?;
    two.try_into().ok().map(u16::from_ne_bytes)
}

/// A string attribute, up to its terminator.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

/// Rounded up to netlink's alignment.
pub(crate) fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}
