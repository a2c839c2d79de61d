//! The plugin as programs call it that nobody here wrote: what they hand over, what they make of the answer, and that
//! nothing is left when they are done. `make clients` unpacks or builds them; where one is not there, its tests say so.
//!
//! - `cnitool`: every verb in every version of the protocol, decoded by the types of the Go library; chains with the
//!   reference plugins, and those as our IPAM
//! - `containerd`: containerd, by its own CNI client and as the kubelet speaks to it
//! - `podman`: podman with its CNI backend
#![cfg(test)]

mod cnitool;
mod containerd;
mod ip;
mod podman;
