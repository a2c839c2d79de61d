//! ADD: reserve, make the pair, plan towards the attachment, apply. What fails is undone.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use selvedge_cni::{Add, AddResult, Attach, CniError, Interface, Ip, Ipam, NetConf, Netns, Route, code};
use selvedge_datapath::attachment::{Attachment, Further, Mode};
use selvedge_datapath::step::NetStep;
use selvedge_datapath::{PodAddress, Prune, Seen, plan};
use selvedge_leases::{Store, Wait};
use selvedge_model::link::VethEnd;
use selvedge_model::{IfName, MacAddr, Mtu, shaper_name};
use selvedge_netlink::{RouteSocket, Taken};
use selvedge_netns::Namespace;
use selvedge_nft::NftSocket;
use serde_json::Value;

use crate::ipam::{self, Asking, Given};
use crate::log::{Entry, Nets};
use crate::node::{self, Standalone};
use crate::removal::{Network, Removal};
use crate::termination::Termination;
use crate::{agent, failure, guard, hostend, journal, ports, stdout};

/// How long a pod's end may take to hear; later it does so without us.
const HEARING: Duration = Duration::from_secs(1);

/// Attaches a container. The result is written while the attachment can still be taken back: one that nobody has
/// heard of must not stay.
pub(crate) fn add(request: &Add, entry: &mut Entry) -> Result<(), CniError> {
    let termination = Termination::watch();
    let conf = &request.conf;
    let namespace = open(request)?;
    let store = termination.ends(journal::store(&conf.run_dir, &conf.name));
    let _guard =
        store.lock_attachment(&request.attachment).map_err(|e| termination.or(journal::failure(&e)))?;
    // While we waited, the container may have gone and its name may mean another namespace now.
    if open(request)?.identity() != namespace.identity() {
        let message = format!("{} is not the namespace any more that it was", request.netns.path);
        return Err(CniError::new(code::UNKNOWN_CONTAINER, message));
    }
    let mut route = RouteSocket::open().map_err(|e| failure::of_netlink(&e))?;
    let mut pod = RouteSocket::open_in(&namespace).map_err(|e| failure::of_netlink(&e))?;
    refuse_present(&mut pod, &request.attachment.ifname)?;
    let (others, bridge_netfilter) = (Others::of(&mut pod)?, node::bridge_netfilter(conf)?);
    let host = hostend::free_name(&mut route, &store, (&request.attachment, &conf.bandwidth), entry)?;
    let requested = conf.requested(&request.args);
    let asking = Asking { key: &request.attachment, veth: &host, requested: &requested };
    let given = ipam::give(&conf.ipam, &store, asking, entry).map_err(|e| termination.or(e))?;
    let mut attachment = attachment(request, host, &given);
    (attachment.further, attachment.bridge_netfilter) = (others.before(&attachment, conf), bridge_netfilter);
    ports::tell_of_idle(conf, &attachment, entry);
    let mut work = Work { request, attachment: &attachment, namespace: &namespace, route, pod, used: false };
    let attached = catch_unwind(AssertUnwindSafe(|| {
        let answer = render(request, &attachment, given)?;
        work.refuse_taken()?;
        work.wire(&termination).map_err(|e| termination.or(e))?;
        stdout::write(&answer)
    }));
    let attached = attached.unwrap_or_else(|panic| Err(failure::of_panic(panic.as_ref())));
    match &attached {
        Ok(()) => entry.field("addresses", Nets(&attachment.pod_nets())),
        // What is taken back waits for its locks, whoever asks to end.
        Err(_) => work.undo(&journal::store(&conf.run_dir, &conf.name), entry),
    }
    attached
}

/// The container's namespace, which must not be our own.
fn open(request: &Add) -> Result<Namespace, CniError> {
    let namespace = Namespace::open(Path::new(&request.netns.path)).map_err(|e| failure::of_netns(&e))?;
    let ours = Namespace::current().map_err(|e| failure::of_netns(&e))?;
    if namespace.identity() == ours.identity() && !request.netns.may_be_ours {
        let message = format!("CNI_NETNS {} is the plugin's own namespace", request.netns.path);
        return Err(CniError::new(code::NETNS, message));
    }
    Ok(namespace)
}

fn refuse_present(pod: &mut RouteSocket, ifname: &IfName) -> Result<(), CniError> {
    match pod.observe_link(ifname).map_err(|e| failure::of_netlink(&e))? {
        None => Ok(()),
        Some(_) => {
            let message = format!("the container already has an interface {ifname}");
            Err(CniError::new(code::ALREADY_ATTACHED, message))
        }
    }
}

/// What the container's other interfaces have: where their routes lead, and if they have any, their addresses.
struct Others {
    destinations: Vec<IpNet>,
    addresses: Vec<IpNet>,
}

