//! Sockets: requests out, answers and notifications in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, recv, send,
    socket_with, sockopt,
};

use crate::message::{Message, Request, flag, messages};
use crate::option::{SocketOption, switch_on};
use crate::refusal::Refusal;

/// Holds every datagram that the kernel sends: dumps come in parts of 32 KiB, and other messages are shorter.
const BUFFER: usize = 128 << 10;

/// An open socket, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket of that protocol (NETLINK_ROUTE is `None`) that also hears those groups, which are numbered from 1 to 32.
    pub fn open(protocol: Option<Protocol>, groups: &[u32]) -> Result<Self, Errno> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        let groups = groups.iter().map(|group| 1 << (group - 1)).sum();
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let port = SocketAddrNetlink::try_from(getsockname(&fd)?)?.pid();
        switch_on(fd.as_fd(), SocketOption::Explanations)?;
        switch_on(fd.as_fd(), SocketOption::ShortRefusals)?;
        Ok(Self { fd, port, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Has the kernel check dump requests, and filter by what they say. Fails before Linux 4.20.
    pub fn check_dumps(&self) -> Result<(), Errno> {
        switch_on(self.fd.as_fd(), SocketOption::StrictDumps)
    }

    /// Makes room for messages that arrive while nobody reads.
    pub fn set_receive_buffer(&self, size: usize) {
        let forced = sockopt::set_socket_recv_buffer_size_force(&self.fd, size);
        // Without the right to it, what the system allows has to do.
        forced.or_else(|_not_privileged| sockopt::set_socket_recv_buffer_size(&self.fd, size)).ok();
    }

    /// The socket's number, which notifications of its changes carry.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number that tells the answers to a request from others.
    pub fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends one request, and shows the messages that answer it up to the kernel's verdict. True if what was dumped
    /// changed meanwhile.
    pub fn ask(&mut self, request: &Request, mut take: impl FnMut(&Message<'_>)) -> Result<bool, Refusal> {
        let sequence = self.next_sequence();
        let mut datagram = Vec::new();
        // A dump ends with a verdict anyway.
        request.write(sequence, flag::ACK, &mut datagram);
        self.send(&datagram)?;
        let mut interrupted = false;
        loop {
            // Messages left over from an earlier request are passed over.
            for message in self.receive()?.filter(|message| message.sequence == sequence) {
                interrupted |= message.is_interrupted();
                match message.verdict() {
                    Some(verdict) => return verdict.map(|()| interrupted),
                    None => take(&message),
                }
            }
        }
    }

    /// Sends bytes as one datagram, the send buffer made to fit where this may be done.
    pub fn send(&self, datagram: &[u8]) -> Result<(), Errno> {
        match retry_on_intr(|| send(&self.fd, datagram, SendFlags::empty())) {
            Err(Errno::MSGSIZE) => {
                let size = datagram.len() + BUFFER;
                sockopt::set_socket_send_buffer_size_force(&self.fd, size)
                    .or_else(|_not_privileged| sockopt::set_socket_send_buffer_size(&self.fd, size))?;
                retry_on_intr(|| send(&self.fd, datagram, SendFlags::empty())).map(drop)
            }
            sent => sent.map(drop),
        }
    }

    /// The messages of the next datagram, which is waited for. `ENOBUFS` if some were lost, for lack of room.
    pub fn receive(&mut self) -> Result<impl Iterator<Item = Message<'_>>, Errno> {
        self.receive_with(RecvFlags::empty())
    }

    /// The messages of the next datagram that waits already; `EAGAIN` if there is none, otherwise as
    /// [`Self::receive`].
    pub fn receive_waiting(&mut self) -> Result<impl Iterator<Item = Message<'_>>, Errno> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&mut self, flags: RecvFlags) -> Result<impl Iterator<Item = Message<'_>>, Errno> {
        // With TRUNC the kernel tells the whole length of a datagram that doesn't fit.
        let flags = flags | RecvFlags::TRUNC;
        let (_, length) = retry_on_intr(|| recv(&self.fd, &mut self.buffer[..], flags))?;
        Ok(messages(self.buffer.get(..length).ok_or(Errno::MSGSIZE)?))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
