//! The names of services, as a cluster's DNS tells them: what the end-to-end suite calls services by.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use simple_dns::rdata::{A, CNAME, RData};
use simple_dns::{CLASS, Name, PacketFlag, RCODE, ResourceRecord, TYPE};

use crate::cluster::Cluster;
use crate::control::ADDRESS;

/// What every name of a service ends in.
const DOMAIN: &str = ".svc.cluster.local";

/// Answers questions for services' names while something is done.
pub(crate) fn answer_during<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> T {
    let at: SocketAddr = format!("{ADDRESS}:53").parse().unwrap();
    let socket = cluster.control.machine().node().run(|| UdpSocket::bind(at)).unwrap();
    let socket = socket.unwrap_or_else(|error| panic!("bind {at}: {error}"));
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                answer_one(cluster, &socket);
            }
        });
        let _at_the_end = Sets(&over);
        work()
    })
}

/// Sets it when dropped, also by a panic.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn answer_one(cluster: &Cluster, socket: &UdpSocket) {
    let mut bytes = [0; 512];
    let Ok((length, from)) = socket.recv_from(&mut bytes) else { return };
    let Ok(question) = simple_dns::Packet::parse(&bytes[..length]) else { return };
    let mut reply = question.clone().into_reply();
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    let Some(asked) = question.questions.first() else { return };
    let found = records(cluster, &asked.qname.to_string());
    *reply.rcode_mut() = match &found {
        Ok(records) if records.is_empty() => RCODE::NameError,
        Ok(_) => RCODE::NoError,
        Err(_) => RCODE::ServerFailure,
    };
    let records = found.unwrap_or_default();
    let wanted = |record: &&ResourceRecord<'_>| {
        matches!(record.rdata, RData::CNAME(_)) || asked.qtype == TYPE::A.into()
    };
    reply.answers = records.iter().filter(wanted).cloned().collect();
    drop(socket.send_to(&reply.build_bytes_vec().unwrap(), from));
}

/// Of a service with an address that; of one that stands for another name, that name and its address; none of no service.
fn records(cluster: &Cluster, name: &str) -> Result<Vec<ResourceRecord<'static>>, String> {
    let Some(service) = service(cluster, name)? else { return Ok(Vec::new()) };
    let Some(other) = service["spec"]["externalName"].as_str() else {
        return Ok(address(name, &service).into_iter().collect());
    };
    let target = Name::new(other).map_err(|error| format!("{other}: {error}"))?.into_owned();
    let known = self::service(cluster, other)?;
    let alias = record(name, RData::CNAME(CNAME(target)));
    Ok([alias].into_iter().chain(known.and_then(|service| address(other, &service))).collect())
}

fn address(name: &str, service: &Value) -> Option<ResourceRecord<'static>> {
    let address = service["spec"]["clusterIP"].as_str()?.parse::<Ipv4Addr>().ok()?;
    Some(record(name, RData::A(A::from(address))))
}

fn record(name: &str, data: RData<'static>) -> ResourceRecord<'static> {
    let name = Name::new(name).expect("it was a question's, or the API's").into_owned();
    ResourceRecord::new(name, CLASS::IN, 5, data)
}

/// A service by its full name. A name with a search path behind it is none's.
fn service(cluster: &Cluster, name: &str) -> Result<Option<Value>, String> {
    let parts = name.strip_suffix(DOMAIN).and_then(|name| name.split_once('.'));
    let Some((service, namespace)) = parts.filter(|(_, namespace)| !namespace.contains('.')) else {
        return Ok(None);
    };
    let mut kubectl = cluster.control.kubectl(&cluster.programs);
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}");
    let asked = kubectl.args(["get", "--raw", &path]).output().map_err(|error| error.to_string())?;
    match String::from_utf8_lossy(&asked.stderr) {
        _ if asked.status.success() => {
            serde_json::from_slice(&asked.stdout).map(Some).map_err(|error| error.to_string())
        }
        why if why.contains("NotFound") => Ok(None),
        why => Err(why.into_owned()),
    }
}
