//! One rtnetlink socket: requests go out, verdicts and records come back.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::netdevice::{index_to_name, name_to_index};
use selvedge_model::IfName;
use selvedge_netns::Namespace;

use crate::error::{NetlinkError, Refusal};
use crate::sysctl::Sysctls;
use crate::wire::{self, Message};

/// The most that one receive can bring: the kernel fills at most 32 KiB of a dump into a datagram.
const RECEIVE: usize = 64 * 1024;

/// How often a dump is tried that other changes interrupt.
const DUMP_TRIES: u32 = 16;

/// The most requests in one datagram: their refusals must fit the socket's receive buffer, where each takes about
/// 1 KiB of the usual 208.
pub(crate) const BATCH: usize = 64;

/// A socket to the kernel's links, addresses and routes, and the sysctls beside them, of one network namespace.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    pub(crate) sysctls: Sysctls,
}

/// One request: a message and its NLM_F_* flags, without NLM_F_REQUEST and NLM_F_ACK.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) flags: u16,
    pub(crate) message: RouteNetlinkMessage,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's namespace. Sysctls are those of whatever thread applies them.
    ///
    /// # Errors
    /// [`NetlinkError::Open`].
    pub fn open() -> Result<Self, NetlinkError> {
        let (socket, port) = open_socket().map_err(|source| NetlinkError::Open { source })?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE),
            sysctls: Sysctls::current(),
        })
    }

    /// Opens a socket inside a namespace, for use from any thread.
    ///
    /// # Errors
    /// [`NetlinkError::Open`] and [`NetlinkError::Namespace`].
    pub fn open_in(namespace: &Namespace) -> Result<Self, NetlinkError> {
        let sysctls = Sysctls::within(namespace.try_clone()?);
        Ok(Self { sysctls, ..namespace.run(Self::open)?? })
    }

    /// The same socket, with sysctls taken from another place than `/proc/sys` in the calling thread's namespace.
    #[must_use]
    pub fn with_sysctls(self, sysctls: Sysctls) -> Self {
        Self { sysctls, ..self }
    }

    /// The socket's number, which notifications of its changes carry (see [`crate::Notification::sender`]).
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The index of a link, by any of its names.
    pub(crate) fn index_of(&self, name: &IfName) -> Result<u32, Refusal> {
        Ok(name_to_index(&self.socket, name.as_str())?)
    }

    /// The name of a link; `None` if there is no such link, or its name is none that [`IfName`] takes.
    pub(crate) fn name_of(&self, index: u32) -> Option<IfName> {
        index_to_name(&self.socket, index).ok()?.parse().ok()
    }

    /// Carries out up to [`BATCH`] requests, sent as one datagram; one verdict each, in order. A refused one does not
    /// keep the following from being carried out.
    pub(crate) fn exchange(&mut self, requests: Vec<Request>) -> Vec<Result<(), Refusal>> {
        let count = requests.len();
        let Some(last) = count.checked_sub(1) else { return Vec::new() };
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(256 * count);
        for (i, request) in requests.into_iter().enumerate() {
            // Refusals come unasked; the last request's acknowledgement says that there will be no more of them.
            let acknowledge = if i == last { NLM_F_ACK } else { 0 };
            self.append(&mut datagram, request.flags | acknowledge, request.message);
        }
        let mut verdicts = vec![Ok(()); count];
        if let Err(error) = self.collect(&datagram, first, &mut verdicts) {
            verdicts.fill(Err(Refusal::from(&error)));
        }
        verdicts
    }

    /// Carries out one request.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Refusal> {
        self.exchange(vec![request]).pop().unwrap_or(Ok(()))
    }

    /// The records that answer a dump request, or a request for one object, as far as `read` makes something of
    /// them.
    pub(crate) fn read_all<T>(
        &mut self,
        what: &'static str,
        request: &RouteNetlinkMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let answer = self.dump(NLM_F_DUMP, request.clone(), &read);
            let (records, interrupted) = answer.map_err(|source| NetlinkError::Read { what, source })?;
            if !interrupted {
                return Ok(records);
            }
        }
        Err(NetlinkError::Unsettled { what, tries: DUMP_TRIES })
    }

    /// The record that answers a request for one object.
    pub(crate) fn read_one<T>(
        &mut self,
        request: RouteNetlinkMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        Ok(self.dump(NLM_F_ACK, request, &read)?.0.pop())
    }

    /// Asks once; also tells whether the kernel says that the answer changed while it was given.
    fn dump<T>(
        &mut self,
        flags: u16,
        request: RouteNetlinkMessage,
        read: &impl Fn(&[u8]) -> Option<T>,
    ) -> Result<(Vec<T>, bool), Refusal> {
        let mut datagram = Vec::with_capacity(128);
        let sequence = self.append(&mut datagram, flags, request);
        self.send(&datagram).map_err(|error| Refusal::from(&error))?;
        let (mut records, mut interrupted) = (Vec::new(), false);
        loop {
            self.receive().map_err(|error| Refusal::from(&error))?;
            for message in self.received(sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.verdict() {
                    Some(verdict) => return verdict.map(|()| (records, interrupted)),
                    None => records.extend(read(message.payload)),
                }
            }
        }
    }

    /// Appends a message to a datagram and returns its sequence number.
    fn append(&mut self, datagram: &mut Vec<u8>, flags: u16, message: RouteNetlinkMessage) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, message.into());
        message.finalize();
        let start = wire::aligned(datagram.len());
        datagram.resize(start + message.buffer_len(), 0);
        message.serialize(&mut datagram[start..]);
        self.sequence
    }

    /// Sends requests whose numbers start with `first`, and enters their refusals until the last one's verdict.
    fn collect(
        &mut self,
        datagram: &[u8],
        first: u32,
        verdicts: &mut [Result<(), Refusal>],
    ) -> io::Result<()> {
        self.send(datagram)?;
        loop {
            self.receive()?;
            for message in wire::messages(&self.buffer) {
                let Some(verdict) = message.verdict() else { continue };
                let Ok(i) = usize::try_from(message.sequence.wrapping_sub(first)) else { continue };
                let last = i + 1 == verdicts.len();
                if let Some(entry) = verdicts.get_mut(i) {
                    *entry = verdict;
                }
                if last {
                    return Ok(());
                }
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &SocketAddr::new(0, 0), 0).map(|_sent| ())
    }

    /// Receives one datagram into the buffer.
    fn receive(&mut self) -> io::Result<()> {
        receive_datagram(&self.socket, &mut self.buffer)
    }

    /// The messages in the buffer that answer a request; those left over from an earlier one are passed over.
    fn received(&self, sequence: u32) -> impl Iterator<Item = Message<'_>> {
        wire::messages(&self.buffer).filter(move |message| message.sequence == sequence)
    }
}

/// Opens a socket with extended acknowledgements and checked dump requests; returns its number too.
pub(crate) fn open_socket() -> io::Result<(Socket, u32)> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    let port = socket.bind_auto()?.port_number();
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // Linux 4.20 and later; before that, dumps come unfiltered, and reading filters them anyway.
    match socket.set_netlink_get_strict_chk(true) {
        Ok(()) | Err(_) => {}
    }
    Ok((socket, port))
}

/// Receives one whole datagram; waits for it, or fails with `WouldBlock` on a socket that doesn't block.
pub(crate) fn receive_datagram(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.reserve(RECEIVE);
    loop {
        match socket.recv_from(buffer, libc::MSG_TRUNC) {
            Ok((length, _)) if length > buffer.len() => {
                return Err(io::Error::other("a netlink datagram is longer than 64 KiB"));
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
