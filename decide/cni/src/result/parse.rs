//! Reading results of every version, ours and others'.

use ipnet::IpNet;
use serde_json::Value;

use super::{AddResult, Interface, Ip, Route};
use crate::conf::{pod_address, refuse_attributes};
use crate::dns::Dns;
use crate::error::{CniError, code};
use crate::json::{Field, Object};
use crate::version::{Shape, Version};

impl AddResult {
    /// Reads a result in the version that it states, or in `assumed` if it states none. `null` is an empty result.
    ///
    /// Fails with code 1 on an unknown version, 7 on a malformed part or an index of no interface.
    pub fn parse(value: &Value, assumed: Version) -> Result<Self, CniError> {
        let Some(object) = result_object(value)? else { return Ok(Self::default()) };
        let result = read(&object, assumed, For::Report)?;
        match result.ips.iter().find(|ip| ip.interface.is_some_and(|i| i >= result.interfaces.len())) {
            Some(ip) => {
                let message = format!("ips: the interface of {} is not among the interfaces", ip.address);
                Err(CniError::new(code::CONFIG, message))
            }
            None => Ok(result),
        }
    }

    /// Reads what an IPAM plugin answered: it makes no interfaces, so whatever it says of them is left out. What we
    /// can't give a pod is refused: addresses that are not for pods, and routes with more than a gateway.
    pub(crate) fn of_ipam(value: &Value, assumed: Version) -> Result<Self, CniError> {
        let Some(object) = result_object(value)? else { return Ok(Self::default()) };
        let mut result = read(&object, assumed, For::OurPod)?;
        result.interfaces.clear();
        for ip in &mut result.ips {
            ip.interface = None;
        }
        Ok(result)
    }
}

fn result_object(value: &Value) -> Result<Option<Object<'_>>, CniError> {
    if value.is_null() {
        return Ok(None);
    }
    let no_object = || CniError::new(code::CONFIG, "a result must be a JSON object");
    Object::root(value).map(Some).ok_or_else(no_object)
}

/// What a result is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// To know what somebody did, whatever that is.
    Report,
    /// To do it.
    OurPod,
}

impl For {
    fn address(self, field: &Field<'_>) -> Result<IpNet, CniError> {
        if self == Self::OurPod { pod_address(field) } else { field.cidr() }
    }

    fn route(self, route: &Object<'_>) -> Result<Route, CniError> {
        if self == Self::OurPod {
            refuse_attributes(route)?;
        }
        Ok(Route { dst: route.need("dst")?.cidr()?, gw: route.ip("gw")? })
    }
}

fn read(object: &Object<'_>, assumed: Version, purpose: For) -> Result<AddResult, CniError> {
    let version = Version::maybe_stated_in(object)?.unwrap_or(assumed);
    let mut result = AddResult { dns: Dns::stated_in(object)?, ..AddResult::default() };
    match version.shape() {
        Shape::PerFamily => {
            for key in ["ip4", "ip6"] {
                let Some(family) = object.object(key)? else { continue };
                let address = purpose.address(&family.need("ip")?)?;
                result.ips.push(Ip { interface: None, address, gateway: family.ip("gateway")? });
                result.routes.extend(each(&family, "routes", |route| purpose.route(route))?);
            }
        }
        Shape::Versioned | Shape::Plain => {
            result.interfaces = each(object, "interfaces", interface)?;
            result.ips = each(object, "ips", |object| ip(object, purpose))?;
            result.routes = each(object, "routes", |route| purpose.route(route))?;
        }
    }
    Ok(result)
}

fn each<T>(
    object: &Object<'_>,
    key: &str,
    read: impl Fn(&Object<'_>) -> Result<T, CniError>,
) -> Result<Vec<T>, CniError> {
    object.list(key)?.iter().map(|item| read(&item.object()?)).collect()
}

fn interface(object: &Object<'_>) -> Result<Interface, CniError> {
    Ok(Interface {
        name: object.text("name")?.unwrap_or_default().to_owned(),
        mac: object.text("mac")?.and_then(|mac| mac.parse().ok()),
        sandbox: object.text("sandbox")?.map(str::to_owned),
        mtu: narrow(object.get("mtu"))?.filter(|mtu| *mtu > 0),
    })
}

fn ip(object: &Object<'_>, purpose: For) -> Result<Ip, CniError> {
    Ok(Ip {
        interface: narrow(object.get("interface"))?,
        address: purpose.address(&object.need("address")?)?,
        gateway: object.ip("gateway")?,
    })
}

fn narrow<T: TryFrom<u64>>(field: Option<Field<'_>>) -> Result<Option<T>, CniError> {
    let Some(field) = field else { return Ok(None) };
    let number = T::try_from(field.whole()?).ok();
    number.map(Some).ok_or_else(|| field.wrong("is too great"))
}
