//! The receiving side: it answers connections with what it saw, and notes whose echo requests arrived.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use selvedge_netns::Namespace;

use super::ProbeError;
use super::echo::{Message, Ticket, parse};
use super::socket;
use super::visit::{Stage, Visit};
use crate::plan::Place;
use crate::shape::Family;

/// Which echo requests and which connections' loads arrived where, and from which address.
pub(super) type Sightings = BTreeMap<(Place, Ticket), IpAddr>;

/// A thread that answers for every place.
pub(super) struct Receiver {
    stop: UnixStream,
    thread: JoinHandle<Sightings>,
}

impl Receiver {
    /// Opens the sockets inside every place's namespace and starts answering.
    pub(super) fn start(
        spaces: &BTreeMap<Place, Namespace>,
        families: &[Family],
    ) -> Result<Self, ProbeError> {
        let mut posts = Vec::new();
        for (place, namespace) in spaces {
            let failed = |source| ProbeError::Listen { place: place.clone(), source };
            let opened = namespace.run(|| open(place, families))?;
            posts.extend(opened.map_err(|errno| failed(errno.into()))?);
        }
        let thread_failed = |source| ProbeError::Thread { source };
        let (stop, stopped) = UnixStream::pair().map_err(thread_failed)?;
        let thread = thread::Builder::new()
            .name("receiver".to_owned())
            .spawn(move || answer_until(&stopped, posts))
            .map_err(thread_failed)?;
        Ok(Self { stop, thread })
    }

    /// Stops answering and hands over what arrived. What the kernel answered before this call is among it.
    pub(super) fn finish(self) -> Sightings {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A socket of one place.
struct Post {
    place: Place,
    socket: OwnedFd,
    role: Role,
}

enum Role {
    /// Sees all ICMP messages.
    Echo(Family),
    /// Takes connections.
    Listener,
    /// Is a connection.
    Connection(Visit),
}

fn open(place: &Place, families: &[Family]) -> Result<Vec<Post>, rustix::io::Errno> {
    let mut posts = Vec::new();
    for &family in families {
        let post = |socket, role| Post { place: place.clone(), socket, role };
        posts.push(post(socket::raw(family)?, Role::Echo(family)));
        posts.push(post(socket::listener(family)?, Role::Listener));
    }
    Ok(posts)
}

fn answer_until(stopped: &UnixStream, mut posts: Vec<Post>) -> Sightings {
    let mut sightings = Sightings::new();
    loop {
        let (stop, ready) = wait(stopped, &posts);
        let mut opened = Vec::new();
        let mut closed = Vec::new();
        for index in ready {
            let Some(Post { place, socket, role }) = posts.get_mut(index) else { continue };
            match role {
                Role::Echo(family) => note(place, socket, *family, &mut sightings),
                Role::Listener => {
                    while let Some((socket, peer)) = socket::accept(socket) {
                        let role = Role::Connection(Visit::from(peer));
                        opened.push(Post { place: place.clone(), socket, role });
                    }
                }
                Role::Connection(visit) => match visit.step(place, socket) {
                    Stage::Open => {}
                    Stage::Heard(ticket) => drop(sightings.insert((place.clone(), ticket), visit.peer())),
                    Stage::Over => closed.push(index),
                },
            }
        }
        for index in closed.into_iter().rev() {
            posts.swap_remove(index);
        }
        posts.append(&mut opened);
        if stop {
            return sightings;
        }
    }
}

/// Waits until something can be done: whether to stop after this round, and at which posts there is something.
fn wait(stopped: &UnixStream, posts: &[Post]) -> (bool, Vec<usize>) {
    let sockets = posts.iter().map(|post| match &post.role {
        Role::Connection(visit) if visit.is_sending() => PollFd::new(&post.socket, PollFlags::OUT),
        _ => PollFd::new(&post.socket, PollFlags::IN),
    });
    let stop = PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN);
    let mut watched: Vec<PollFd<'_>> = [stop].into_iter().chain(sockets).collect();
    while poll(&mut watched, None).is_err_and(|errno| errno == rustix::io::Errno::INTR) {}
    let mut ready = watched.iter().map(|fd| !fd.revents().is_empty());
    let stop = ready.next().unwrap_or(true);
    (stop, ready.enumerate().filter_map(|(index, ready)| ready.then_some(index)).collect())
}

fn note(place: &Place, socket: &OwnedFd, family: Family, sightings: &mut Sightings) {
    while let Some((packet, sender)) = socket::receive_from(socket) {
        if let Some(Message::Request(ticket)) = parse(family, &packet) {
            sightings.insert((place.clone(), ticket), sender);
        }
    }
}
