//! What `deploy/terraform` provisions: read as HCL, evaluated, and held against what the agents read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use hcl::Value;
use ipnet::IpNet;
use selvedge_source::Manifests;

use crate::plan::{Files, Plan, at, label, string, value};

const CLOUDS: [&str; 2] = ["aws", "gcp"];

/// Which node gets what is for which pods, by which address.
type Ways = BTreeSet<(String, IpNet, IpAddr)>;

#[test]
fn each_route_leads_to_the_node_whose_pods_it_is_for() {
    for cloud in CLOUDS {
        for further in [vec![], vec![("nodes", 40.into())], vec![("pod_network", "172.16.0.0/12".into())]] {
            let plan = plan(cloud, &further);
            let routes = match cloud {
                "aws" => routes_by_interface(&plan),
                _ => routes_by_address(&plan),
            };
            assert_eq!(routes, by_manifests(&plan), "{cloud} with {further:?}");
            let nodes = further.iter().find(|(name, _)| *name == "nodes");
            assert_eq!(routes.len(), nodes.map_or(3, |_| 40));
        }
    }
}

#[test]
fn kubectl_gives_each_node_the_pods_that_its_route_is_for() {
    for cloud in CLOUDS {
        let plan = plan(cloud, &[]);
        let patched = string(plan.output("pod_cidrs"));
        let patched = patched.lines().map(|line| {
            let (node, patch) = line
                .strip_prefix("kubectl patch node ")
                .and_then(|rest| rest.split_once(" --patch "))
                .unwrap_or_else(|| panic!("not a patch: {line}"));
            let patch: serde_json::Value =
                serde_json::from_str(patch.trim_matches('\'')).expect("a patch is JSON");
            assert_eq!(patch["spec"]["podCIDRs"], serde_json::json!([patch["spec"]["podCIDR"]]));
            (node.to_owned(), net(patch["spec"]["podCIDR"].as_str().expect("a CIDR is a text")))
        });
        let expected: BTreeMap<_, _> =
            by_manifests(&plan).into_iter().map(|(node, pods, _)| (node, pods)).collect();
        assert_eq!(patched.collect::<BTreeMap<_, _>>(), expected, "{cloud}");
    }
}

#[test]
fn the_clouds_let_pods_packets_through() {
    let aws = plan("aws", &[]);
    let group = "aws_security_group.nodes.id";
    let rule = |name| aws.the("aws_vpc_security_group_ingress_rule", name);
    for name in ["nodes", "pods"] {
        assert_eq!(texts(rule(name), ["security_group_id", "ip_protocol"]), [group, "-1"]);
    }
    // A group stands for its interfaces' addresses, which pods' are not.
    assert_eq!(texts(rule("nodes"), ["referenced_security_group_id"]), [group]);
    assert_eq!(texts(rule("pods"), ["cidr_ipv4"]), ["10.244.0.0/16"]);
    let out = aws.the("aws_vpc_security_group_egress_rule", "all");
    assert_eq!(texts(out, ["security_group_id", "ip_protocol", "cidr_ipv4"]), [group, "-1", "0.0.0.0/0"]);

    let gcp = plan("gcp", &[]);
    let inside = gcp.the("google_compute_firewall", "inside");
    assert_eq!(*at(inside, "source_ranges"), vec!["10.0.0.0/24", "10.244.0.0/16"].into());
    assert_eq!(texts(inside, ["network", "allow/0/protocol"]), ["google_compute_network.this.id", "all"]);
    assert_eq!(at(inside, "target_tags"), &Value::Null, "it is for every node");
}

#[test]
fn a_node_is_a_machine_that_forwards() {
    let aws = plan("aws", &[]);
    for (name, node) in aws.each("aws_instance", "node") {
        assert_eq!(*at(node, "source_dest_check"), false.into(), "{name}");
        assert!(string(at(node, "user_data")).contains("net.ipv4.ip_forward = 1"), "{name}");
        // kubelet's name for the node, which the patches go by.
        assert!(string(at(node, "user_data")).contains(&format!("set-hostname {name}\n")), "{name}");
        let wired = ["subnet_id", "vpc_security_group_ids/0", "key_name"];
        assert_eq!(
            texts(node, wired),
            ["aws_subnet.nodes.id", "aws_security_group.nodes.id", "pods"],
            "{name}"
        );
    }
    let gcp = plan("gcp", &[]);
    for (name, node) in gcp.each("google_compute_instance", "node") {
        assert_eq!(*at(node, "can_ip_forward"), true.into(), "{name}");
        assert!(string(at(node, "metadata_startup_script")).contains("net.ipv4.ip_forward = 1"), "{name}");
        let wired = ["name", "network_interface/0/subnetwork", "zone"];
        assert_eq!(texts(node, wired), [name, "google_compute_subnetwork.nodes.id", "europe-west3-a"]);
        assert!(at(node, "network_interface/0/access_config/0").is_object(), "{name} has an address outside");
    }
}

