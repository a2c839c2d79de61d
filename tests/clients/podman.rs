//! podman 4.3.1 and its CNI backend, unpacked and run on a machine of its own: what podman wants of a network, by
//! podman's commands, and that nothing is left of it afterwards.
//!
//! - `attach`: run, reach, restart and remove, on networks as users write them
//! - `demands`: addresses and hardware addresses that are asked for
//! - `networks`: several networks, networks that come and go, what podman makes of our conflist
//! - `killed`: kill -9 of containers, and of podman at work
//! - `ports`: published ports
//! - `sent`: what podman hands to the plugin

mod attach;
mod demands;
mod host;
mod killed;
mod networks;
mod ports;
mod sent;
