use std::io::ErrorKind;
use std::net::IpAddr;

use proptest::prelude::*;
use selvedge_model::PublicKey;
use selvedge_model::transport::Choice;

use super::*;

mod policies;

const NODE_A: &str = "\
apiVersion: v1
kind: Node
metadata:
  name: node-a
spec:
  podCIDR: 10.244.0.0/24
  podCIDRs: [10.244.0.0/24, 'fd00:10:244::/64']
status:
  addresses:
  - {type: Hostname, address: node-a}
  - {type: InternalIP, address: 172.30.0.11}
  - type: InternalIP
    address: fd00:30::b
";

const NODE_B: &str = "\
apiVersion: v1
kind: Node
metadata: {name: node-b}
spec: {podCIDR: 10.244.1.0/24}
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  uid: 8f0c
  labels: {app: web, version: \"1\"}
spec:
  nodeName: node-b
  hostNetwork: false
  containers: [{name: web, image: web}]
status:
  podIP: 10.244.1.7
  podIPs: [{ip: 10.244.1.7}, {ip: 'fd00:10:244:1::7'}]
";

/// Reads files given by name and text.
fn update(manifests: &mut Manifests, files: &[(&str, &str)]) -> Snapshot {
    manifests.update(files.iter().map(|(name, text)| (name.into(), Ok(text.as_bytes().to_vec()))).collect())
}

fn first(files: &[(&str, &str)]) -> Snapshot {
    update(&mut Manifests::default(), files)
}

fn nodes(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.cluster.nodes().keys().map(|name| name.as_str()).collect()
}

fn cidrs(snapshot: &Snapshot, node: &str) -> Vec<String> {
    snapshot
        .cluster
        .nodes()
        .get(&node.parse().unwrap())
        .unwrap()
        .pod_cidrs
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn problems(snapshot: &Snapshot) -> Vec<String> {
    snapshot.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_node_is_read_with_its_networks_and_internal_addresses() {
    let snapshot = first(&[("nodes.yaml", NODE_A)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    assert!(snapshot.is_whole());
    let node = snapshot.cluster.nodes().get(&"node-a".parse().unwrap()).unwrap();
    assert_eq!(node.addresses, ["172.30.0.11".parse::<IpAddr>().unwrap(), "fd00:30::b".parse().unwrap()]);
    assert_eq!(cidrs(&snapshot, "node-a"), ["10.244.0.0/24", "fd00:10:244::/64"]);
}

#[test]
fn a_node_with_only_pod_cidr_has_that_network() {
    assert_eq!(cidrs(&first(&[("n.yaml", NODE_B)]), "node-b"), ["10.244.1.0/24"]);
}

#[test]
fn a_pod_is_read_with_its_labels_and_addresses() {
    let snapshot = first(&[("pods.yaml", POD)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    let pod = &snapshot.cluster.pods()[&"shop/web-0".parse().unwrap()];
    assert_eq!(pod.uid.as_deref(), Some("8f0c"));
    assert_eq!(pod.node.as_ref().map(|node| node.as_str()), Some("node-b"));
    assert_eq!(
        pod.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["app=web", "version=1"]
    );
    assert_eq!(pod.addresses.len(), 2);
    assert!(!pod.host_network);
}

#[test]
fn a_pod_is_read_with_its_named_ports_and_its_phase() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {phase: Failed}\nspec:\n  containers:\n  \
                - {name: a, env: [{name: A}], ports: [{name: http, containerPort: 80}, {containerPort: 81}]}\n  \
                initContainers:\n  - ports: [{name: once, containerPort: 9}]\n  \
                - {restartPolicy: Always, ports: [{name: dns, containerPort: 53, protocol: UDP}]}\n";
    let snapshot = first(&[("p.yml", text)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    let pod = &snapshot.cluster.pods()[&"default/p".parse().unwrap()];
    let ports = pod.ports.iter().map(|port| format!("{} {} {}", port.name, port.transport, port.number));
    assert_eq!(ports.collect::<Vec<_>>(), ["http tcp 80", "dns udp 53"]);
    assert!(pod.finished);
}

#[test]
fn a_pod_that_has_no_address_and_no_namespace_yet_is_read() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: null}\nspec: {nodeName: '', hostNetwork: true}\n\
                status: {podIP: ''}\n";
    let snapshot = first(&[("p.yml", text)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    let pod = &snapshot.cluster.pods()[&"default/p".parse().unwrap()];
    assert!(pod.addresses.is_empty() && pod.node.is_none() && pod.host_network);
}

#[test]
fn documents_lists_and_json_are_all_read() {
    let several = format!("---\n# a comment\n---\n{NODE_A}---\n{NODE_B}...\n");
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
	{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-c", "annotations": {"a": "\/ \u00e9"}}}]}"#;
    let list =
        "apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: node-d}\n- metadata: {name: node-e}\n";
    let snapshot = first(&[("a.yaml", &several), ("b.json", json), ("c.yaml", list)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    assert_eq!(nodes(&snapshot), ["node-a", "node-b", "node-c", "node-d", "node-e"]);
}

#[test]
fn other_kinds_and_other_groups_are_passed_over() {
    let text = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: 7}\n---\n\
                apiVersion: longhorn.io/v1beta2\nkind: Node\nmetadata: {name: node-a}\n---\n\
                apiVersion: v1\nkind: Service\n";
    let snapshot = first(&[("other.yaml", text)]);
    assert_eq!((problems(&snapshot).len(), nodes(&snapshot).len()), (0, 0));
}

/// Each manifest of `faults.txt` is read as `m.yaml`; the line after it says what is wrong with it.
#[test]
fn every_fault_is_named_by_file_place_object_and_field() {
    for case in include_str!("faults.txt").split("\n\n") {
        let (text, expected) = case.trim_end().rsplit_once("\n=> ").unwrap();
        let snapshot = first(&[("m.yaml", text)]);
        assert_eq!(problems(&snapshot), [expected], "{text}");
        assert!(!snapshot.is_whole(), "{expected} hides an object");
    }
}

#[test]
fn a_text_that_is_not_utf8_is_a_problem_at_the_first_bad_byte() {
    let files = BTreeMap::from([("m.yaml".into(), Ok(b"kind: Node\nname: \xff".to_vec()))]);
    assert_eq!(problems(&Manifests::default().update(files)), ["m.yaml:2:7: the text is not UTF-8"]);
}

#[test]
fn an_object_with_a_bad_field_keeps_its_last_good_form() {
    let mut manifests = Manifests::default();
    let good = format!("{NODE_A}---\n{NODE_B}");
    update(&mut manifests, &[("nodes.yaml", &good)]);
    let bad = good.replace("10.244.1.0/24", "10.244.1.0/33").replace("172.30.0.11", "172.30.0.12");
    let snapshot = update(&mut manifests, &[("nodes.yaml", &bad)]);
    let expected = "nodes.yaml:18:17: Node node-b: spec.podCIDR: \"10.244.1.0/33\" is no CIDR \
                    (the last good state stays in force)";
    assert_eq!(problems(&snapshot), [expected]);
    assert_eq!(cidrs(&snapshot, "node-b"), ["10.244.1.0/24"]);
    let node_a = snapshot.cluster.nodes().get(&"node-a".parse().unwrap()).unwrap();
    assert_eq!(node_a.addresses[0].to_string(), "172.30.0.12", "the good object beside it is not held back");
    assert!(snapshot.is_whole());
}

#[test]
fn a_broken_document_keeps_the_objects_of_its_file_and_the_next_ones_are_read() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("nodes.yaml", &format!("{NODE_A}---\n{NODE_B}"))]);
    let broken =
        format!("{}---\n{}", NODE_A.replace("[10", "[[10"), NODE_B.replace("10.244.1.", "10.244.9."));
    let snapshot = update(&mut manifests, &[("nodes.yaml", &broken)]);
    assert_eq!(nodes(&snapshot), ["node-a", "node-b"]);
    assert_eq!(cidrs(&snapshot, "node-b"), ["10.244.9.0/24"]);
    assert_eq!(snapshot.problems.len(), 1);
    assert!(snapshot.problems[0].in_force == InForce::LastGood && snapshot.is_whole());
    let snapshot = update(&mut manifests, &[("nodes.yaml", NODE_B)]);
    assert_eq!((nodes(&snapshot), problems(&snapshot)), (vec!["node-b"], vec![]));
}

#[test]
fn a_broken_document_moved_by_one_inserted_before_it_still_keeps_its_object() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("nodes.yaml", NODE_B)]);
    let broken = NODE_B.replace("{podCIDR", "{podCIDR: {");
    let snapshot = update(&mut manifests, &[("nodes.yaml", &format!("{NODE_A}---\n{broken}"))]);
    assert_eq!(nodes(&snapshot), ["node-a", "node-b"]);
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_objects_and_a_deleted_one_does_not() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("a.yaml", NODE_A), ("b.yaml", NODE_B)]);
    let denied = || Err(io::Error::from(ErrorKind::PermissionDenied));
    for _ in 0..2 {
        let snapshot = manifests.update(BTreeMap::from([("b.yaml".into(), denied())]));
        assert_eq!(nodes(&snapshot), ["node-b"]);
        let expected = "b.yaml: can't be read: permission denied (the last good state stays in force)";
        assert_eq!(problems(&snapshot), [expected]);
        assert!(snapshot.is_whole());
    }
    let snapshot = update(&mut manifests, &[("b.yaml", NODE_B)]);
    assert_eq!(problems(&snapshot), [""; 0], "the same text is read anew after a failure");
}

#[test]
fn a_file_that_never_could_be_read_hides_objects() {
    let mut manifests = Manifests::default();
    for _ in 0..2 {
        let denied = Err(io::Error::from(ErrorKind::PermissionDenied));
        let snapshot = manifests.update(BTreeMap::from([("b.yaml".into(), denied)]));
        assert_eq!(problems(&snapshot), ["b.yaml: can't be read: permission denied"]);
        assert!(!snapshot.is_whole());
    }
    assert!(!update(&mut manifests, &[("b.yaml", "[")]).is_whole());
    assert!(!update(&mut manifests, &[("b.yaml", "{")]).is_whole(), "a second broken text knows no more");
    assert!(update(&mut manifests, &[("b.yaml", NODE_B)]).is_whole());
}

#[test]
fn what_comes_broken_after_the_first_reading_hides_nothing() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("a.yaml", NODE_A)]);
    let bad = NODE_B.replace("/24", "/33");
    for text in ["[", &bad] {
        let snapshot = update(&mut manifests, &[("a.yaml", NODE_A), ("b.yaml", text)]);
        assert_eq!((nodes(&snapshot), snapshot.problems.len()), (vec!["node-a"], 1));
        assert!(snapshot.is_whole() && snapshot.problems[0].in_force == InForce::Nothing, "{text}");
    }
    let snapshot = update(&mut manifests, &[("a.yaml", &format!("{NODE_A}---\n{bad}"))]);
    assert!(snapshot.is_whole() && snapshot.problems[0].in_force == InForce::Nothing);
}