impl Others {
    fn of(pod: &mut RouteSocket) -> Result<Self, CniError> {
        let destinations = pod.observe_destinations().map_err(|e| failure::of_netlink(&e))?;
        let addresses = if destinations.is_empty() { Ok(Vec::new()) } else { pod.observe_addresses() };
        Ok(Self { destinations, addresses: addresses.map_err(|e| failure::of_netlink(&e))? })
    }

    /// How the attachment is one beside these.
    fn before(self, attachment: &Attachment, conf: &NetConf) -> Option<Further> {
        attachment.is_beside(&self.destinations).then(|| Further {
            networks: conf.network.clone(),
            taken: [self.destinations, self.addresses].concat(),
        })
    }
}

fn attachment(request: &Add, host: IfName, given: &Given) -> Attachment {
    let conf = &request.conf;
    let first = given.addresses.first().map(|a| a.net.addr());
    let derived = first.map(|address| MacAddr::of_pod(address, VethEnd::Pod));
    Attachment {
        network: conf.name.clone(),
        key: request.attachment.clone(),
        // Nobody but an agent asks.
        pod: conf.agent.as_ref().and_then(|_| request.args.pod_tag()),
        host,
        mode: mode(conf),
        addresses: given.addresses.clone(),
        mac: conf
            .requested(&request.args)
            .mac
            .or(derived)
            .unwrap_or_else(|| MacAddr::of_device(&request.netns.path)),
        mtu: conf.mtu.unwrap_or(Mtu::ETHERNET),
        routes: given.routes.clone(),
        node_addresses: conf.node_addresses.clone(),
        bridge_netfilter: false,
        bandwidth: conf.bandwidth,
        further: None,
    }
}

/// How a configuration attaches pods.
pub(crate) fn mode(conf: &NetConf) -> Mode {
    match &conf.attach {
        Attach::Routed => Mode::Routed,
        Attach::Bridge { bridge } => Mode::Bridge(bridge.clone()),
    }
}

/// The answer, in the configuration's version, which may have no place for it.
fn render(request: &Add, attachment: &Attachment, given: Given) -> Result<Value, CniError> {
    let conf = &request.conf;
    let ours = AddResult { dns: conf.result_dns(given.dns), ..answer(conf, attachment, &request.netns) };
    match &request.prev_result {
        None => ours.render(conf.version),
        Some(before) => before.extended(&ours, conf.version),
    }
}

/// What an attachment consists of, as ADD answers it and CHECK is told of it. What is said of names is not in it.
pub(crate) fn answer(conf: &NetConf, attachment: &Attachment, netns: &Netns) -> AddResult {
    let mtu = Some(attachment.mtu.bytes());
    let on_host = |name: &IfName, mac| Interface { name: name.to_string(), mac, sandbox: None, mtu };
    let mut interfaces = match &attachment.mode {
        Mode::Routed => vec![],
        Mode::Bridge(bridge) => vec![on_host(bridge, None)],
    };
    if attachment.bandwidth.egress.is_some() {
        interfaces.push(on_host(&shaper_name(&attachment.host), None));
    }
    interfaces.push(on_host(&attachment.host, Some(attachment.host_mac())));
    let sandbox = Some(netns.path.clone());
    let name = attachment.key.ifname.to_string();
    interfaces.push(Interface { name, mac: Some(attachment.mac), sandbox, mtu });
    let container = interfaces.len() - 1;
    // What another plugin gave it reads again in its CHECK, as it said it.
    let theirs = |a: &PodAddress| a.gateway.filter(|_| matches!(conf.ipam, Ipam::Delegated(_)));
    let ip = |(a, net): (&PodAddress, IpNet)| Ip {
        interface: Some(container),
        address: net,
        gateway: theirs(a).or_else(|| attachment.gateway(a)),
    };
    AddResult {
        ips: attachment.addresses.iter().zip(attachment.pod_nets()).map(ip).collect(),
        routes: attachment.result_routes().iter().map(|r| Route { dst: r.destination, gw: r.via }).collect(),
        interfaces,
        ..AddResult::default()
    }
}

/// The wiring of one attachment, which can be taken back.
struct Work<'a> {
    request: &'a Add,
    attachment: &'a Attachment,
    namespace: &'a Namespace,
    route: RouteSocket,
    pod: RouteSocket,
    /// The addresses can have been seen by somebody, or are somebody's: taken back, they must rest.
    used: bool,
}

