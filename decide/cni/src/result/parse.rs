//! Reading results of every version, ours and others'.

use serde_json::Value;

use super::{AddResult, Interface, Ip, Route};
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
        let result = read(&object, assumed)?;
        match result.ips.iter().find(|ip| ip.interface.is_some_and(|i| i >= result.interfaces.len())) {
            Some(ip) => {
                let message = format!("ips: the interface of {} is not among the interfaces", ip.address);
                Err(CniError::new(code::CONFIG, message))
            }
            None => Ok(result),
        }
    }

    /// Reads what an IPAM plugin answered: it makes no interfaces, so whatever it says of them is left out.
    pub(crate) fn of_ipam(value: &Value, assumed: Version) -> Result<Self, CniError> {
        let Some(object) = result_object(value)? else { return Ok(Self::default()) };
        let mut result = read(&object, assumed)?;
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

fn read(object: &Object<'_>, assumed: Version) -> Result<AddResult, CniError> {
    let version = Version::maybe_stated_in(object)?.unwrap_or(assumed);
    let mut result = AddResult { dns: Dns::stated_in(object)?, ..AddResult::default() };
    match version.shape() {
        Shape::PerFamily => {
            for key in ["ip4", "ip6"] {
                let Some(family) = object.object(key)? else { continue };
                let address = family.need("ip")?.cidr()?;
                result.ips.push(Ip { interface: None, address, gateway: family.ip("gateway")? });
                result.routes.extend(routes(&family)?);
            }
        }
        Shape::Versioned | Shape::Plain => {
            result.interfaces = each(object, "interfaces", interface)?;
            result.ips = each(object, "ips", ip)?;
            result.routes = routes(object)?;
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

fn ip(object: &Object<'_>) -> Result<Ip, CniError> {
    Ok(Ip {
        interface: narrow(object.get("interface"))?,
        address: object.need("address")?.cidr()?,
        gateway: object.ip("gateway")?,
    })
}

fn routes(object: &Object<'_>) -> Result<Vec<Route>, CniError> {
    each(object, "routes", |route| Ok(Route { dst: route.need("dst")?.cidr()?, gw: route.ip("gw")? }))
}

fn narrow<T: TryFrom<u64>>(field: Option<Field<'_>>) -> Result<Option<T>, CniError> {
    let Some(field) = field else { return Ok(None) };
    let number = T::try_from(field.whole()?).ok();
    number.map(Some).ok_or_else(|| field.wrong("is too great"))
}
