//! Whole agents at work: what they repair, how they come and go, and every path of the lab.
//!
//! - `api`: what follows the Kubernetes API, whatever an API server does; `apiserver`: a real one, where there is one
//! - `check`: what is said of a node before
//! - `drift`: what others break is back within a second, and the agent names it
//! - `elsewhere`: peers' routes that lead elsewhere
//! - `install`: what the agent puts on the disk
//! - `limits`: pods with limits, and what those leave
//! - `logs`: what is logged and counted of what policies deny, and shadows that only say what they would
//! - `policy`: NetworkPolicies, from the first packet of a pod to the last of a flow that they forbid
//! - `ports`: published ports beside an agent
//! - `restart`: kills, ends, and what changed while no agent ran
//! - `standing`: what the API is told of the Node
//! - `transports`: labs with every transport on one segment and two, and what changes of one under traffic
//! - `trying`: what a policy would do, told before
//! - `tunnel`: the forwarders, of the udp transport and of WireGuard
//! - `udp`: nodes that reach each other in plain UDP
//! - `uninstall`: what stays when we go
//! - `wireguard`: nodes that encrypt, and what is seen of that between them
//! - `matrix`: the lab, in each mode of attachment and each choice of families
#![cfg(test)]

mod api;
mod apiserver;
mod check;
mod drift;
mod elsewhere;
mod following;
mod injection;
mod install;
mod limits;
mod logs;
mod matrix;
mod policy;
mod ports;
mod reach;
mod restart;
mod site;
mod standing;
mod transports;
mod trying;
mod tunnel;
mod udp;
mod uninstall;
mod wireguard;
