//! The sending side: all probes of one place, on a thread inside its namespace.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Timing;
use super::call::Call;
use super::echo::{Message, Ticket, parse, request};
use super::socket;
use crate::matrix::Reason;
use crate::path::Protocol;
use crate::plan::Place;
use crate::shape::Family;

/// A probe to send.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    pub ticket: Ticket,
    pub to: Place,
    pub target: IpAddr,
    pub protocol: Protocol,
}

/// What came back: over a connection, the source address that the receiver saw.
pub(super) type Answer = Result<Option<IpAddr>, Reason>;

/// How many probes one place has under way at once.
const AT_ONCE: usize = 256;

/// Sends every shot, and those without a good answer again: the first packet towards a neighbour may be lost while
/// the neighbour is being resolved, and on a machine under load a second is not long.
pub(super) fn send_all(shots: &[Shot], timing: Timing) -> BTreeMap<Ticket, Answer> {
    let mut answers = BTreeMap::new();
    for _ in 0..timing.tries {
        let open = |shot: &&Shot| !matches!(answers.get(&shot.ticket), Some(Ok(_)));
        let open: Vec<&Shot> = shots.iter().filter(open).collect();
        for volley in open.chunks(AT_ONCE) {
            answers.extend(Volley::fire(volley).collect(timing.wait));
        }
    }
    answers
}

/// Probes under way together.
struct Volley<'a> {
    raw: BTreeMap<Family, OwnedFd>,
    calls: Vec<Call<'a>>,
    answers: BTreeMap<Ticket, Answer>,
    shots: &'a [&'a Shot],
}

impl<'a> Volley<'a> {
    fn fire(shots: &'a [&'a Shot]) -> Self {
        let mut volley = Self { raw: BTreeMap::new(), calls: Vec::new(), answers: BTreeMap::new(), shots };
        for shot in shots {
            let fired = match shot.protocol {
                Protocol::Icmp => volley.send_echo(shot),
                Protocol::Tcp => volley.call(shot),
            };
            if let Err(errno) = fired {
                volley.answers.insert(shot.ticket, Err(refusal(errno)));
            }
        }
        volley
    }

    fn send_echo(&mut self, shot: &Shot) -> Result<(), Errno> {
        let family = Family::of(shot.target);
        let raw = match self.raw.entry(family) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => none.insert(socket::raw(family)?),
        };
        socket::send_to(raw, &request(family, shot.ticket), shot.target)
    }

    fn call(&mut self, shot: &'a Shot) -> Result<(), Errno> {
        self.calls.push(Call::begin(shot)?);
        Ok(())
    }

    /// Takes answers until all are there or the time is up.
    fn collect(mut self, within: Duration) -> BTreeMap<Ticket, Answer> {
        let deadline = Instant::now() + within;
        while self.answers.len() < self.shots.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let mut ready = self.wait(left).into_iter();
            self.hear_echoes();
            let answers = &mut self.answers;
            self.calls.retain_mut(|call| {
                let answer = if ready.next() == Some(true) { call.step() } else { None };
                let goes_on = answer.is_none();
                answers.extend(answer.map(|answer| (call.ticket(), answer)));
                goes_on
            });
        }
        self.answers.extend(self.calls.into_iter().map(|call| (call.ticket(), Err(call.give_up()))));
        for shot in self.shots {
            self.answers.entry(shot.ticket).or_insert(Err(Reason::TimedOut));
        }
        self.answers
    }

    /// Waits until something has come, and says at which of the calls.
    fn wait(&self, at_most: Duration) -> Vec<bool> {
        let raw = self.raw.values().map(|raw| PollFd::new(raw, PollFlags::IN));
        let mut watched: Vec<PollFd<'_>> = raw.chain(self.calls.iter().map(Call::awaited)).collect();
        // After an interrupted wait nothing is ready: the caller looks at the clock and waits again.
        poll(&mut watched, Timespec::try_from(at_most).ok().as_ref()).ok();
        watched.iter().skip(self.raw.len()).map(|fd| !fd.revents().is_empty()).collect()
    }

    fn hear_echoes(&mut self) {
        for (&family, raw) in &self.raw {
            while let Some((packet, sender)) = socket::receive_from(raw) {
                let (ticket, answer) = match parse(family, &packet) {
                    Some(Message::Reply(ticket)) => (ticket, Ok(None)),
                    Some(Message::Undeliverable(ticket)) => (ticket, Err(Reason::Unreachable { by: sender })),
                    Some(Message::Request(_)) | None => continue,
                };
                // Raw sockets see everybody's messages: only the first answer to a shot of this volley counts.
                if self.shots.iter().any(|shot| shot.ticket == ticket) {
                    self.answers.entry(ticket).or_insert(answer);
                }
            }
        }
    }
}

/// What the system said, in words.
pub(super) fn refusal(errno: Errno) -> Reason {
    let text = std::io::Error::from(errno).to_string();
    Reason::System(text.split(" (os error").next().unwrap_or(&text).to_lowercase())
}
