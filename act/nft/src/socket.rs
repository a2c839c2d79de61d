//! A netfilter netlink socket: messages out, messages in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::attribute::{Reader, Writer};

/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct nfgenmsg`
const GENERIC: usize = 4;
/// Holds every message that the kernel sends: dumps come in parts of 32 KiB, and we send nothing longer ourselves.
const BUFFER: usize = 128 << 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Message flags.
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const DUMP_INTERRUPTED: u16 = 0x10;

/// A message to send.
#[derive(Debug)]
pub(crate) struct Message {
    /// Subsystem and type.
    pub(crate) kind: u16,
    /// Flags; [`REQUEST`] is added.
    pub(crate) flags: u16,
    /// `struct nfgenmsg`: the family.
    pub(crate) family: u8,
    /// `struct nfgenmsg`: the version.
    pub(crate) version: u8,
    /// `struct nfgenmsg`: the resource.
    pub(crate) resource: u16,
    /// The attributes.
    pub(crate) attributes: Vec<u8>,
}

impl Message {
    pub(crate) fn new(kind: u16, flags: u16, family: u8, write: impl FnOnce(&mut Writer)) -> Self {
        Self { kind, flags, family, version: 0, resource: 0, attributes: Writer::of(write) }
    }

    /// Appends the message to a batch.
    pub(crate) fn write(&self, sequence: u32, batch: &mut Vec<u8>) {
        let length = HEADER + GENERIC + self.attributes.len();
        let length = u32::try_from(length).expect("a message is shorter than 4 GiB");
        batch.extend(length.to_ne_bytes());
        batch.extend(self.kind.to_ne_bytes());
        batch.extend((self.flags | REQUEST).to_ne_bytes());
        batch.extend(sequence.to_ne_bytes());
        batch.extend(0u32.to_ne_bytes());
        batch.extend([self.family, self.version]);
        batch.extend(self.resource.to_be_bytes());
        batch.extend(&self.attributes);
    }
}

/// A message received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) kind: u16,
    pub(crate) family: u8,
    attributes: Vec<u8>,
}

impl Received {
    pub(crate) fn attributes(&self) -> Reader<'_> {
        Reader(&self.attributes)
    }
}

/// What one message from the kernel is.
enum Incoming {
    Data(Received),
    Result(Result<(), Errno>),
    Done,
}

struct Parsed {
    sequence: u32,
    interrupted: bool,
    incoming: Incoming,
}

/// An open socket, of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    portid: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket that also hears the groups of which the bit is set (group 1 is bit 0).
    pub(crate) fn open(groups: u32) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let name = SocketAddrNetlink::try_from(rustix::net::getsockname(&fd)?)?;
        Ok(Self { fd, portid: name.pid(), sequence: 0, buffer: vec![0; BUFFER] })
    }

    pub(crate) fn portid(&self) -> u32 {
        self.portid
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends bytes as one batch, the send buffer made to fit where this may be done.
    pub(crate) fn send(&self, batch: &[u8]) -> Result<(), Errno> {
        match rustix::net::send(&self.fd, batch, SendFlags::empty()) {
            Err(Errno::MSGSIZE) => {
                let size = batch.len() + BUFFER;
                rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, size).or_else(
                    |_not_privileged| rustix::net::sockopt::set_socket_send_buffer_size(&self.fd, size),
                )?;
                rustix::net::send(&self.fd, batch, SendFlags::empty()).map(drop)
            }
            sent => sent.map(drop),
        }
    }

    /// Makes room for messages that arrive while nobody reads.
    pub(crate) fn set_receive_buffer(&self, size: usize) {
        use rustix::net::sockopt;
        let forced = sockopt::set_socket_recv_buffer_size_force(&self.fd, size);
        // Without the right to it, what the system allows has to do.
        forced.or_else(|_not_privileged| sockopt::set_socket_recv_buffer_size(&self.fd, size)).ok();
    }

    /// Sends one request and collects the answer: a dump to its end, one message, or an acknowledgement.
    ///
    /// `EINTR` if what was dumped changed meanwhile.
    pub(crate) fn request(&mut self, message: &Message) -> Result<Vec<Received>, Errno> {
        let sequence = self.next_sequence();
        let mut bytes = Vec::new();
        message.write(sequence, &mut bytes);
        self.send(&bytes)?;
        let many = message.flags & DUMP == DUMP;
        let mut answer = Vec::new();
        let mut interrupted = false;
        loop {
            for parsed in self.receive(RecvFlags::empty())? {
                if parsed.sequence != sequence {
                    continue;
                }
                interrupted |= parsed.interrupted;
                match parsed.incoming {
                    Incoming::Data(received) => answer.push(received),
                    Incoming::Result(Err(errno)) => return Err(errno),
                    Incoming::Result(Ok(())) | Incoming::Done if interrupted => return Err(Errno::INTR),
                    Incoming::Result(Ok(())) | Incoming::Done => return Ok(answer),
                }
            }
            if !many && message.flags & ACK == 0 && !answer.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// The failures that a batch has brought so far, each with its message's sequence number, in that order.
    pub(crate) fn failures(&mut self) -> Result<Vec<(u32, Errno)>, Errno> {
        let mut failures = Vec::new();
        let mut lost = false;
        loop {
            match self.receive(RecvFlags::DONTWAIT) {
                Ok(parsed) => {
                    failures.extend(parsed.into_iter().filter_map(|parsed| match parsed.incoming {
                        Incoming::Result(Err(errno)) => Some((parsed.sequence, errno)),
                        Incoming::Result(Ok(())) | Incoming::Data(_) | Incoming::Done => None,
                    }))
                }
                Err(Errno::AGAIN) if lost && failures.is_empty() => return Err(Errno::NOBUFS),
                Err(Errno::AGAIN) => return Ok(failures),
                // So many messages failed that there was no room for all results: the first ones tell enough.
                Err(Errno::NOBUFS) => lost = true,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Notifications that wait; `EAGAIN` if there are none.
    pub(crate) fn notifications(&mut self) -> Result<Vec<Received>, Errno> {
        let parsed = self.receive(RecvFlags::DONTWAIT)?;
        Ok(parsed
            .into_iter()
            .filter_map(|parsed| match parsed.incoming {
                Incoming::Data(received) => Some(received),
                Incoming::Result(_) | Incoming::Done => None,
            })
            .collect())
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<Vec<Parsed>, Errno> {
        let (length, _) = loop {
            match rustix::net::recv(&self.fd, &mut self.buffer[..], flags) {
                Err(Errno::INTR) => {}
                received => break received?,
            }
        };
        Ok(messages(&self.buffer[..length]).collect())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Parsed> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?.max(HEADER);
        // The request that an error message repeats may be cut; its error stands before that.
        let message = bytes.get(..length.min(bytes.len()))?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        parse(message)
    })
}

fn parse(message: &[u8]) -> Option<Parsed> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*message.get(6..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
    let payload = message.get(HEADER..)?;
    let incoming = match kind {
        NLMSG_ERROR => {
            let code = i32::from_ne_bytes(*payload.first_chunk()?);
            Incoming::Result(if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-code)) })
        }
        NLMSG_DONE => match payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
            Some(code) if code < 0 => Incoming::Result(Err(Errno::from_raw_os_error(-code))),
            _ => Incoming::Done,
        },
        _ => {
            let family = *payload.first()?;
            Incoming::Data(Received { kind, family, attributes: payload.get(GENERIC..)?.to_vec() })
        }
    };
    Some(Parsed { sequence, interrupted: flags & DUMP_INTERRUPTED != 0, incoming })
}
