//! CAP-13 and CAP-14: capabilities that only packets show.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_netns::Namespace;
use selvedge_tests::Pod;
use serde_json::{Value, json};

use crate::config::{after, with};
use crate::statements::capabilities::{add_to, chained};
use crate::statements::reply::{ResultText, Unmet};
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "CAP-13" Convention cap_13_what_the_container_receives_and_sends_is_held_to_the_rate
    "bandwidth: what the container receives and sends is held to the rates, and DEL leaves nothing of it."
    "CAP-14" Convention cap_14_a_published_port_leads_to_the_container_until_del
    "portMappings: a published TCP or UDP port of the node, whatever the protocol's case, leads to the container, and \
     DEL leaves nothing of it."
}

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// The node's own address, which every published port is at.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

/// What is looked at between ADD and DEL, given the container and its address.
type Look = fn(&Subject, &Pod, Ipv4Addr);

/// ADD and DEL with what a runtime fills in, and in between what packets show. A first container has come and gone
/// the same way before: what a network keeps for its node is there.
fn round(on: &Subject, runtime: &Value, look: Look) -> Verdict {
    pass(on, runtime, |_, _, _| {})?;
    let before = on.at_rest();
    pass(on, runtime, look)?;
    on.must_be_as(&before, "after DEL");
    Ok(())
}

fn pass(on: &Subject, runtime: &Value, look: Look) -> Verdict {
    let pod = on.pod();
    let result = add_to(on, runtime, "web-0", &pod).result()?;
    let address = result.addresses()[0].parse().map_err(|_not| Unmet::from("the address is none"))?;
    look(on, &pod, address);
    // As libcni does it: the last plugin first.
    let config = after(&on.config_with(json!({"runtimeConfig": runtime})), &result);
    for plugin in chained(on, runtime).into_iter().rev() {
        let last = with(config.clone(), json!({"type": plugin}));
        on.ask("DEL", &last).by(&on.program(plugin)).of("web-0", &pod).run().done()?;
    }
    on.del(&config, "web-0", &pod).done()?;
    Ok(())
}

fn cap_14_a_published_port_leads_to_the_container_until_del(on: &Subject) -> Verdict {
    let mapping = |protocol: &str, host: u16, container: u16| json!({"hostPort": host, "containerPort": container, "protocol": protocol});
    let mut runtime = json!({"portMappings": [mapping("TCP", 8080, 80), mapping("udp", 8053, 53)]});
    runtime["portMappings"][0]["hostIP"] = json!("");
    round(on, &runtime, |on, pod, _| {
        on.must(tcp_leads(on.stage().node(), pod.namespace()).is_ok(), "TCP does not reach the container");
        on.must(udp_leads(on.stage().node(), pod.namespace()).is_ok(), "UDP does not reach the container");
    })
}

fn tcp_leads(node: &Namespace, pod: &Namespace) -> io::Result<()> {
    let listener = pod.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))).unwrap()?;
    let accepted =
        thread::spawn(move || listener.accept().and_then(|(mut stream, _)| stream.write_all(b"!")));
    let connect = || TcpStream::connect_timeout(&(NODE, 8080).into(), PATIENCE);
    let mut stream = match node.run(connect).unwrap() {
        Ok(stream) => stream,
        Err(error) => {
            // Whoever accepts must not wait for ever.
            drop(pod.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 80))).unwrap());
            drop(accepted.join());
            return Err(error);
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0])?;
    accepted.join().unwrap()
}

fn udp_leads(node: &Namespace, pod: &Namespace) -> io::Result<()> {
    let server = pod.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53))).unwrap()?;
    let client = node.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap()?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    client.connect((NODE, 8053))?;
    client.send(b"?")?;
    let (_, from) = server.recv_from(&mut [0])?;
    server.send_to(b"!", from)?;
    client.recv(&mut [0]).map(drop)
}

/// Bits in a second.
const RATE: u64 = 8_000_000;

/// Bits that may come at once.
const BURST: u64 = 400_000;

/// How much is sent: bytes that take a second at that rate, without the burst.
const SENT: usize = 1_000_000;

fn cap_13_what_the_container_receives_and_sends_is_held_to_the_rate(on: &Subject) -> Verdict {
    let limits =
        json!({"ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST});
    round(on, &json!({"bandwidth": limits}), |on, pod, address| {
        // A tenth goes at once at the most. How slow it may be says a busy machine.
        let held = |took: io::Result<Duration>| took.is_ok_and(|took| took > Duration::from_millis(750));
        on.must(
            held(takes(on.stage().node(), pod.namespace(), address)),
            "what it receives is not held back",
        );
        on.must(held(takes(pod.namespace(), on.stage().node(), NODE)), "what it sends is not held back");
    })
}

/// How long some bytes take from one namespace to an address of another.
fn takes(from: &Namespace, to: &Namespace, address: Ipv4Addr) -> io::Result<Duration> {
    let listener = to.run(|| TcpListener::bind((address, 0))).unwrap()?;
    let place = listener.local_addr()?;
    let sender = from.run(|| TcpStream::connect_timeout(&place, PATIENCE)).unwrap()?;
    let begun = Instant::now();
    let sent = thread::spawn(move || {
        (&sender).write_all(&vec![0; SENT])?;
        sender.shutdown(Shutdown::Write)
    });
    let received = io::copy(&mut listener.accept()?.0, &mut io::sink())?;
    sent.join().unwrap()?;
    let whole = received == SENT as u64;
    if whole { Ok(begun.elapsed()) } else { Err(io::Error::other("not all of it arrived")) }
}
