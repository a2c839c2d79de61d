//! The documentation's examples, and the cases of Kubernetes' own end-to-end tests by their descriptions: three
//! namespaces x, y and z, in each the pods a, b and c, on two nodes, in both families; every pod to every pod.

mod cases;
mod ends;
mod reasons;

use serde_json::{Value, json};

use super::*;
use crate::read::read;
use crate::testing::cases::{SERVED, cases, combinations};
use crate::testing::world::{World, address, by, labels, ns, policy, world};

const TCP80: Protocol = Protocol::Port(Transport::Tcp, 80);
const TCP81: Protocol = Protocol::Port(Transport::Tcp, 81);
const UDP80: Protocol = Protocol::Port(Transport::Udp, 80);
const SCTP80: Protocol = Protocol::Port(Transport::Sctp, 80);

impl World {
    fn judge(&self, source: Source, destination: &str, protocol: Protocol) -> Verdict {
        judge(&self.cluster(), &Flow { source, destination: address(destination), protocol })
    }

    /// What the address sends to the other.
    fn from(&self, source: &str, destination: &str, protocol: Protocol) -> Verdict {
        self.judge(Source::Address(address(source)), destination, protocol)
    }

    /// Every pod reaches every other where `expected` says so of the two, written `NAMESPACE/NAME`, and itself.
    fn expect(&self, protocol: Protocol, expected: impl Fn(&str, &str) -> bool) {
        let cluster = self.cluster();
        for (source, destination) in
            self.pods.iter().flat_map(|one| self.pods.iter().map(move |other| (one, other)))
        {
            let [from, to] = [source, destination].map(|pod| pod.key.to_string());
            for (one, other) in source.addresses.iter().zip(&destination.addresses) {
                let flow = Flow { source: Source::Address(*one), destination: *other, protocol };
                let verdict = judge(&cluster, &flow);
                let expected = from == to || expected(&from, &to);
                assert_eq!(
                    verdict.is_allowed(),
                    expected,
                    "{from} {one} to {to} {other} {protocol}: {verdict}"
                );
            }
        }
    }
}
