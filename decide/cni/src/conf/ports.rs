//! The capability `portMappings`.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

use selvedge_model::{HostIp, PortMapping, Transport};

use crate::error::CniError;
use crate::json::Object;

/// The mappings that name a host port; those with port 0 or none ask for nothing. Two that say the same count once.
pub(super) fn port_mappings(runtime: &Object<'_>) -> Result<Vec<PortMapping>, CniError> {
    let mut mappings: Vec<PortMapping> = Vec::new();
    for field in runtime.list("portMappings")? {
        let object = field.object()?;
        let Some(mapping) = port_mapping(&object)? else { continue };
        if mappings.iter().any(|earlier| earlier.contradicts(&mapping)) {
            let port = object.need("hostPort")?;
            return Err(port.wrong(format_args!("is published twice for {}", mapping.transport)));
        }
        if !mappings.contains(&mapping) {
            mappings.push(mapping);
        }
    }
    Ok(mappings)
}

fn port_mapping(mapping: &Object<'_>) -> Result<Option<PortMapping>, CniError> {
    let (host, container) = (port(mapping, "hostPort")?, port(mapping, "containerPort")?);
    let transport = match mapping.text("protocol")? {
        None => Transport::Tcp,
        Some(text) => {
            let named = Transport::ALL.into_iter().find(|t| t.to_string().eq_ignore_ascii_case(text));
            named.ok_or(mapping.need("protocol")?.wrong("is none of tcp, udp and sctp"))?
        }
    };
    let address = mapping.ip("hostIP")?;
    let Some(host_port) = host else { return Ok(None) };
    let Some(container_port) = container else {
        return Err(mapping.need("hostPort")?.wrong("is mapped to no containerPort"));
    };
    if address == Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
        let why = "the kernel carries nothing between ::1 and a pod; 127.0.0.1 works";
        return Err(mapping.need("hostIP")?.unsupported(why));
    }
    let host_ip = address.map_or(HostIp::Any, HostIp::of);
    Ok(Some(PortMapping { transport, host_ip, host_port, container_port }))
}

fn port(mapping: &Object<'_>, key: &str) -> Result<Option<NonZeroU16>, CniError> {
    let Some(field) = mapping.get(key) else { return Ok(None) };
    let port = u16::try_from(field.whole()?).map_err(|_too_great| field.wrong("is no port"))?;
    Ok(NonZeroU16::new(port))
}

#[cfg(test)]
mod tests;
