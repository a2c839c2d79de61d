//! From the nodes to the device.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread;

use selvedge_packet::Joiner;

use crate::codec::{Codec, Lane};
use crate::shared::{Shared, View};
use crate::socket::Socket;

/// No batch is longer.
pub(crate) const BUFFER: usize = 65_535;

/// Starts to take what comes by these sockets, until others take their place.
pub(crate) fn start<C: Codec>(shared: &Arc<Shared<C>>, sockets: &Arc<Vec<Socket>>) -> io::Result<()> {
    for index in 0..sockets.len() {
        let (shared, sockets) = (Arc::clone(shared), Arc::clone(sockets));
        thread::Builder::new().name("inward".to_owned()).spawn(move || take(&shared, &sockets, index))?;
    }
    Ok(())
}

fn take<C: Codec>(shared: &Shared<C>, sockets: &Arc<Vec<Socket>>, index: usize) {
    let (Some(queue), Some(socket)) = (shared.queues().get(index), sockets.get(index)) else { return };
    let lane = Lane { queue, socket, counters: &shared.counters };
    let mut view = View::new(shared);
    let mut own = C::Inward::default();
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
        active.codec.inward(&mut own, &lane, (&mut buffer[..batch.length], batch));
    }
}

/// Gives the device the packets in a buffer, joined where they can be.
pub(crate) fn deliver(joiner: &Joiner, buffer: &mut [u8], lane: &Lane<'_>) {
    let counters = lane.counters;
    joiner.finish(buffer, |buffer, joined| {
        let header = joined.offload.bytes();
        let mut parts = Vec::with_capacity(joined.pieces.len() + 1);
        parts.push(IoSlice::new(&header));
        parts.extend(joined.pieces.iter().map(|piece| IoSlice::new(&buffer[piece.clone()])));
        match lane.queue.write(&parts) {
            Ok(()) => {
                counters.received_packets.add(joined.pieces.len());
                counters.received_bytes.add(parts[1..].iter().map(|part| part.len()).sum());
            }
            Err(_refused) => counters.dropped_device.add(joined.pieces.len()),
        }
    });
}
