//! What comes in WireGuard, told by its outside.

/// How many bytes encryption adds to a packet: the message's header, and what proves it.
pub const SEALED: usize = 32;

/// A message, without what is in it. Whether it is what it says, only its key shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Somebody wants a session.
    Initiation,
    /// Somebody answers to that.
    Response {
        /// The number under which the receiver asked.
        receiver: u32,
    },
    /// Somebody is too busy to answer, and says what to ask with.
    Cookie {
        /// The number under which the receiver asked.
        receiver: u32,
    },
    /// A packet in a session.
    Data {
        /// The receiver's number of the session.
        receiver: u32,
    },
}

impl Message {
    /// The message in a datagram; `None` if it is none.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(*datagram.get(at..)?.first_chunk()?));
        match (number(0)?, datagram.len()) {
            (1, 148) => Some(Self::Initiation),
            (2, 92) => Some(Self::Response { receiver: number(8)? }),
            (3, 64) => Some(Self::Cookie { receiver: number(4)? }),
            (4, SEALED..) => Some(Self::Data { receiver: number(4)? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        (bytes[0], bytes[4], bytes[8]) = (kind, 5, 9);
        bytes
    }

    #[test]
    fn a_message_is_told_by_its_kind_and_length() {
        let of = |kind, length| Message::of(&datagram(kind, length));
        assert_eq!(of(1, 148), Some(Message::Initiation));
        assert_eq!(of(2, 92), Some(Message::Response { receiver: 9 }));
        assert_eq!(of(3, 64), Some(Message::Cookie { receiver: 5 }));
        assert_eq!(of(4, 32), Some(Message::Data { receiver: 5 }));
        assert_eq!(of(4, 1452), Some(Message::Data { receiver: 5 }));
        for (kind, length) in [(0, 148), (1, 147), (1, 149), (2, 148), (3, 65), (4, 31), (5, 64)] {
            assert_eq!(of(kind, length), None, "{kind} of {length} bytes");
        }
        for length in 0..4 {
            assert_eq!(Message::of(&[4, 0, 0, 0][..length]), None);
        }
        let mut reserved = datagram(4, 64);
        reserved[3] = 1;
        assert_eq!(Message::of(&reserved), None, "what is reserved is zero");
    }
}
