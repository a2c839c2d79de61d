//! Other people's forward chains.

use selvedge_datapath::foreign::{Accept, Direction, ForwardChain, Place, accepting};
use selvedge_model::NetworkName;
use selvedge_ruleset::{ChainName, Family, TableId};

use super::{in_namespace, installed, run};
use crate::NftSocket;

const FILTER: TableId = TableId::literal(Family::Ip, "filter");
const FORWARD: ChainName = ChainName::literal("FORWARD");
const SPEC: &str = "-A FORWARD -s 10.244.0.0/16 -m comment --comment \"selvedge mynet\" -j ACCEPT";

fn mynet() -> NetworkName {
    "mynet".parse().unwrap()
}

fn wanted() -> Vec<Accept> {
    accepting(&["10.244.0.0/16".parse().unwrap()])
}

fn chains(socket: &mut NftSocket) -> Vec<ForwardChain> {
    socket.forward_chains(&mynet()).unwrap()
}

fn set(socket: &mut NftSocket, rules: &[Accept]) {
    socket.set_accept(&FILTER, &FORWARD, &mynet(), rules).unwrap();
}

fn forward_of_iptables() -> Vec<String> {
    run("iptables-nft -S FORWARD", "").lines().map(str::to_owned).collect()
}

#[test]
fn dockers_drop_is_found_and_our_rules_look_like_iptables_own() {
    if !installed("iptables-nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        assert_eq!(chains(&mut socket), []);
        run("iptables-nft -A FORWARD -i docker0 -m conntrack --ctstate ESTABLISHED -j ACCEPT", "");
        run("iptables-nft -P FORWARD DROP", "");
        let before = forward_of_iptables();
        let place = Place::Nft(FILTER, FORWARD);
        assert_eq!(chains(&mut socket), [ForwardChain { place: place.clone(), ours: vec![] }]);
        set(&mut socket, &wanted());
        assert_eq!(chains(&mut socket), [ForwardChain { place, ours: wanted() }]);
        let listed = forward_of_iptables();
        assert_eq!(listed[1], SPEC);
        assert_eq!(listed[3], before[1]);
        set(&mut socket, &wanted());
        assert_eq!(forward_of_iptables(), listed);
        set(&mut socket, &[]);
        assert_eq!(forward_of_iptables(), before);
    });
}

#[test]
fn iptables_can_delete_our_rules_and_we_those_that_it_restored() {
    if !installed("iptables-nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        run("iptables-nft -P FORWARD DROP", "");
        set(&mut socket, &wanted());
        let saved = run("iptables-nft-save", "");
        run("iptables-nft -D FORWARD 1", "");
        assert_eq!(chains(&mut socket)[0].ours, wanted()[1..]);
        run("iptables-nft-restore", &saved);
        assert_eq!(chains(&mut socket)[0].ours, wanted());
        assert!(forward_of_iptables().contains(&SPEC.to_owned()));
        set(&mut socket, &[]);
        assert_eq!(forward_of_iptables(), ["-P FORWARD DROP"]);
    });
}

#[test]
fn rules_with_copies_or_behind_somebody_elses_are_put_right() {
    if !installed("iptables-nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        run("iptables-nft -P FORWARD DROP", "");
        set(&mut socket, &wanted());
        let right = forward_of_iptables();
        let args = [
            "-A",
            "FORWARD",
            "-s",
            "10.244.0.0/16",
            "-m",
            "comment",
            "--comment",
            "selvedge mynet",
            "-j",
            "ACCEPT",
        ];
        assert!(std::process::Command::new("iptables-nft").args(args).status().unwrap().success());
        assert_ne!(chains(&mut socket)[0].ours, wanted());
        set(&mut socket, &wanted());
        assert_eq!(forward_of_iptables(), right);
        run("iptables-nft -I FORWARD -j DROP", "");
        assert_ne!(chains(&mut socket)[0].ours, wanted());
        set(&mut socket, &wanted());
        let mut expected = right.clone();
        expected.push("-A FORWARD -j DROP".to_owned());
        assert_eq!(forward_of_iptables(), expected);
        assert_eq!(chains(&mut socket)[0].ours, wanted());
    });
}

#[test]
fn two_networks_keep_to_their_own_rules() {
    if !installed("iptables-nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        run("iptables-nft -P FORWARD DROP", "");
        set(&mut socket, &wanted());
        let other: NetworkName = "mynet2".parse().unwrap();
        let theirs = accepting(&["10.245.0.0/16".parse().unwrap()]);
        socket.set_accept(&FILTER, &FORWARD, &other, &theirs).unwrap();
        assert_eq!(chains(&mut socket)[0].ours, wanted());
        set(&mut socket, &[]);
        assert_eq!(socket.forward_chains(&other).unwrap()[0].ours, theirs);
    });
}

#[test]
fn an_accepting_chain_is_left_alone_and_a_dropping_one_of_any_table_is_not() {
    if !installed("nft") {
        return;
    }
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        run(
            "nft -f -",
            "table inet filter { chain forward { type filter hook forward priority filter; policy accept; ct state new accept; }; }
             table ip filter { chain FORWARD { type filter hook forward priority filter; policy accept; }; }
             table inet selvedge { chain forward { type filter hook forward priority filter; policy drop; }; }
             table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; reject with icmpx admin-prohibited; }; }",
        );
        assert_eq!(chains(&mut socket), []);
        run("nft add rule inet filter forward counter reject", "");
        let table = TableId::literal(Family::Inet, "filter");
        let chain = ChainName::literal("forward");
        let both = accepting(&["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()]);
        socket.set_accept(&table, &chain, &mynet(), &both).unwrap();
        assert_eq!(chains(&mut socket), [ForwardChain { place: Place::Nft(table, chain), ours: both }]);
        let listed = run("nft -s list chain inet filter forward", "");
        assert!(listed.contains("ip6 daddr fd00::/48 counter accept comment \"selvedge mynet\""), "{listed}");
    });
}

#[test]
fn a_chain_that_is_gone_needs_nothing() {
    in_namespace(|| {
        let mut socket = NftSocket::open().unwrap();
        set(&mut socket, &[Accept { cidr: "10.0.0.0/8".parse().unwrap(), direction: Direction::From }]);
    });
}
