//! What is due from time to time: sessions made anew, signs of life, answers that are asked for again.

use selvedge_packet::{Message, SEALED};

use super::Sessions;
use super::tunnel::{Due, MESSAGE};
use crate::counters::Counters;
use crate::sending::Sending;
use crate::socket::Socket;

impl Sessions {
    pub(super) fn do_what_is_due(&self, socket: &Socket, counters: &Counters) {
        self.own.limiter.reset_count();
        self.own.unlimited.reset_count();
        let mut room = [0; MESSAGE];
        for peer in &self.peers {
            let Some(mut entered) = peer.tunnel.enter() else { continue };
            match entered.due(&mut room) {
                Due::Message(message) => {
                    Sending::new((socket, counters), peer.endpoint, SEALED).message(message);
                    if Message::of(message) == Some(Message::Initiation) {
                        counters.handshakes_begun.add(1);
                    }
                }
                Due::Forlorn(packets) => counters.dropped_no_session.add(packets),
                Due::Nothing => {}
            }
        }
    }
}