#[test]
fn the_networks_parts_belong_together() {
    let aws = plan("aws", &[]);
    let vpc = "aws_vpc.this.id";
    let subnet = aws.the("aws_subnet", "nodes");
    assert_eq!(texts(aws.the("aws_vpc", "this"), ["cidr_block"]), ["10.0.0.0/24"]);
    assert_eq!(texts(subnet, ["vpc_id", "cidr_block"]), [vpc, "10.0.0.0/24"]);
    for (kind, name) in
        [("aws_internet_gateway", "this"), ("aws_route_table", "nodes"), ("aws_security_group", "nodes")]
    {
        assert_eq!(texts(aws.the(kind, name), ["vpc_id"]), [vpc], "{kind}");
    }
    let association = aws.the("aws_route_table_association", "nodes");
    let table = "aws_route_table.nodes.id";
    assert_eq!(texts(association, ["subnet_id", "route_table_id"]), ["aws_subnet.nodes.id", table]);
    let outside = ["route_table_id", "destination_cidr_block", "gateway_id"];
    let expected = [table, "0.0.0.0/0", "aws_internet_gateway.this.id"];
    assert_eq!(texts(aws.the("aws_route", "internet"), outside), expected);
    assert_eq!(texts(aws.the("aws_key_pair", "admin"), ["public_key"]), [KEY]);
    for name in ["ssh", "api"] {
        let rules = aws.each("aws_vpc_security_group_ingress_rule", name);
        assert_eq!(rules.len(), 1);
        let from = texts(&rules[ADMIN], ["security_group_id", "cidr_ipv4", "ip_protocol"]);
        assert_eq!(from, ["aws_security_group.nodes.id", ADMIN, "tcp"]);
    }

    let gcp = plan("gcp", &[]);
    assert_eq!(*at(gcp.the("google_compute_network", "this"), "auto_create_subnetworks"), false.into());
    assert_eq!(*at(gcp.the("google_compute_network", "this"), "mtu"), 1460.into());
    let subnet = texts(gcp.the("google_compute_subnetwork", "nodes"), ["network", "ip_cidr_range", "region"]);
    assert_eq!(subnet, ["google_compute_network.this.id", "10.0.0.0/24", "europe-west3"]);
    let admin = gcp.the("google_compute_firewall", "admin");
    assert_eq!(texts(admin, ["source_ranges/0", "allow/0/protocol"]), [ADMIN, "tcp"]);
}

#[test]
fn what_could_not_work_is_refused_by_the_variables_name() {
    let cases: [(&str, Value); 14] = [
        ("pod_network", "10.0.0.0/8".into()),
        ("pod_network", "10.244.1.0/24".into()),
        ("pod_network", "300.1.0.0/16".into()),
        ("pod_network", "10.244.0.0".into()),
        ("node_network", "10.244.3.0/24".into()),
        ("node_network", "10.0.0.0/28".into()),
        ("nodes", 0.into()),
        ("nodes", 201.into()),
        ("name", "Pods".into()),
        ("name", "".into()),
        ("admin_networks", Value::Array(Vec::new())),
        ("admin_networks", vec!["203.0.113.7"].into()),
        ("ssh_public_key", "AAAA".into()),
        ("ssh_public_key", "-----BEGIN OPENSSH PRIVATE KEY-----".into()),
    ];
    for cloud in CLOUDS {
        for (name, value) in &cases {
            let refusals = refusals(cloud, name, value);
            // The two networks are compared where the pods' is said.
            let named =
                |refusal: &String| refusal.starts_with(&format!("{name}:")) || refusal.contains("overlap");
            assert!(refusals.iter().any(named), "{cloud}: {name} = {value}: {refusals:?}");
        }
    }
    for (cloud, name, value) in [
        ("aws", "region", "Frankfurt".into()),
        ("aws", "image", "debian".into()),
        ("gcp", "zone", "europe-west3".into()),
        ("gcp", "project", "x".into()),
        ("gcp", "mtu", 9001.into()),
    ] {
        let refusals = refusals(cloud, name, &value);
        assert!(refusals.iter().any(|refusal| refusal.starts_with(&format!("{name}:"))), "{cloud}: {name}");
    }
}

