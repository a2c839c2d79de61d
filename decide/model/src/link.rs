//! MAC addresses and MTUs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An Ethernet address, printed as six lower-case hex pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// The text is no usable MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no unicast MAC address of the form 0a:58:0a:f4:00:05")]
pub struct MacError {
    /// The text as given.
    pub value: String,
}

/// Which end of a pod's veth pair an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VethEnd {
    /// The end in the pod's namespace.
    Pod,
    /// The end in the node's namespace.
    Host,
}

impl MacAddr {
    /// The locally administered address of one end of a pod's veth, derived from the pod's first IP address.
    ///
    /// IPv4 fills the last four bytes; of IPv6, four bytes of its SHA-256 do.
    pub fn of_pod(address: IpAddr, end: VethEnd) -> Self {
        let tail: [u8; 4] = match address {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(v6) => first_four(&v6.octets()),
        };
        let head = match end {
            VethEnd::Pod => [0x0a, 0x58],
            VethEnd::Host => [0x0e, 0x58],
        };
        Self([head[0], head[1], tail[0], tail[1], tail[2], tail[3]])
    }

    /// The locally administered address of a device of ours that serves no single pod, derived from a text that
    /// is unique to it on its segment (a bridge's gateway address, a node's name).
    pub fn of_device(seed: &str) -> Self {
        let tail = first_four(seed.as_bytes());
        Self([0x0a, 0x5e, tail[0], tail[1], tail[2], tail[3]])
    }

    /// True unless it is a group address or all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

fn first_four(bytes: &[u8]) -> [u8; 4] {
    let hash = Sha256::digest(bytes);
    [hash[0], hash[1], hash[2], hash[3]]
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    /// Reads six hex pairs joined by `:` or `-`; group addresses and all zeroes are refused.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let refused = || MacError { value: text.to_owned() };
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(refused)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_not_hex| refused())?;
        }
        let mac = Self(bytes);
        if parts.next().is_some() || !mac.is_unicast() {
            return Err(refused());
        }
        Ok(mac)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// A link's maximum transmission unit in bytes, 1280 to 65535 (1280 is the least that IPv6 works with, RFC 8200
/// section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

/// The number is no usable MTU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MTU {value} is outside 1280 to 65535")]
pub struct MtuError {
    /// The number as given.
    pub value: u32,
}

impl Mtu {
    /// The least that there is.
    pub const LEAST: Self = Self(1280);

    /// Ethernet's 1500.
    pub const ETHERNET: Self = Self(1500);

    /// Checks the bounds.
    pub fn new(bytes: u32) -> Result<Self, MtuError> {
        if (1280..=65535).contains(&bytes) { Ok(Self(bytes)) } else { Err(MtuError { value: bytes }) }
    }

    /// The number of bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for Mtu {
    type Error = MtuError;

    fn try_from(bytes: u32) -> Result<Self, MtuError> {
        Self::new(bytes)
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_mac_carries_its_address_and_is_local_and_unicast() {
        let mac = MacAddr::of_pod("10.244.1.7".parse().unwrap(), VethEnd::Pod);
        assert_eq!(mac.to_string(), "0a:58:0a:f4:01:07");
        let six = MacAddr::of_pod("fd00::7".parse().unwrap(), VethEnd::Host);
        assert!(six.is_unicast() && six.0[0] & 2 == 2);
    }

    #[test]
    fn group_and_zero_addresses_are_refused() {
        for bad in
            ["01:00:5e:00:00:01", "00:00:00:00:00:00", "0a:58", "0a:58:0a:f4:01:7", "0a:58:0a:f4:01:07:08"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad} was accepted");
        }
        assert_eq!("0A-58-0a-f4-01-07".parse::<MacAddr>().unwrap().to_string(), "0a:58:0a:f4:01:07");
    }
}
