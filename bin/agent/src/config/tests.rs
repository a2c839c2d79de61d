use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("agent.yaml")).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_and_one_of_comments_give_the_defaults() {
    for text in ["", "\n", "# nothing\n", "---\n", "{}", "mtu:\nmasquerade: null\n", "masquerade: {}\n"] {
        assert_eq!(parse(text), Ok(Config::default()), "{text:?}");
    }
    let Config { attach, transport, masquerade, forward_accept, .. } = Config::default();
    assert_eq!((attach, transport), (Attach::Routed, Choice::Auto));
    assert!(masquerade.enabled && masquerade.exclude.is_empty() && forward_accept);
}

/// The value under a path of keys in one of the documents, as `values.yaml` and manifests have it.
fn under<'a>(document: &'a yaml::Node, path: &[&str]) -> Option<Field<'a>> {
    let (first, rest) = path.split_first()?;
    let first = Field::root(document).get(first).ok().flatten()?;
    rest.iter().try_fold(first, |field, key| field.get(key).ok().flatten())
}

#[test]
fn the_manifests_configuration_is_the_default() {
    let manifests = include_str!("../../../../deploy/selvedge.yaml");
    let documents: Vec<_> = yaml::documents(manifests.as_bytes(), &[]).map(Result::unwrap).collect();
    let found = documents.iter().find_map(|document| under(document, &["data", "config.yaml"]));
    assert_eq!(parse(found.unwrap().text().unwrap()), Ok(Config::default()));
}

#[test]
fn the_charts_values_have_every_key() {
    let values = include_str!("../../../../deploy/helm/selvedge/values.yaml");
    let values = yaml::documents(values.as_bytes(), &[]).next().unwrap().unwrap();
    let config = under(&values, &["config"]).unwrap();
    let known: Vec<&str> = config.entries().unwrap().map(|(key, _)| key).collect();
    let mut keys = KEYS;
    keys.sort_unstable();
    assert_eq!(known, keys, "deploy/helm/selvedge/values.yaml (then: make manifests)");
}

#[test]
fn strict_encryption_that_leaves_something_open_says_so() {
    let strict = "transport: wireguard\nencryption: strict\n";
    assert!(parse(strict).unwrap().leaves_open().is_some_and(|why| why.contains("clusterCidrs")));
    assert_eq!(parse(&format!("{strict}clusterCidrs: [10.244.0.0/16]\n")).unwrap().leaves_open(), None);
    assert_eq!(parse("transport: wireguard\n").unwrap().leaves_open(), None);
}

#[test]
fn every_key_is_read() {
    let text = "
attach: bridge
bridge: br-pods
transport: wireguard
vxlan: {vni: 4096, port: 8472}
udp: {port: 9383}
wireguard: {port: 51821, keys: /srv/keys}
encryption: strict
clusterCidrs: [10.244.0.0/16, 'fd00:10:244::/48']
network: pods
conflistName: 05-pods.conflist
logFile: /var/log/selvedge.log
mtu: 1400
masquerade: {enabled: false, exclude: [192.168.0.0/16, 'fd00::/8']}
forwardAccept: false
removeTaint: true
policy: {whenAgentDown: open}
resyncSeconds: 5
";
    let config = parse(text).unwrap();
    let exclude = ["192.168.0.0/16", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
    let expected = Config {
        attach: Attach::Bridge,
        bridge: "br-pods".parse().unwrap(),
        transport: Choice::Of(Transport::Wireguard),
        vxlan: Vxlan { vni: 4096, port: 8472 },
        udp: Udp { port: 9383 },
        wireguard: Wireguard { port: 51821, keys: Some("/srv/keys".into()) },
        encryption: Encryption::Strict,
        cluster_cidrs: ["10.244.0.0/16", "fd00:10:244::/48"].map(|net| net.parse().unwrap()).to_vec(),
        network: "pods".parse().unwrap(),
        conflist_name: ConflistName("05-pods.conflist".to_owned()),
        log_file: Some("/var/log/selvedge.log".into()),
        mtu: Some(Mtu::new(1400).unwrap()),
        masquerade: Masquerade { enabled: false, exclude },
        forward_accept: false,
        remove_taint: true,
        policy: Policy { when_agent_down: Unknown::Open },
        resync: Duration::from_secs(5),
    };
    assert_eq!(config, expected);
    assert_eq!(config.conflist_name.as_str(), "05-pods.conflist");
    let keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(keys, KEYS, "a key that is known is tested here");
}

/// Each configuration of `faults.txt` is read as `agent.yaml`; the line after it says what is wrong with it.
#[test]
fn every_fault_is_named_by_file_place_and_key() {
    for case in include_str!("faults.txt").split("\n\n") {
        let (text, expected) = case.trim_end().rsplit_once("\n=> ").unwrap();
        assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_the_file_holds_nothing_panics(text in "(attach|mtu|masquerade|bridge|logFile)?[ -~\n]{0,60}") {
        drop(parse(&text));
    }

    #[test]
    fn a_name_that_is_taken_is_a_file_name_in_its_directory(name in "[./a-z]{0,6}(\\.conflist)?") {
        if let Ok(config) = parse(&format!("conflistName: '{name}'")) {
            let path = Path::new("/etc/cni/net.d").join(config.conflist_name.as_str());
            prop_assert_eq!(path.parent(), Some(Path::new("/etc/cni/net.d")));
        }
    }
}