#[test]
fn an_object_broken_from_the_start_hides_itself_until_it_is_mended_or_gone() {
    let bad = format!("{NODE_A}---\n{}", NODE_B.replace("/24", "/33"));
    for mended in [NODE_A.to_owned(), format!("{NODE_A}---\n{NODE_B}")] {
        let mut manifests = Manifests::default();
        assert!(!update(&mut manifests, &[("a.yaml", &bad)]).is_whole());
        assert!(!update(&mut manifests, &[("a.yaml", &format!("{bad}---\n{POD}"))]).is_whole());
        assert!(update(&mut manifests, &[("a.yaml", &mended)]).is_whole());
    }
}

#[test]
fn a_file_that_is_being_rewritten_keeps_its_objects_while_it_is_empty() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("b.yaml", NODE_B)]);
    let snapshot = update(&mut manifests, &[("b.yaml", "\n")]);
    assert_eq!(nodes(&snapshot), ["node-b"]);
    let expected =
        "b.yaml: is empty now; delete the file to remove its objects (the last good state stays in force)";
    assert_eq!(problems(&snapshot), [expected]);
    assert_eq!(nodes(&update(&mut manifests, &[])), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_listed_changes_nothing() {
    let mut manifests = Manifests::default();
    update(&mut manifests, &[("b.yaml", NODE_B)]);
    let snapshot = manifests.unlisted(Path::new("/manifests"), &ErrorKind::NotFound.into());
    assert_eq!(nodes(&snapshot), ["node-b"]);
    let expected = "/manifests: can't be read: entity not found (the last good state stays in force)";
    assert_eq!(problems(&snapshot), [expected]);
}

#[test]
fn of_two_objects_with_one_key_the_first_in_file_order_is_in_force() {
    let mut manifests = Manifests::default();
    let other = NODE_B.replace("10.244.1.", "10.244.2.");
    let snapshot = update(&mut manifests, &[("b.yaml", &other), ("a.yaml", NODE_B)]);
    assert_eq!(cidrs(&snapshot, "node-b"), ["10.244.1.0/24"]);
    let expected = "b.yaml:1:1: Node node-b: is already declared at a.yaml:1:1, which stays in force";
    assert_eq!(problems(&snapshot), [expected]);
    let snapshot = update(&mut manifests, &[("b.yaml", &other)]);
    assert_eq!((cidrs(&snapshot, "node-b"), problems(&snapshot)), (vec!["10.244.2.0/24".to_owned()], vec![]));
}

#[test]
fn the_later_of_two_nodes_goes_without_a_network_that_overlaps() {
    let later =
        NODE_B.replace("podCIDR: 10.244.1.0/24", "podCIDRs: [10.244.0.128/25, 10.244.1.0/24, 10.244.0.0/15]");
    let snapshot = first(&[("a.yaml", NODE_A), ("b.yaml", &later)]);
    assert_eq!(cidrs(&snapshot, "node-b"), ["10.244.1.0/24"]);
    let [inside, around] = &problems(&snapshot)[..] else { panic!("{:?}", problems(&snapshot)) };
    assert_eq!(
        inside,
        "b.yaml:1:1: Node node-b: podCIDR 10.244.0.128/25 overlaps 10.244.0.0/24 of Node node-a at a.yaml:1:1, \
         which keeps it"
    );
    assert!(around.contains("podCIDR 10.244.0.0/15 overlaps 10.244.0.0/24 of Node node-a"), "{around}");
}

#[test]
fn a_thousand_nodes_are_read_in_one_file_and_in_a_thousand() {
    let node = |i: usize| {
        NODE_B
            .replace("node-b", &format!("node-{i}"))
            .replace("10.244.1.", &format!("10.{}.{}.", i / 250, i % 250))
    };
    let whole: String = (0..1000).map(|i| format!("---\n{}", node(i))).collect();
    let one = first(&[("nodes.yaml", &whole)]);
    let many = (0..1000).map(|i| (format!("{i}.yaml").into(), Ok(node(i).into_bytes()))).collect();
    let many = Manifests::default().update(many);
    assert_eq!((one.cluster.nodes().len(), problems(&one)), (1000, vec![]));
    assert_eq!(one, many);
}

/// NODE_B with these annotations.
fn annotated(annotations: &str) -> String {
    NODE_B.replace("{name: node-b}", &format!("{{name: node-b, annotations: {{{annotations}}}}}"))
}

fn node_b(snapshot: &Snapshot) -> &Node {
    snapshot.cluster.nodes().get(&"node-b".parse().unwrap()).unwrap()
}

#[test]
fn a_node_says_how_it_is_reached_and_what_its_key_is() {
    let key = PublicKey([7; 32]);
    let text = annotated(&format!("{}: vxlan, {}: {key}", Choice::ANNOTATION, PublicKey::ANNOTATION));
    let snapshot = first(&[("b.yaml", &text)]);
    assert_eq!(problems(&snapshot), [""; 0]);
    assert_eq!(node_b(&snapshot).transport.map(|choice| choice.to_string()).as_deref(), Some("vxlan"));
    assert_eq!(node_b(&snapshot).wireguard, Some(key));
}

#[test]
fn an_annotation_that_is_no_good_counts_as_not_there_also_where_it_was_good_before() {
    let mut manifests = Manifests::default();
    let key = PublicKey([7; 32]);
    let good = annotated(&format!("{}: vxlan, {}: {key}", Choice::ANNOTATION, PublicKey::ANNOTATION));
    let bad = annotated("selvedge.dev/transport: vxlna, selvedge.dev/wireguard-public-key: 5");
    for before in [None, Some(&*good)] {
        before.map(|text| update(&mut manifests, &[("b.yaml", text)]));
        let snapshot = update(&mut manifests, &[("b.yaml", &bad)]);
        let expected = [
            "b.yaml:3:64: Node node-b: metadata.annotations[\"selvedge.dev/transport\"]: \"vxlna\" must be auto, \
             direct, native, vxlan, udp or wireguard (counts as not there)",
            "b.yaml:3:106: Node node-b: metadata.annotations[\"selvedge.dev/wireguard-public-key\"]: must be text, \
             but is a number (counts as not there)",
        ];
        assert_eq!(problems(&snapshot), expected);
        assert_eq!((node_b(&snapshot).transport, node_b(&snapshot).wireguard), (None, None));
        assert_eq!(cidrs(&snapshot, "node-b"), ["10.244.1.0/24"]);
        assert!(snapshot.is_whole());
        manifests = Manifests::default();
    }
}

#[test]
fn a_key_in_the_shared_directory_goes_before_an_annotation_and_makes_no_node() {
    let mut manifests = Manifests::default();
    let (said, shared) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let text = annotated(&format!("{}: {said}", PublicKey::ANNOTATION));
    let file = |name: &str| (PathBuf::from(name), Ok(format!("{shared}\n").into_bytes()));
    manifests.update_keys(BTreeMap::from([file("node-b"), file("node-x")]));
    let snapshot = update(&mut manifests, &[("b.yaml", &text)]);
    assert_eq!((nodes(&snapshot), problems(&snapshot)), (vec!["node-b"], vec![]));
    assert_eq!(node_b(&snapshot).wireguard, Some(shared));
    manifests.update_keys(BTreeMap::from([(PathBuf::from("NODE"), Ok(Vec::new()))]));
    let snapshot = manifests.snapshot();
    assert_eq!(node_b(&snapshot).wireguard, Some(said));
    assert_eq!(snapshot.problems.len(), 1);
    assert!(snapshot.is_whole(), "{:?}", problems(&snapshot));
}

/// Texts near to real ones: pieces of manifests, in any order.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(NODE_A.to_owned()),
        Just(NODE_B.to_owned()),
        Just(POD.to_owned()),
        Just("---\n".to_owned()),
        "[-:{}\\[\\],&*#|>'\"%!?~ \t\na]{0,12}",
    ];
    let near = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![near, prop::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #[test]
    fn whatever_bytes_a_file_holds_nothing_panics_and_nothing_in_other_files_is_lost(texts in prop::collection::vec(text(), 1..4)) {
        let mut manifests = Manifests::default();
        for text in texts {
            let files = [("a.yaml".into(), Ok(NODE_A.into())), ("b.yaml".into(), Ok(text))];
            let snapshot = manifests.update(files.into());
            prop_assert!(nodes(&snapshot).contains(&"node-a"));
        }
    }

    #[test]
    fn an_object_once_read_stays_whatever_its_document_is_cut_to(cut in 1..NODE_B.len()) {
        let mut manifests = Manifests::default();
        update(&mut manifests, &[("b.yaml", NODE_B)]);
        let cut = NODE_B.split_at(cut).0;
        let snapshot = update(&mut manifests, &[("b.yaml", cut)]);
        // A cut before the last characters of "kind: Node" leaves another kind, or none.
        let other_kind = snapshot.problems.is_empty() && nodes(&snapshot).is_empty();
        prop_assert!(nodes(&snapshot).len() == 1 || other_kind && cut.len() < 26, "{cut}: {snapshot:?}");
    }

    #[test]
    fn what_a_file_says_does_not_depend_on_how_often_it_is_read(text in text()) {
        let files = || BTreeMap::from([("b.yaml".into(), Ok(text.clone()))]);
        let mut manifests = Manifests::default();
        let once = manifests.update(files());
        prop_assert_eq!(&once, &manifests.update(files()));
        prop_assert_eq!(once, Manifests::default().update(files()));
    }
}

