//! From the device to the nodes.

use std::io;

use selvedge_packet::{Ends, Offload};

use crate::codec::{Codec, Lane, Parcel};
use crate::device::Queue;
use crate::error::ForwardError;
use crate::shared::{Shared, View};
use crate::task::Task;

/// The longest packet, with the device's header.
const BUFFER: usize = Offload::LENGTH + 65_535;

/// Sends what a queue of the device has, until the device is gone.
pub(crate) fn forward<C: Codec>(shared: &Shared<C>, index: usize) -> ForwardError {
    let name = || C::Task::DEVICE.to_owned();
    let Some(queue) = shared.queues().get(index) else { return ForwardError::Gone { name: name() } };
    let mut view = View::new(shared);
    let mut own = C::Outward::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match next(queue, &mut buffer) {
            Ok(Some(length)) => length,
            Ok(None) => return ForwardError::Gone { name: name() },
            Err(source) => return ForwardError::Device { name: name(), source },
        };
        let counters = &shared.counters;
        let Some(parcel) = parcel(&mut buffer[..length]) else {
            counters.dropped_malformed.add(1);
            continue;
        };
        let active = view.now().and_then(|active| Some((&active.codec, active.sockets.get(index)?)));
        match active {
            Some((codec, socket)) => codec.outward(&mut own, &Lane { queue, socket, counters }, parcel),
            None => counters.dropped_no_peer.add(1),
        }
    }
}

/// The next packet; a signal is no end.
fn next(queue: &Queue, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match queue.read(buffer) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn parcel(bytes: &mut [u8]) -> Option<Parcel<'_>> {
    let (offload, packet) = bytes.split_first_chunk_mut()?;
    Some(Parcel { offload: Offload::read(offload)?, ends: Ends::of(packet)?, packet })
}
