//! Every way to choose pods, peers and ports with every other, in the namespace x; what each means is said once, and
//! what a combination means follows from it.

use super::*;

/// A way to write something in a policy, and what it means.
struct Part<T: ?Sized> {
    what: &'static str,
    json: Value,
    means: Box<T>,
}

/// The pods of x that are meant, by their name.
type Target = Part<dyn Fn(&str) -> bool>;
/// The pods that are meant, written `NAMESPACE/NAME`, in IPv6 or not.
type Peers = Part<dyn Fn(&str, bool) -> bool>;
/// The trips that are meant for where they go.
type Ports = Part<dyn Fn(&Trip) -> bool>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// Each peer with each of the ports, the targets and both ways going round; each target both ways; and two policies
/// for the same pods, whichever they are; and what changes while a policy is there.
pub fn combinations() -> Vec<Case> {
    let mut combined = Vec::new();
    let mut round = [Way::In, Way::Out].into_iter().cycle();
    for (p, q) in (0..peers().len()).flat_map(|p| (0..ports().len()).map(move |q| (p, q))) {
        let way = round.next().unwrap_or(Way::In);
        // Each peer meets each way and each target in the course of the ports.
        let way = if p % 2 == 0 { way } else { way.other() };
        combined.push(Single { target: (p + q) % targets().len(), peers: p, ports: q, way }.case());
    }
    for (target, way) in (0..targets().len()).flat_map(|t| [Way::In, Way::Out].map(|way| (t, way))) {
        let peers = 2 + target % 3;
        combined.push(Single { target, peers, ports: 1, way }.case());
    }
    combined.extend(pairs());
    combined.extend(sequences::sequences());
    combined
}

impl Way {
    fn other(self) -> Self {
        if self == Self::In { Self::Out } else { Self::In }
    }
}

/// One policy of one rule, by what it is made of.
#[derive(Clone, Copy)]
pub(super) struct Single {
    pub(super) target: usize,
    pub(super) peers: usize,
    pub(super) ports: usize,
    pub(super) way: Way,
}

impl Single {
    pub(super) fn spec(self) -> Value {
        let field = if self.way == Way::In { "from" } else { "to" };
        let (target, peers, ports) = (targets().remove(self.target), self.of_peers(), self.of_ports());
        let mut rule = json!({});
        if !peers.json.is_null() {
            rule[field] = peers.json;
        }
        if !ports.json.is_null() {
            rule["ports"] = ports.json;
        }
        match self.way {
            Way::In => ingress(target.json, json!([rule])),
            Way::Out => egress(target.json, json!([rule])),
        }
    }

    fn of_peers(self) -> Peers {
        peers().remove(self.peers)
    }

    fn of_ports(self) -> Ports {
        ports().remove(self.ports)
    }

    pub(super) fn name(self) -> String {
        let way = if self.way == Way::In { "from" } else { "to" };
        let (target, peers, ports) =
            (targets().remove(self.target).what, self.of_peers().what, self.of_ports().what);
        format!("{target} admit {ports} {way} {peers}")
    }

    /// Whether the policy isolates the trip's end, and whether it admits the trip.
    fn says(self) -> impl Fn(&Trip) -> (bool, bool) + 'static {
        let (target, peers, ports) = (targets().remove(self.target), self.of_peers(), self.of_ports());
        move |trip| {
            let (subject, peer) = match self.way {
                Way::In => (&trip.to, &trip.from),
                Way::Out => (&trip.from, &trip.to),
            };
            let isolates = ns_of(subject) == "x" && (target.means)(name(subject));
            (isolates, isolates && (peers.means)(peer, trip.v6) && (ports.means)(trip))
        }
    }

    /// What it comes to where there is no other.
    pub(super) fn truth(self) -> impl Fn(&Trip) -> bool + 'static {
        let says = self.says();
        move |trip| {
            let (isolates, admits) = says(trip);
            !isolates || admits
        }
    }

    fn case(self) -> Case {
        case(self.name(), [step(world([("x/one", self.spec())]), self.truth())])
    }
}

/// Two policies, of the same pods or of others, one way or both: first one, then both, then the other.
fn pairs() -> Vec<Case> {
    let single = |target, peers, ports, way| Single { target, peers, ports, way };
    let pairs = [
        (single(0, 2, 1, Way::In), single(0, 3, 2, Way::In)),
        (single(0, 4, 3, Way::In), single(1, 5, 0, Way::In)),
        (single(1, 1, 5, Way::In), single(2, 8, 6, Way::In)),
        (single(0, 10, 4, Way::In), single(3, 11, 0, Way::In)),
        (single(0, 12, 0, Way::In), single(0, 0, 8, Way::In)),
        (single(0, 2, 1, Way::Out), single(0, 3, 2, Way::Out)),
        (single(1, 6, 7, Way::Out), single(2, 7, 9, Way::Out)),
        (single(0, 10, 0, Way::Out), single(1, 9, 10, Way::Out)),
        (single(0, 2, 0, Way::In), single(0, 2, 0, Way::Out)),
        (single(1, 4, 1, Way::In), single(0, 5, 0, Way::Out)),
        (single(2, 13, 0, Way::In), single(4, 3, 3, Way::Out)),
        (single(5, 0, 1, Way::In), single(0, 0, 11, Way::Out)),
    ];
    pairs.into_iter().map(|(one, other)| pair(one, other)).collect()
}

