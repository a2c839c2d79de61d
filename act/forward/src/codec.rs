//! What differs between the forwarders: what they make of what they are told, and of packets.

use std::path::Path;
use std::time::Duration;

use selvedge_packet::{Ends, Offload};

use crate::counters::Counters;
use crate::device::Queue;
use crate::error::ForwardError;
use crate::kernel::Batch;
use crate::socket::{Listen, Socket};
use crate::task::Task;

/// A state in force, and how packets pass in it.
pub(crate) trait Codec: Send + Sync + Sized + 'static {
    /// What is told.
    type Task: Task;
    /// What a thread has that takes packets from the device.
    type Outward: Default;
    /// What a thread has that takes packets from the network.
    type Inward: Default;
    /// Whether the device is made before anything is told.
    const FROM_START: bool;
    /// How often it is looked what is due; `None` where nothing ever is.
    const TICK: Option<Duration>;

    /// The state that is told, which is not in force yet. `before` is.
    fn of(
        told: &Self::Task,
        before: Option<(&Self::Task, &Self)>,
        run_dir: &Path,
    ) -> Result<Self, ForwardError>;

    /// Where packets come in.
    fn listen(told: &Self::Task) -> Listen;

    /// It is in force from now on, in the place of what was before.
    fn begin(&self, before: Option<&Self>, counters: &Counters);

    /// Sends a packet of the device to where it belongs.
    fn outward(&self, own: &mut Self::Outward, lane: &Lane<'_>, parcel: Parcel<'_>);

    /// Gives the device what came from the network in one go: the beginning of `buffer`.
    fn inward(&self, own: &mut Self::Inward, lane: &Lane<'_>, came: (&mut [u8], Batch));

    /// Does what is due.
    fn tick(&self, socket: &Socket, counters: &Counters);
}

/// One of the ways that packets take side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) socket: &'a Socket,
    pub(crate) counters: &'a Counters,
}

/// A packet of the device.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    pub(crate) packet: &'a mut [u8],
    pub(crate) offload: Offload,
    pub(crate) ends: Ends,
}
