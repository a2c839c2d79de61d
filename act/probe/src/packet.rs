//! What is asked and answered: a datagram that comes back as long as it went.

/// The first bytes of every datagram.
const MAGIC: [u8; 4] = *b"slvp";
const VERSION: u8 = 1;

/// Bytes that say something; the rest is there to be carried.
pub(crate) const LEAST: usize = 16;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the peer.
    Ask,
    /// Back.
    Answer,
}

/// Writes a datagram of a length, at least [`LEAST`].
pub(crate) fn write(kind: Kind, number: u64, length: usize) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(length.max(LEAST));
    datagram.extend(MAGIC);
    datagram.extend([VERSION, u8::from(kind == Kind::Answer), 0, 0]);
    datagram.extend(number.to_be_bytes());
    datagram.resize(length.max(LEAST), 0);
    datagram
}

/// Reads which way it goes and its number; `None` for what is none of ours.
pub(crate) fn read(datagram: &[u8]) -> Option<(Kind, u64)> {
    let (head, rest) = datagram.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*rest.first_chunk()?);
    let kind = match head {
        [m @ .., VERSION, 0, 0, 0] if *m == MAGIC => Kind::Ask,
        [m @ .., VERSION, 1, 0, 0] if *m == MAGIC => Kind::Answer,
        _ => return None,
    };
    Some((kind, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_reads_back_and_nothing_else_is_taken_for_one() {
        for kind in [Kind::Ask, Kind::Answer] {
            let datagram = write(kind, 7, 1400);
            assert_eq!((datagram.len(), read(&datagram)), (1400, Some((kind, 7))));
        }
        assert_eq!(write(Kind::Ask, 7, 0).len(), LEAST);
        for bad in
            [&b""[..], b"slvp", &[0; 16], b"slvp\x02\x00\x00\x0000000000", b"slvp\x01\x02\x00\x0000000000"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