fn pair(one: Single, other: Single) -> Case {
    let worlds = [
        world([("x/one", one.spec())]),
        world([("x/one", one.spec()), ("x/other", other.spec())]),
        world([("x/other", other.spec())]),
    ];
    let states = [vec![one], vec![one, other], vec![other]];
    let steps = worlds.into_iter().zip(states).map(|(world, policies)| step(world, together(&policies)));
    case(format!("{}, and {}", one.name(), other.name()), steps)
}

/// What policies say together: each way by itself, whatever isolates is outvoted by whatever admits.
fn together(policies: &[Single]) -> impl Fn(&Trip) -> bool + 'static {
    let said: Vec<_> = policies.iter().map(|policy| (policy.way, policy.says())).collect();
    move |trip| {
        [Way::In, Way::Out].into_iter().all(|way| {
            let of_way: Vec<_> =
                said.iter().filter(|(own, _)| *own == way).map(|(_, says)| says(trip)).collect();
            !of_way.iter().any(|(isolates, _)| *isolates) || of_way.iter().any(|(_, admits)| *admits)
        })
    }
}

fn ns_of(pod: &str) -> &str {
    crate::testing::world::ns(pod)
}

fn targets() -> Vec<Target> {
    let part = |what, json, means: fn(&str) -> bool| Target { what, json, means: Box::new(means) };
    vec![
        part("all pods", all(), |_| true),
        part("the pod a", called("a"), |pod| pod == "a"),
        part("the pods a and b", expression("pod", "In", &["a", "b"]), |pod| pod != "c"),
        part("the pods but a", expression("pod", "NotIn", &["a"]), |pod| pod != "a"),
        part("the pods with a label", expression("pod", "Exists", &[]), |_| true),
        part("no pods", expression("pod", "DoesNotExist", &[]), |_| false),
    ]
}

fn peers() -> Vec<Peers> {
    let part = |what, json, means: fn(&str, bool) -> bool| Peers { what, json, means: Box::new(means) };
    let block = |cidr: &str, except: &[&str]| json!({"ipBlock": {"cidr": cidr, "except": except}});
    let v4 = block("10.244.1.0/24", &[]);
    let first = json!([block("10.244.1.0/24", &[]), block("fd00:244:1::/64", &[])]);
    let holed = json!([
        block("0.0.0.0/0", &["10.244.1.11/32", "10.244.2.0/24"]),
        block("::/0", &["fd00:244:1::11/128", "fd00:244:2::/64"])
    ]);
    vec![
        part("anybody, as the field is missing", Value::Null, |_, _| true),
        part("anybody, as the field is empty", json!([]), |_, _| true),
        part("the own namespace", json!([pods(all())]), |pod, _| ns_of(pod) == "x"),
        part("b of the own namespace", json!([pods(called("b"))]), |pod, _| pod == "x/b"),
        part("the namespace y", json!([namespaces(by("ns", "y"))]), |pod, _| ns_of(pod) == "y"),
        part("b of y", json!([both(by("ns", "y"), called("b"))]), |pod, _| pod == "y/b"),
        part("all namespaces", json!([namespaces(all())]), |_, _| true),
        part("namespaces but x", json!([namespaces(expression("ns", "NotIn", &["x"]))]), |pod, _| {
            ns_of(pod) != "x"
        }),
        part(
            "b and c of all namespaces",
            json!([both(all(), expression("pod", "In", &["b", "c"]))]),
            |pod, _| name(pod) != "a",
        ),
        part(
            "z, or b of the own",
            json!([namespaces(by("kubernetes.io/metadata.name", "z")), pods(called("b"))]),
            |pod, _| ns_of(pod) == "z" || pod == "x/b",
        ),
        part("the first node's pods by their networks", first, |pod, _| name(pod) != "c"),
        part("its pods of IPv4", json!([v4]), |pod, v6| !v6 && name(pod) != "c"),
        part("all addresses but those of y/a and of the second node", holed, |pod, _| {
            pod != "y/a" && name(pod) != "c"
        }),
        part("nobody", json!([pods(called("nobody"))]), |_, _| false),
    ]
}

fn ports() -> Vec<Ports> {
    let part = |what, json, means: fn(&Trip) -> bool| Ports { what, json, means: Box::new(means) };
    vec![
        part("everything, as the field is missing,", Value::Null, |_| true),
        part("TCP/80", json!([{"protocol": "TCP", "port": 80}]), |t| t.tcp(80)),
        part("port 81", json!([{"port": 81}]), |t| t.tcp(81)),
        part("UDP/81", json!([{"protocol": "UDP", "port": 81}]), |t| t.udp(81)),
        part("SCTP/80", json!([{"protocol": "SCTP", "port": 80}]), |t| t.sctp(80)),
        part("UDP", json!([{"protocol": "UDP"}]), |t| t.udp(80) || t.udp(81)),
        part("TCP/80 and UDP/81", json!([{"port": 80}, {"protocol": "UDP", "port": 81}]), |t| {
            t.tcp(80) || t.udp(81)
        }),
        part("serve-80", json!([{"port": "serve-80"}]), |t| t.tcp(80)),
        part(
            "udp-80 and serve-81",
            json!([{"protocol": "UDP", "port": "udp-80"}, {"port": "serve-81"}]),
            |t| t.udp(80) || t.tcp(81),
        ),
        part("TCP/80 to 81", json!([{"port": 80, "endPort": 81}]), |t| t.tcp(80) || t.tcp(81)),
        part("SCTP/81 to 90", json!([{"protocol": "SCTP", "port": 81, "endPort": 90}]), |t| t.sctp(81)),
        part("nothing that is there", json!([{"port": 9999}, {"port": "unheard-of"}]), |_| false),
    ]
}
