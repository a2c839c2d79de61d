use crate::path::{Protocol, address_of, fixed_addresses, paths};
use crate::plan::{Place, Plan};
use crate::shape::{Attach, Count, Family, FamilyChoice, Shape, Transport};

use super::*;

/// A lab of two nodes with two pods each, every path as it should be.
fn sound() -> Matrix {
    sound_of(shape(2))
}

fn shape(nodes: u8) -> Shape {
    let (nodes, pods) = (Count::new(nodes).unwrap(), Count::new(2).unwrap());
    Shape::new(nodes, pods, Attach::Routed, FamilyChoice::Dual)
}

fn sound_of(shape: Shape) -> Matrix {
    let plan = Plan::new(shape);
    let mut addresses = fixed_addresses(&plan);
    for (number, (node, pod)) in plan.pods().enumerate() {
        let host = |cidr: &ipnet::IpNet| cidr.hosts().nth(number + 2).unwrap();
        addresses.insert(Place::Pod(pod.clone()), node.pod_cidrs.iter().map(host).collect());
    }
    let probe = |path: Path| {
        let seen_source = address_of(&addresses, &path.seen_as, path.family).unwrap();
        Probe { path, expected_source: Some(seen_source), outcome: Outcome::Reached { seen_source } }
    };
    Matrix { cells: paths(&plan).into_iter().map(probe).collect() }
}

fn find<'a>(
    matrix: &'a mut Matrix,
    pod: &str,
    kind: PathKind,
    (family, protocol): (Family, Protocol),
) -> &'a mut Probe {
    let wanted = |probe: &&mut Probe| {
        let path = &probe.path;
        path.pod.name == pod && (path.kind, path.family, path.protocol) == (kind, family, protocol)
    };
    matrix.cells.iter_mut().find(wanted).unwrap()
}

fn broken() -> Matrix {
    let mut matrix = sound();
    for protocol in [Protocol::Icmp, Protocol::Tcp] {
        find(&mut matrix, "web-0", PathKind::Itself, (Family::V6, protocol)).outcome =
            Outcome::Failed(Reason::TimedOut);
    }
    let seen_source = "172.30.0.12".parse().unwrap();
    find(&mut matrix, "web-1", PathKind::SameNodePod, (Family::V4, Protocol::Tcp)).outcome =
        Outcome::Reached { seen_source };
    let seen_source = "10.244.1.5".parse().unwrap();
    find(&mut matrix, "client-1", PathKind::Outside, (Family::V4, Protocol::Icmp)).outcome =
        Outcome::Failed(Reason::NoAnswer { seen_source });
    matrix
}

#[test]
fn a_sound_lab_is_a_table_of_ok_and_one_sentence() {
    assert_eq!(sound().to_string(), include_str!("../../testdata/sound.txt"));
}

#[test]
fn a_lab_of_two_segments_says_who_is_seen_as_somebody_else() {
    let mut shape = Shape { transport: Transport::Auto, ..shape(3) };
    shape.network.segments = Count::new(2).unwrap();
    assert_eq!(sound_of(shape).to_string(), include_str!("../../testdata/segments.txt"));
}

#[test]
fn a_broken_lab_names_every_failed_path_with_its_reason() {
    assert_eq!(broken().to_string(), include_str!("../../testdata/broken.txt"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = broken().render(Style::Colour);
    assert!(coloured.contains("\x1b[31m") && coloured.contains("\x1b[32mok\x1b[0m"));
    let stripped =
        ["\x1b[31m", "\x1b[32m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(stripped, broken().to_string());
}

#[test]
fn a_lab_without_pods_has_no_table_and_no_claim() {
    assert_eq!(Matrix { cells: Vec::new() }.to_string(), "0 of 0 paths as expected.\n");
}

#[test]
fn a_wrong_source_is_a_fault_although_the_answer_came_back() {
    let faults: Vec<String> = broken().failed().map(|(_, fault)| fault).collect();
    assert!(faults.iter().any(|fault| fault.starts_with("arrived from 172.30.0.12 instead of 10.244.1.")));
}

#[test]
fn the_matrix_reads_back_from_its_json() {
    let text = serde_json::to_string(&broken()).unwrap();
    assert_eq!(serde_json::from_str::<Matrix>(&text).unwrap(), broken());
}
