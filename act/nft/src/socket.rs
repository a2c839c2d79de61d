//! nfnetlink: netlink's protocol of netfilter.

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use selvedge_wire::{Message, Reader, Request, Socket, Writer};

/// Length of `struct nfgenmsg`.
pub(crate) const HEADER: usize = 4;

/// A request of a kind, subsystem included, about objects of a family.
pub(crate) fn request(kind: u16, flags: u16, family: u8, write: impl FnOnce(&mut Writer)) -> Request {
    Request::new(kind, flags, &header(family, 0, 0), write)
}

/// `struct nfgenmsg`, which every message begins with.
pub(crate) fn header(family: u8, version: u8, resource: u16) -> [u8; HEADER] {
    let [high, low] = resource.to_be_bytes();
    [family, version, high, low]
}

/// A message received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) kind: u16,
    pub(crate) family: u8,
    attributes: Vec<u8>,
}

impl Received {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        let (header, attributes) = message.payload.split_first_chunk::<HEADER>()?;
        Some(Self { kind: message.kind, family: header[0], attributes: attributes.to_vec() })
    }

    pub(crate) fn attributes(&self) -> Reader<'_> {
        Reader(&self.attributes)
    }
}

/// A socket that also hears those groups.
pub(crate) fn open(groups: &[u32]) -> Result<Socket, Errno> {
    Socket::open(Some(NETFILTER), groups)
}

/// Sends one request and collects the answer. `EINTR` if what was dumped changed meanwhile.
pub(crate) fn ask(socket: &mut Socket, request: &Request) -> Result<Vec<Received>, Errno> {
    let mut answer = Vec::new();
    let interrupted = socket.ask(request, |message| answer.extend(Received::of(message)))?;
    if interrupted { Err(Errno::INTR) } else { Ok(answer) }
}

/// The failures that a batch has brought so far, each with its message's sequence number, in that order.
pub(crate) fn failures(socket: &mut Socket) -> Result<Vec<(u32, Errno)>, Errno> {
    let mut failures = Vec::new();
    let mut lost = false;
    loop {
        match socket.receive_waiting() {
            Ok(messages) => failures.extend(messages.filter_map(|message| {
                let refusal = message.verdict()?.err()?;
                Some((message.sequence, refusal.into()))
            })),
            Err(Errno::AGAIN) if lost && failures.is_empty() => return Err(Errno::NOBUFS),
            Err(Errno::AGAIN) => return Ok(failures),
            // So many messages failed that there was no room for all results: the first ones tell enough.
            Err(Errno::NOBUFS) => lost = true,
            Err(errno) => return Err(errno),
        }
    }
}

/// Notifications that wait; `EAGAIN` if there are none.
pub(crate) fn notifications(socket: &mut Socket) -> Result<Vec<Received>, Errno> {
    let messages = socket.receive_waiting()?.filter(|message| message.verdict().is_none());
    Ok(messages.filter_map(|message| Received::of(&message)).collect())
}
