//! What a runtime wishes for one attachment: addresses and a MAC, from any of three places; and CNI_ARGS, one of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use selvedge_model::{MacAddr, PodKey, PodTag};

use crate::error::{CniError, code};

/// An address that the runtime asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedIp {
    /// The address.
    pub ip: IpAddr,
    /// The prefix length, where one was given.
    pub prefix: Option<u8>,
}

/// The text is neither an address nor an address with a prefix length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no address such as 10.244.1.7 or 10.244.1.7/24")]
pub struct RequestedIpError {
    /// The text as given.
    pub value: String,
}

/// What is asked for; nothing, mostly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requested {
    /// Addresses, each of which must be given or the request refused; none twice.
    pub ips: Vec<RequestedIp>,
    /// The MAC address of the container's interface.
    pub mac: Option<MacAddr>,
}

/// CNI_ARGS. Every part is optional: podman gives only the pod's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CniArgs {
    /// IP (several with commas between them) and MAC.
    pub requested: Requested,
    /// K8S_POD_NAMESPACE
    pub pod_namespace: Option<String>,
    /// K8S_POD_NAME
    pub pod_name: Option<String>,
    /// K8S_POD_UID
    pub pod_uid: Option<String>,
    /// K8S_POD_INFRA_CONTAINER_ID
    pub pod_infra_container: Option<String>,
}

impl Requested {
    /// Adds an address unless it is there already.
    pub(crate) fn add(&mut self, ip: RequestedIp) {
        if self.ips.iter().all(|there| there.ip != ip.ip) {
            self.ips.push(ip);
        }
    }
}

impl CniArgs {
    /// Reads `KEY=VALUE;KEY=VALUE`. Fails with code 4 on a part without exactly one `=`, on a malformed value, and,
    /// unless IgnoreUnknown is set, on an unknown key.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let mut args = Self::default();
        let mut unknown = None;
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|_| !text.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
                .ok_or_else(|| wrong(format!("part {pair:?} is not of the form KEY=VALUE")))?;
            match key {
                "IgnoreUnknown" => ignore_unknown = flag(value)?,
                _ if args.take(key, value)? => {}
                _ => unknown = unknown.or(Some(key)),
            }
        }
        match unknown {
            Some(key) if !ignore_unknown => {
                Err(wrong(format!("unknown key {key:?}, and IgnoreUnknown is not set")))
            }
            _ => Ok(args),
        }
    }

    /// The pod, if namespace and name are both given.
    pub fn pod(&self) -> Option<PodKey> {
        let (namespace, name) = self.pod_namespace.clone().zip(self.pod_name.clone())?;
        Some(PodKey { namespace, name })
    }

    /// The tag of that pod.
    pub fn pod_tag(&self) -> Option<PodTag> {
        self.pod().map(|key| PodTag::new(&key, self.pod_uid.as_deref()))
    }

    /// Puts a value in its place; false if the key is unknown.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, CniError> {
        let place = match key {
            "IP" => return self.take_ips(value).map(|()| true),
            "MAC" => {
                let mac =
                    (!value.is_empty()).then(|| value.parse().map_err(|why| wrong(format!("MAC {why}"))));
                self.requested.mac = mac.transpose()?;
                return Ok(true);
            }
            "K8S_POD_NAMESPACE" => &mut self.pod_namespace,
            "K8S_POD_NAME" => &mut self.pod_name,
            "K8S_POD_UID" => &mut self.pod_uid,
            "K8S_POD_INFRA_CONTAINER_ID" => &mut self.pod_infra_container,
            _ => return Ok(false),
        };
        *place = (!value.is_empty()).then(|| value.to_owned());
        Ok(true)
    }

    fn take_ips(&mut self, value: &str) -> Result<(), CniError> {
        for ip in value.split(',').filter(|ip| !ip.is_empty()) {
            self.requested.add(ip.parse().map_err(|why| wrong(format!("IP {why}")))?);
        }
        Ok(())
    }
}

fn flag(value: &str) -> Result<bool, CniError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(wrong(format!("IgnoreUnknown {value:?} is neither true nor false"))),
    }
}

fn wrong(why: String) -> CniError {
    CniError::new(code::ENVIRONMENT, format!("CNI_ARGS: {why}"))
}

impl FromStr for RequestedIp {
    type Err = RequestedIpError;

    fn from_str(text: &str) -> Result<Self, RequestedIpError> {
        let refused = || RequestedIpError { value: text.to_owned() };
        if text.contains('/') {
            let net: IpNet = text.parse().map_err(|_unspecific| refused())?;
            return Ok(Self { ip: net.addr(), prefix: Some(net.prefix_len()) });
        }
        let ip: IpAddr = text.parse().map_err(|_unspecific| refused())?;
        Ok(Self { ip: ip.to_canonical(), prefix: None })
    }
}

impl fmt::Display for RequestedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
