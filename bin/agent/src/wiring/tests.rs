use selvedge_datapath::state::LinkKind;
use selvedge_model::{MacAddr, Mtu, Wireguard};

use super::*;

/// An agent that was started so long ago.
fn started(before: Duration) -> Setup {
    Setup {
        started: Instant::now().checked_sub(before).unwrap(),
        node: "node-a".parse().unwrap(),
        config: Config::default(),
        run_dir: PathBuf::from("/run/selvedge"),
        plugin: PathBuf::from("/opt/cni/bin/selvedge"),
        installs: true,
        sysctls: PathBuf::from("/proc/sys"),
        knows_pods: true,
        owns_tables: true,
        kernel: (6, 1),
        has_vxlan: false,
        has_wireguard: false,
        tunnels: Tunnels::default(),
        ways: Ways::default(),
        reaching: Reaching::default(),
        tunnel: None,
        netlog: Netlog::Present,
        policies: Policies::default(),
        decided: Decided::default(),
        publisher: Publisher::default(),
    }
}

/// A node with the conflist of an agent that was there before.
fn served() -> Observed {
    let conflist = conflist::render(&AgentConflist {
        name: "selvedge".parse().unwrap(),
        attach: selvedge_cni::Attach::Routed,
        subnets: vec!["10.244.3.0/24".parse().unwrap()],
        mtu: Mtu::ETHERNET,
        run_dir: "/run/selvedge".to_owned(),
        agent: "/run/selvedge/agent.sock".to_owned(),
        node_addresses: vec!["172.30.0.3".parse().unwrap()],
        log_file: None,
        without_agent: false,
    });
    Observed { conflist: Some(conflist), ..Observed::default() }
}

#[test]
fn a_first_listing_has_its_time_before_the_node_goes_by_what_it_was_served_by() {
    let unknown = "no complete listing of the cluster yet";
    // However slow this test is run, that agent has just been started.
    let mut early = Setup { started: Instant::now() + GRACE, ..started(Duration::ZERO) };
    assert_eq!(early.decide(None, &served()).unwrap_err(), unknown);
    let decision = started(GRACE).decide(None, &served()).unwrap();
    assert_eq!(decision.wanted.pod_cidrs, ["10.244.3.0/24"]);
    assert!(decision.problems.iter().any(|why| why.contains("as it did before")), "{:?}", decision.problems);
    assert_eq!((decision.desired.prune, decision.desired.conflist), (Prune::Nothing, None));
}

#[test]
fn a_node_that_was_never_served_waits_for_a_listing_however_long() {
    let error = started(GRACE * 100).decide(None, &Observed::default()).unwrap_err();
    assert_eq!(error, "no complete listing of the cluster yet");
}

#[test]
fn a_node_that_is_not_in_the_cluster_goes_on_as_before_by_the_policies_that_there_are() {
    let others = Node::new("node-b".parse().unwrap(), Vec::new(), Vec::new());
    let cluster = Arc::new(Cluster::of(others));
    let mut agent = started(Duration::ZERO);
    let decision = agent.decide(Some((&cluster, Prune::Marked)), &served()).unwrap();
    assert_eq!(decision.wanted.pod_cidrs, ["10.244.3.0/24"]);
    assert!(decision.revoker.is_some(), "policies are judged by");
    assert_eq!((decision.desired.prune, &decision.desired.conflist), (Prune::Nothing, &None));
    let problem = decision.problems.last().unwrap();
    assert!(problem.contains("there is no Node node-a") && problem.contains("as it did before"), "{problem}");
    // One that has never served any pods waits for its Node.
    let error = agent.decide(Some((&cluster, Prune::Marked)), &Observed::default()).unwrap_err();
    assert!(error.contains("node-a"), "{error}");
}

#[test]
fn our_key_is_told_once_its_device_holds_one_and_taken_back_only_where_nobody_encrypts() {
    let key = PublicKey([7; 32]);
    let mut agent = started(GRACE);
    let decision = agent.decide(None, &served()).unwrap();
    let told = Wireguard { key, port: 51820, peers: Vec::new() };
    let to_publish = |encryption: Option<Encrypting>, wireguard: &Forwarder<Wireguard>, link: bool| {
        let desired = Desired { encryption, ..decision.desired.clone() };
        let mut observed = Observed { wireguard: wireguard.clone(), ..Observed::default() };
        if link {
            let device = ObservedLink::new(LinkKind::Tun, MacAddr([0; 6]), Mtu::ETHERNET, "");
            observed.network.links.insert(peers::wireguard_device(), ObservedLink { up: true, ..device });
        }
        key_to_publish(&desired, &observed)
    };
    let device = || Some(Encrypting::Device(told.clone()));
    let at_work = Forwarder::There(Some(told.clone()));
    assert_eq!(to_publish(None, &at_work, true), Some(None));
    assert_eq!(to_publish(device(), &at_work, true), Some(Some(key)));
    // What was published before holds on while the device is made again, or a key.
    assert_eq!(to_publish(device(), &at_work, false), None);
    assert_eq!(to_publish(device(), &Forwarder::There(None), true), None);
    assert_eq!(to_publish(device(), &Forwarder::Missing, true), None);
    assert_eq!(to_publish(Some(Encrypting::Key), &at_work, true), None);
    assert_eq!(to_publish(Some(Encrypting::AsItIs), &at_work, true), None);
}
