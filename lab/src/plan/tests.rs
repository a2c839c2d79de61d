use std::collections::BTreeSet;

use crate::shape::{Attach, Count, FamilyChoice};

use super::*;

fn plan(nodes: u8, pods: u8, family: FamilyChoice) -> Plan {
    let (nodes, pods) = (Count::new(nodes).unwrap(), Count::new(pods).unwrap());
    Plan::new(Shape::new(nodes, pods, Attach::Routed, family))
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn three_nodes_have_the_names_and_addresses_that_the_documents_show() {
    let plan = plan(3, 2, FamilyChoice::Dual);
    let [a, _, c] = &plan.nodes[..] else { panic!("not three nodes") };
    assert_eq!(a.name.as_str(), "node-a");
    assert_eq!(texts(&a.addresses), ["172.30.0.11/24", "fd00:30::11/64"]);
    assert_eq!(texts(&a.pod_cidrs), ["10.244.0.0/24", "fd00:10:244::/64"]);
    assert_eq!(texts(&a.pods), ["default/web-0", "default/client-0"]);
    assert_eq!(texts(&c.addresses), ["172.30.0.13/24", "fd00:30::13/64"]);
    assert_eq!(texts(&c.pod_cidrs), ["10.244.2.0/24", "fd00:10:244:2::/64"]);
    assert_eq!(texts(&c.pods), ["default/web-2", "default/client-2"]);
    assert_eq!(outside(Family::V4).to_string(), "192.0.2.2/24");
    assert_eq!(Segment::First.router(Family::V6).to_string(), "fd00:30::1/64");
}

#[test]
fn one_family_leaves_the_other_out_everywhere() {
    let plan = plan(2, 1, FamilyChoice::Ipv6);
    assert_eq!(texts(&plan.nodes[1].addresses), ["fd00:30::12/64"]);
    assert_eq!(texts(&plan.nodes[1].pod_cidrs), ["fd00:10:244:1::/64"]);
    assert_eq!(plan.nodes[1].address(Family::V4), None);
}

#[test]
fn the_largest_lab_has_no_name_or_address_twice() {
    let plan = plan(50, 100, FamilyChoice::Dual);
    let names: BTreeSet<_> = plan.nodes.iter().map(|n| &n.name).collect();
    let addresses: BTreeSet<_> = plan.nodes.iter().flat_map(|n| &n.addresses).collect();
    let pods: BTreeSet<_> = plan.pods().map(|(_, pod)| pod).collect();
    assert_eq!((names.len(), addresses.len(), pods.len()), (50, 100, 5000));
    assert_eq!(plan.nodes[25].name.as_str(), "node-z");
    assert_eq!(plan.nodes[26].name.as_str(), "node-27");
}

#[test]
fn the_second_half_of_the_nodes_is_on_the_second_segment() {
    let mut shape = plan(3, 1, FamilyChoice::Dual).shape;
    shape.network.segments = Count::new(2).unwrap();
    let plan = Plan::new(shape);
    let [a, b, c] = &plan.nodes[..] else { panic!("not three nodes") };
    assert_eq!([a.segment, b.segment, c.segment], [Segment::First, Segment::First, Segment::Second]);
    assert_eq!(texts(&b.addresses), ["172.30.0.12/24", "fd00:30::12/64"]);
    assert_eq!(texts(&c.addresses), ["172.30.1.13/24", "fd00:30:1::13/64"]);
    assert_eq!(Segment::Second.router(Family::V4).to_string(), "172.30.1.1/24");
    let on_first = |nodes| {
        let mut shape = Shape { nodes: Count::new(nodes).unwrap(), ..plan.shape.clone() };
        shape.network.segments = Count::new(2).unwrap();
        Plan::new(shape).nodes.iter().filter(|node| node.segment == Segment::First).count()
    };
    assert_eq!([on_first(1), on_first(2), on_first(50)], [1, 1, 25]);
}
