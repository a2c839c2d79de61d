//! Messages: a header, the structure that their kind begins with, attributes.

use crate::attribute::{Reader, Writer};
use crate::field::{text, u16_at, u32_at};
use crate::refusal::Refusal;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// NLMSGERR_ATTR_MSG: the sentence in an extended acknowledgement.
const ERROR_TEXT: u16 = 1;

/// Flags of messages, by the kernel's names less their `NLM_F_`.
pub mod flag {
    pub(crate) const REQUEST: u16 = 1;
    /// The kernel says when it has carried the request out, not only when it refuses to.
    pub const ACK: u16 = 4;
    /// What others are told is told the asker too.
    pub const ECHO: u16 = 8;
    pub(crate) const DUMP_INTR: u16 = 0x10;
    pub(crate) const ACK_TLVS: u16 = 0x200;
    /// All objects of a kind are asked for.
    pub const DUMP: u16 = 0x300;
    /// An object that is there is replaced.
    pub const REPLACE: u16 = 0x100;
    /// An object that is there is left as it is, and the request refused.
    pub const EXCL: u16 = 0x200;
    /// An object that isn't there is made.
    pub const CREATE: u16 = 0x400;
    /// The object comes after those that are there.
    pub const APPEND: u16 = 0x800;
}

/// A message to send.
#[derive(Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

impl Request {
    /// A request by its nlmsg_type and [`flag`]s, with the structure that messages of this kind begin with, the
    /// length of which is a multiple of four, and attributes.
    pub fn new(kind: u16, flags: u16, structure: &[u8], write: impl FnOnce(&mut Writer)) -> Self {
        Self { kind, flags: flags | flag::REQUEST, payload: Writer::after(structure, write) }
    }

    /// Appends the message to a datagram, with further [`flag`]s.
    pub fn write(&self, sequence: u32, flags: u16, datagram: &mut Vec<u8>) {
        let length = u32::try_from(HEADER + self.payload.len()).expect("a message is shorter than 4 GiB");
        datagram.extend(length.to_ne_bytes());
        datagram.extend(self.kind.to_ne_bytes());
        datagram.extend((self.flags | flags).to_ne_bytes());
        datagram.extend(sequence.to_ne_bytes());
        datagram.extend(0u32.to_ne_bytes());
        datagram.extend(&self.payload);
    }
}

/// A message as received.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// nlmsg_type.
    pub kind: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// The socket whose request it answers or tells of; 0 for the kernel's own doing.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
    flags: u16,
}

impl Message<'_> {
    /// The verdict that ends an answer (NLMSG_ERROR, or NLMSG_DONE of a dump), `None` for any other message.
    pub fn verdict(&self) -> Option<Result<(), Refusal>> {
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
        let extended = self.flags & flag::ACK_TLVS != 0;
        let tail = if extended { self.payload.get(tail..).unwrap_or(&[]) } else { &[] };
        Some(Err(Refusal::explained(errno, Reader(tail).get(ERROR_TEXT).map(text))))
    }

    /// True if what is dumped changed since the dump began.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.flags & flag::DUMP_INTR != 0
    }
}

/// The messages in a datagram. A malformed rest is left out.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
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
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                drop(message.verdict());
                prop_assert!(Reader(message.payload).count() <= bytes.len());
            }
        }
    }

    #[test]
    fn what_is_written_is_received() {
        let mut datagram = Vec::new();
        for sequence in [7, 8] {
            Request::new(20, flag::CREATE, &[1, 2, 3, 4], |w| w.text(5, "a")).write(
                sequence,
                flag::ACK,
                &mut datagram,
            );
        }
        let received: Vec<_> = messages(&datagram).collect();
        assert_eq!(received.iter().map(|message| message.sequence).collect::<Vec<_>>(), [7, 8]);
        let last = received[1];
        assert_eq!((last.kind, last.flags), (20, flag::REQUEST | flag::CREATE | flag::ACK));
        assert_eq!(last.payload.first_chunk(), Some(&[1, 2, 3, 4]));
        assert_eq!(Reader(&last.payload[4..]).text(5).as_deref(), Some("a"));
        assert_eq!(last.verdict(), None);
    }

    #[test]
    fn a_refusal_comes_with_the_kernels_sentence() {
        let sentence = |w: &mut Writer| w.text(ERROR_TEXT, "too big");
        let refused = [(-22i32).to_ne_bytes().as_slice(), &[0; HEADER]].concat();
        let mut datagram = Vec::new();
        Request::new(2, flag::ACK_TLVS, &refused, sentence).write(1, 0, &mut datagram);
        let verdict = messages(&datagram).find_map(|message| message.verdict());
        assert_eq!(verdict, Some(Err(Refusal::explained(22, Some("too big".to_owned())))));
    }
}
