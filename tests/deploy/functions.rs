//! Terraform's functions, as far as the files in `deploy/terraform` call them.
//!
//! What fails is null, which `can` asks for: Terraform stops there, and nothing that a test compares is null.

use std::net::Ipv4Addr;

use hcl::Value;
use hcl::eval::{Context, FuncDef, ParamType};
use ipnet::Ipv4Net;
use regex::Regex;

/// What a function makes of its arguments.
type Function = fn(&[Value]) -> Option<Value>;

/// Declares every function.
pub(crate) fn declare(context: &mut Context<'_>) {
    macro_rules! declare {
        ($($name:literal: $function:expr;)*) => {$(
            context.declare_func($name, FuncDef::builder().variadic_param(ParamType::Any).build(|arguments| {
                const FUNCTION: Function = $function;
                Ok(FUNCTION(&arguments).unwrap_or(Value::Null))
            }));
        )*};
    }
    declare! {
        "alltrue": |a| Some(a.first()?.as_array()?.iter().all(|value| value.as_bool() == Some(true)).into());
        "can": |a| Some((!a.first()?.is_null()).into());
        "cidrhost": |a| host(net(a)?, number(a, 1)?);
        "cidrsubnet": |a| subnet(net(a)?, number(a, 1)?, number(a, 2)?);
        "floor": |a| Some(a.first()?.as_f64()?.floor().into());
        "join": |a| join(text(a, 0)?, a.get(1)?.as_array()?);
        "jsonencode": |a| serde_json::to_string(a.first()?).ok().map(Value::from);
        "length": |a| length(a.first()?);
        "range": |a| Some((0..number(a, 0)?).collect());
        "regex": |a| Some(Regex::new(text(a, 0)?).ok()?.find(text(a, 1)?)?.as_str().into());
        "slice": |a| Some(a.first()?.as_array()?.get(index(a, 1)?..index(a, 2)?)?.to_vec().into());
        "split": |a| Some(text(a, 1)?.split(text(a, 0)?).collect());
        "tonumber": |a| Some(text(a, 0)?.parse::<u32>().ok()?.into());
        "toset": |a| a.first().cloned();
        // What is JSON is YAML.
        "yamlencode": |a| serde_json::to_string(a.first()?).ok().map(|text| Value::from(text + "\n"));
    }
}

fn text(arguments: &[Value], place: usize) -> Option<&str> {
    arguments.get(place)?.as_str()
}

fn number(arguments: &[Value], place: usize) -> Option<u32> {
    arguments.get(place)?.as_u64().and_then(|number| number.try_into().ok())
}

fn index(arguments: &[Value], place: usize) -> Option<usize> {
    number(arguments, place)?.try_into().ok()
}

fn net(arguments: &[Value]) -> Option<Ipv4Net> {
    text(arguments, 0)?.parse::<Ipv4Net>().ok().map(|net| net.trunc())
}

/// The address of that number in a network.
fn host(net: Ipv4Net, number: u32) -> Option<Value> {
    let address = Ipv4Addr::from(u32::from(net.network()).checked_add(number)?);
    net.contains(&address).then(|| address.to_string().into())
}

/// The network of that number among those that are longer by so many bits.
fn subnet(net: Ipv4Net, bits: u32, number: u32) -> Option<Value> {
    let length = net.prefix_len().checked_add(bits.try_into().ok()?)?;
    let subnet = net.subnets(length).ok()?.nth(number.try_into().ok()?)?;
    Some(subnet.to_string().into())
}

fn join(between: &str, parts: &[Value]) -> Option<Value> {
    let parts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
    Some(parts?.join(between).into())
}

fn length(value: &Value) -> Option<Value> {
    let length = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(values) => values.len(),
        _ => return None,
    };
    Some(length.into())
}
