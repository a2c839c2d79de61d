//! From the nodes to the device.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use selvedge_packet::{Ends, Joiner, Unwelcome};

use crate::device::Queue;
use crate::shared::{Shared, View};
use crate::socket::Socket;

/// No batch is longer.
const BUFFER: usize = 65_535;

/// Starts to take what comes by these sockets, until others take their place.
pub(crate) fn start(shared: &Arc<Shared>, sockets: &Arc<Vec<Socket>>) -> io::Result<()> {
    for index in 0..sockets.len() {
        let (shared, sockets) = (Arc::clone(shared), Arc::clone(sockets));
        thread::Builder::new().name("inward".to_owned()).spawn(move || take(&shared, &sockets, index))?;
    }
    Ok(())
}

fn take(shared: &Shared, sockets: &Arc<Vec<Socket>>, index: usize) {
    let (Some(queue), Some(socket)) = (shared.queues.get(index), sockets.get(index)) else { return };
    let mut view = View::new(shared);
    let mut inward = Inward { shared, queue, joiner: Joiner::default() };
    let mut buffer = vec![0; BUFFER];
    loop {
        // What fails is told by what does not arrive; a timeout is no failure.
        let batch = socket.receive(&mut buffer).ok().flatten();
        let Some(active) = view.now() else { continue };
        let Some(batch) = batch else {
            if Arc::ptr_eq(&active.sockets, sockets) {
                continue;
            }
            return;
        };
        let admit = |ends: &Ends| active.peers.admit(batch.from, ends);
        inward.batch(&mut buffer[..batch.length], batch.segment, admit);
    }
}

/// A thread's own.
struct Inward<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
    joiner: Joiner,
}

impl Inward<'_> {
    /// Gives the device those packets of a batch that are welcome.
    fn batch(&mut self, buffer: &mut [u8], segment: usize, admit: impl Fn(&Ends) -> Result<(), Unwelcome>) {
        let counters = &self.shared.counters;
        self.joiner.clear();
        for start in (0..buffer.len()).step_by(segment) {
            let place: Range<usize> = start..(start + segment).min(buffer.len());
            let Some(ends) = Ends::of(&buffer[place.clone()]) else {
                counters.dropped_malformed.add(1);
                continue;
            };
            match admit(&ends) {
                Ok(()) => self.joiner.push(buffer, place),
                Err(Unwelcome::Stranger) => counters.dropped_stranger.add(1),
                Err(Unwelcome::Source) => counters.dropped_source.add(1),
            }
        }
        self.joiner.finish(buffer, |buffer, joined| {
            let header = joined.offload.bytes();
            let mut parts = Vec::with_capacity(joined.pieces.len() + 1);
            parts.push(IoSlice::new(&header));
            parts.extend(joined.pieces.iter().map(|piece| IoSlice::new(&buffer[piece.clone()])));
            match self.queue.write(&parts) {
                Ok(()) => {
                    counters.received_packets.add(joined.pieces.len());
                    counters.received_bytes.add(parts[1..].iter().map(|part| part.len()).sum());
                }
                Err(_refused) => counters.dropped_device.add(joined.pieces.len()),
            }
        });
    }
}