proptest! {
    #[test]
    fn what_is_changed_file_by_file_is_what_a_first_reading_would_come_to(
        changes in prop::collection::vec((0..4usize, prop::collection::vec((0..6u8, 0..6u8, 0..8u8), 0..3)), 1..25),
    ) {
        let mut manifests = Manifests::default();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for (file, objects) in changes {
            let object = |(kind, name, net): &(u8, u8, u8)| match kind {
                0 => format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: ns-{name}}}}}\n"),
                1 => format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: pod-{name}, namespace: ns-{net}}}}}\n"),
                _ => format!(
                    "---\n{{apiVersion: v1, kind: Node, metadata: {{name: node-{name}}}, spec: {{podCIDR: 10.{net}.0.0/16}}}}\n"
                ),
            };
            let name = format!("{file}.yaml");
            if objects.is_empty() {
                files.remove(&name);
            } else {
                files.insert(name, objects.iter().map(object).collect());
            }
            let all: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
            prop_assert_eq!(update(&mut manifests, &all), first(&all));
        }
    }
}

#[test]
fn nodes_that_come_and_go_leave_the_rest_as_it_was() {
    let mut manifests = Manifests::default();
    let before = update(&mut manifests, &[("a.yaml", NODE_A), ("pod.yaml", POD)]);
    let after = update(&mut manifests, &[("a.yaml", NODE_A), ("b.yaml", NODE_B), ("pod.yaml", POD)]);
    assert!(manifests.merged.is_some());
    assert_eq!(nodes(&after), ["node-a", "node-b"]);
    assert!(after.cluster.pods().shares(before.cluster.pods()));
    let again = update(&mut manifests, &[("a.yaml", NODE_A), ("pod.yaml", POD)]);
    assert_eq!(again, before);
}