#[test]
fn the_providers_are_pinned_to_a_major_version() {
    for (cloud, provider, version) in [("aws", "aws", "~> 6.0"), ("gcp", "google", "~> 7.0")] {
        let files = Files::of(cloud);
        let terraform = files.blocks("terraform").next().expect("there is a terraform block");
        let required = terraform.body().blocks().find(|block| block.identifier() == "required_providers");
        let required = value(required.expect("providers are named"), provider, &hcl::eval::Context::new());
        let source = format!("hashicorp/{provider}");
        assert_eq!(texts(&required, ["source", "version"]), [source.as_str(), version]);
        let configured: Vec<_> = files.blocks("provider").map(|block| label(block, 0)).collect();
        assert_eq!(configured, [provider]);
    }
}

const ADMIN: &str = "203.0.113.7/32";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample admin@example";

/// What has no default.
fn given(cloud: &str) -> Vec<(&'static str, Value)> {
    let mut given = vec![("admin_networks", vec![ADMIN].into()), ("ssh_public_key", KEY.into())];
    given.extend(match cloud {
        "aws" => vec![("region", "eu-central-1".into())],
        _ => vec![("project", "project-1".into()), ("zone", "europe-west3-a".into())],
    });
    given
}

fn plan(cloud: &str, further: &[(&'static str, Value)]) -> Plan {
    Files::of(cloud).plan(&[given(cloud), further.to_vec()].concat())
}

fn refusals(cloud: &str, name: &'static str, value: &Value) -> Vec<String> {
    let mut given = given(cloud);
    given.retain(|(other, _)| *other != name);
    given.push((name, value.clone()));
    Files::of(cloud).refusals(&given)
}

/// What the agents of a directory of these manifests read.
fn by_manifests(plan: &Plan) -> Ways {
    let text = string(plan.output("manifests")).into_bytes();
    let snapshot = Manifests::default().update(BTreeMap::from([(PathBuf::from("nodes.yaml"), Ok(text))]));
    assert_eq!(snapshot.problems, []);
    let cluster = snapshot.cluster;
    let ways = cluster.nodes().values().map(|node| {
        let (&[pods], &[address]) = (&node.pod_cidrs[..], &node.addresses[..]) else {
            panic!("a node has one pod CIDR and one address: {node:?}");
        };
        (node.name.to_string(), pods, address)
    });
    ways.collect()
}

/// AWS: a route names an instance's interface.
fn routes_by_interface(plan: &Plan) -> Ways {
    let instances = plan.each("aws_instance", "node").iter().map(|(name, node)| {
        (string(at(node, "primary_network_interface_id")), (name, address(at(node, "private_ip"))))
    });
    let instances: BTreeMap<_, _> = instances.collect();
    let routes = plan.each("aws_route", "pods").values().map(|route| {
        assert_eq!(texts(route, ["route_table_id"]), ["aws_route_table.nodes.id"]);
        let (name, address) = instances[&string(at(route, "network_interface_id"))];
        (name.clone(), net(&string(at(route, "destination_cidr_block"))), address)
    });
    routes.collect()
}

/// GCP: a route names an instance's address.
fn routes_by_address(plan: &Plan) -> Ways {
    let instances = plan
        .each("google_compute_instance", "node")
        .iter()
        .map(|(name, node)| (address(at(node, "network_interface/0/network_ip")), name));
    let instances: BTreeMap<_, _> = instances.collect();
    let routes = plan.each("google_compute_route", "pods").values().map(|route| {
        assert_eq!(texts(route, ["network"]), ["google_compute_network.this.id"]);
        let address = address(at(route, "next_hop_ip"));
        (instances[&address].clone(), net(&string(at(route, "dest_range"))), address)
    });
    routes.collect()
}

fn texts<const N: usize>(value: &Value, paths: [&str; N]) -> [String; N] {
    paths.map(|path| string(at(value, path)))
}

fn address(value: &Value) -> IpAddr {
    string(value).parse().unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
