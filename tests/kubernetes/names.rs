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
    let over = Over(AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.0.load(Ordering::SeqCst) {
                answer_one(cluster, &socket);
            }
        });
        let _over = Ends(&over);
        work()
    })
}

#[derive(Debug)]
struct Over(AtomicBool);

/// Lets the answering end, also when what is done panics.
struct Ends<'a>(&'a Over);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}

fn answer_one(cluster: &Cluster, socket: &UdpSocket) {
    let mut bytes = [0; 512];
    let Ok((length, from)) = socket.recv_from(&mut bytes) else { return };
    let Ok(question) = simple_dns::Packet::parse(&bytes[..length]) else { return };
    let mut reply = question.clone().into_reply();
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    let Some(asked) = question.questions.first() else { return };
    let records = records(cluster, &asked.qname.to_string());
    *reply.rcode_mut() = if records.is_empty() { RCODE::NameError } else { RCODE::NoError };
    let wanted = |record: &&ResourceRecord<'_>| {
        matches!(record.rdata, RData::CNAME(_)) || asked.qtype == TYPE::A.into()
    };
    reply.answers = records.iter().filter(wanted).cloned().collect();
    drop(socket.send_to(&reply.build_bytes_vec().unwrap(), from));
}

/// Of a service with an address that; of one that stands for another name, that name and what it leads to.
fn records(cluster: &Cluster, name: &str) -> Vec<ResourceRecord<'static>> {
    let Some(service) = service(cluster, name) else { return Vec::new() };
    let record = |rdata| {
        let name = Name::new(name).expect("it was a question's").into_owned();
        ResourceRecord::new(name, CLASS::IN, 5, rdata)
    };
    if let Some(other) = service["spec"]["externalName"].as_str() {
        let target = Name::new(other).expect("the API takes no other").into_owned();
        let mut all = vec![record(RData::CNAME(CNAME(target)))];
        all.extend(records(cluster, other));
        return all;
    }
    let address = service["spec"]["clusterIP"].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
    address.map(|address| record(RData::A(A::from(address)))).into_iter().collect()
}

fn service(cluster: &Cluster, name: &str) -> Option<Value> {
    let (service, namespace) = name.strip_suffix(DOMAIN)?.split_once('.')?;
    let mut kubectl = cluster.control.kubectl(&cluster.programs);
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}");
    let asked = kubectl.args(["get", "--raw", &path]).output().ok()?;
    serde_json::from_slice(&asked.stdout).ok()
}