impl Work<'_> {
    /// Fails if the node has one of the addresses itself, or a route to it alone, or if a bridge's port has it, of which
    /// other ports are told as they are admitted. The next call gets another.
    fn refuse_taken(&mut self) -> Result<(), CniError> {
        let routed = matches!(self.attachment.mode, Mode::Routed);
        for address in self.attachment.addresses.iter().map(|address| address.net.addr()) {
            let holder = match self.route.holder(address).map_err(|e| failure::of_netlink(&e))? {
                Some(Taken::Network) if routed => guard::holder(&mut self.route, address)?,
                None | Some(Taken::Network) => None,
                Some(taken) => Some(taken.to_string()),
            };
            if let Some(holder) = holder {
                self.used = true;
                return Err(failure::of_taken(address, &holder));
            }
        }
        Ok(())
    }

    fn wire(&mut self, termination: &Termination) -> Result<(), CniError> {
        let conf = &self.request.conf;
        let published = ports::publication(conf, self.attachment);
        published
            .as_ref()
            .map_or(Ok(()), |published| ports::refuse_taken(&conf.run_dir, published, &termination.wait()))?;
        let bridged = matches!(self.attachment.mode, Mode::Bridge(_));
        let standalone = conf.agent.is_none();
        let mut nft = match bridged || standalone {
            true => Some(NftSocket::open().map_err(|e| failure::of_nft(&e))?),
            false => None,
        };
        if let (Some(nft), true) = (&mut nft, standalone) {
            let network = Standalone::new(conf, &self.attachment.addresses, self.attachment.mtu);
            network.prepare((&mut self.route, nft), &termination.wait())?;
        }
        termination.check()?;
        let began = agent::reach(conf, termination)?;
        self.make_pair(nft.as_mut().filter(|_| bridged), &termination.wait())?;
        apply(&mut self.pod, &self.attachment.pod(), &self.attachment.fresh_pod())?;
        apply(&mut self.route, &self.attachment.host(), &self.attachment.fresh_host())?;
        published
            .as_ref()
            .map_or(Ok(()), |published| ports::publish(&conf.run_dir, published, &termination.wait()))?;
        self.hear()?;
        agent::admit(conf, self.attachment, (began, termination))
    }

    /// Makes the pair; a bridge's port is guarded before it is up.
    fn make_pair(&mut self, guarded: Option<&mut NftSocket>, wait: &Wait) -> Result<(), CniError> {
        let _lock = guarded.is_some().then(|| node::lock(&self.request.conf.run_dir, wait)).transpose()?;
        let pair = NetStep::CreateVeth(self.attachment.veth());
        let made = self.route.apply_until_failure(&[pair], Some(self.namespace.as_fd()));
        made.map_err(|e| self.bridge_missing().unwrap_or_else(|| failure::of_netlink(&e)))?;
        self.used = true;
        let addresses = self.attachment.pod_nets();
        guarded.map_or(Ok(()), |nft| guard::admit((&mut self.route, nft), &self.attachment.host, &addresses))
    }

    /// What to say where no pair can be made for want of the bridge that an agent makes.
    fn bridge_missing(&self) -> Option<CniError> {
        let (agent, Mode::Bridge(bridge)) = (self.request.conf.agent.as_ref()?, &self.attachment.mode) else {
            return None;
        };
        if self.route.has_link(bridge).unwrap_or(true) {
            return None;
        }
        let message = format!(
            "bridge {bridge} is missing: selvedge-agent makes it, by the configuration the one at {}; does it run?",
            agent.display()
        );
        Some(CniError::new(code::TRY_AGAIN, message))
    }

    /// Waits until the pod's end hears: it came up before its peer, and drops what is sent until the kernel has noticed
    /// that the peer is up too. On recent kernels being asked is what makes it notice.
    fn hear(&mut self) -> Result<(), CniError> {
        let began = Instant::now();
        loop {
            let link =
                self.pod.observe_link(&self.attachment.key.ifname).map_err(|e| failure::of_netlink(&e))?;
            if link.is_none_or(|link| link.running) || began.elapsed() >= HEARING {
                return Ok(());
            }
            // The longer it takes, the less a look more would gain.
            std::thread::sleep((began.elapsed() / 4).max(Duration::from_millis(1)));
        }
    }

    /// Leaves nothing behind; what can't be undone now is found by the DEL that follows a failed ADD.
    fn undo(&self, store: &Store, entry: &mut Entry) {
        let removal = Removal {
            network: Network::from(&self.request.conf),
            store,
            key: &self.request.attachment,
            netns: Some(&self.request.netns.path),
            used: self.used,
        };
        if let Err(error) = removal.carry_out(None, entry) {
            entry.field("undo", format_args!("{:?}", error.message()));
        }
    }
}

fn apply(
    socket: &mut RouteSocket,
    desired: &selvedge_datapath::DesiredNetwork,
    fresh: &selvedge_datapath::state::ObservedNetwork,
) -> Result<(), CniError> {
    let seen = Seen { network: fresh, sysctls: &std::collections::BTreeMap::new() };
    let steps = plan(desired, seen, Prune::Nothing).steps;
    socket.apply(&steps, None).into_iter().collect::<Result<(), _>>().map_err(|e| failure::of_netlink(&e))
}
