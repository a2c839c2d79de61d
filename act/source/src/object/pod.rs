//! Pods.

use std::num::NonZeroU16;

use selvedge_model::{ContainerPort, Pod, PodKey, Transport};

use super::{annotation, filled, labels};
use crate::yaml::{Field, Located};

pub(super) fn read(manifest: &Field<'_>, key: PodKey) -> Result<Pod, Located> {
    let metadata = manifest.require("metadata")?;
    let uid = filled(&metadata, "uid")?.map(|uid| uid.text().map(str::to_owned)).transpose()?;
    let mut mirror = None;
    for name in Pod::MIRRORS {
        let hash = annotation(&metadata, name)?.map(|hash| hash.text().map(Box::from)).transpose()?;
        mirror = mirror.or(hash);
    }
    let mut pod = Pod {
        key,
        uid,
        mirror,
        node: None,
        labels: labels(&metadata)?,
        addresses: Vec::new(),
        host_network: false,
        finished: false,
        ports: Vec::new(),
    };
    if let Some(spec) = manifest.get("spec")? {
        pod.node = filled(&spec, "nodeName")?.map(|name| name.parse()).transpose()?;
        let host_network = spec.get("hostNetwork")?.map(|value| value.boolean()).transpose()?;
        pod.host_network = host_network.unwrap_or(false);
        pod.ports = named_ports(&spec)?;
    }
    if let Some(status) = manifest.get("status")? {
        pod.addresses = match status.get("podIPs")? {
            Some(list) => {
                list.items()?.map(|item| item.require("ip")?.address()).collect::<Result<_, _>>()?
            }
            None => filled(&status, "podIP")?.map(|ip| ip.address()).transpose()?.into_iter().collect(),
        };
        pod.finished =
            filled(&status, "phase")?.map(|phase| phase.text()).transpose()?.is_some_and(Pod::is_final);
    }
    Ok(pod)
}

/// The ports that a policy may name: of the containers, and of those init containers that go on beside them.
fn named_ports(spec: &Field<'_>) -> Result<Vec<ContainerPort>, Located> {
    let mut ports = Vec::new();
    for key in ["containers", "initContainers"] {
        let Some(containers) = spec.get(key)? else { continue };
        for container in containers.items()? {
            let goes_on = key == "containers"
                || filled(&container, "restartPolicy")?.is_some_and(|policy| policy.text() == Ok("Always"));
            let Some(list) = container.get("ports")?.filter(|_| goes_on) else { continue };
            for port in list.items()? {
                ports.extend(named_port(&port)?);
            }
        }
    }
    Ok(ports)
}

fn named_port(port: &Field<'_>) -> Result<Option<ContainerPort>, Located> {
    let Some(name) = filled(port, "name")? else { return Ok(None) };
    let transport = match filled(port, "protocol")? {
        None => Transport::Tcp,
        Some(protocol) => {
            let text = protocol.text()?;
            let rule = "is no protocol with ports: TCP, UDP or SCTP";
            Transport::of_kubernetes(text).ok_or_else(|| protocol.refuse(text, rule))?
        }
    };
    let field = port.require("containerPort")?;
    let number = field.number()?;
    let rule = "is no port: 1 to 65535";
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    let number = port.ok_or_else(|| field.refuse(&number.to_string(), rule))?;
    Ok(Some(ContainerPort { name: name.text()?.into(), transport, number }))
}
