use std::path::Path;

use serde_json::from_str;

use super::*;
use crate::conf::{Ipam, NetConf};

fn conflist() -> AgentConflist {
    AgentConflist {
        name: "selvedge".parse().unwrap(),
        attach: Attach::Routed,
        subnets: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
        mtu: Mtu::new(1450).unwrap(),
        run_dir: "/run/selvedge".into(),
        agent: "/run/selvedge/agent.sock".into(),
        node_addresses: vec!["172.30.0.11".parse().unwrap(), "fd00:30::11".parse().unwrap()],
        log_file: None,
        without_agent: false,
    }
}

/// The plugin's part as a runtime hands it over.
fn handed_over(conflist: &AgentConflist, version: &str) -> NetConf {
    let list: Value = from_str(&render(conflist)).unwrap();
    let mut plugin = list["plugins"][0].clone();
    plugin["cniVersion"] = version.into();
    plugin["name"] = list["name"].clone();
    NetConf::parse(plugin.to_string().as_bytes(), &[]).unwrap()
}

#[test]
fn the_file_is_as_agreed() {
    let expected = r#"{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "0.4.0",
    "1.0.0",
    "1.1.0"
  ],
  "name": "selvedge",
  "plugins": [
    {
      "type": "selvedge",
      "attach": "routed",
      "subnet": [
        "10.244.1.0/24",
        "fd00:10:244:1::/64"
      ],
      "mtu": 1450,
      "nodeAddresses": [
        "172.30.0.11",
        "fd00:30::11"
      ],
      "runDir": "/run/selvedge",
      "agent": "/run/selvedge/agent.sock",
      "capabilities": {
        "bandwidth": true,
        "dns": true,
        "ips": true,
        "mac": true,
        "portMappings": true
      }
    }
  ]
}
"#;
    assert_eq!(render(&conflist()), expected);
}

#[test]
fn what_is_written_reads_back() {
    for attach in [Attach::Routed, Attach::Bridge { bridge: "cni7".parse().unwrap() }] {
        let list = AgentConflist { attach, log_file: Some("/var/log/selvedge.log".into()), ..conflist() };
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            let conf = handed_over(&list, version);
            assert_eq!((&conf.name, &conf.attach), (&list.name, &list.attach));
            assert_eq!((conf.mtu, &conf.node_addresses), (Some(list.mtu), &list.node_addresses));
            assert_eq!(conf.run_dir, Path::new(&list.run_dir));
            assert_eq!(conf.agent.as_deref(), Some(Path::new(&list.agent)));
            assert_eq!(conf.log_file.as_deref(), list.log_file.as_deref().map(Path::new));
            assert!(!conf.ip_masq, "the agent masquerades, not the plugin");
            let Ipam::BuiltIn(pools) = conf.ipam else { panic!("IPAM is not ours") };
            assert_eq!(pools.ranges.iter().flatten().map(|r| r.subnet).collect::<Vec<_>>(), list.subnets);
            assert_eq!(pools.ranges.len(), 2);
        }
    }
}

#[test]
fn what_was_written_tells_later_by_what_the_node_was_served() {
    let written = conflist();
    let network = &written.name;
    let told = served(&render(&written), network).unwrap();
    assert_eq!(
        (told.subnets, told.node_addresses),
        (written.subnets.clone(), written.node_addresses.clone())
    );
    let other: NetworkName = "other".parse().unwrap();
    assert_eq!(served(&render(&written), &other), None);
    let broken = render(&written).replace("10.244.1.0/24", "10.244.1.0");
    for text in [&broken, "", "[]", r#"{"name": "selvedge", "plugins": [{"type": "bridge"}]}"#] {
        assert_eq!(served(text, network), None, "{text}");
    }
}

#[test]
fn whose_a_configuration_is_goes_by_the_agents_socket_and_not_by_the_networks_name() {
    let run_dir = Path::new("/run/selvedge/");
    let ours = render(&AgentConflist { name: "renamed".parse().unwrap(), ..conflist() });
    assert_eq!(whose(&ours, run_dir), Whose::Agents);
    assert_eq!(network(&ours), Some("renamed".parse().unwrap()));
    assert_eq!(whose(&ours, Path::new("/run/other")), Whose::Callers);
    let by_hand = r#"{"type": "selvedge", "name": "selvedge", "runDir": "/run/selvedge"}"#;
    let within = format!(r#"{{"name": "m", "plugins": [{{"type": "multus", "delegates": [{by_hand}]}}]}}"#);
    for text in [by_hand, &format!(r#"{{"plugins": [{by_hand}]}}"#), &within] {
        assert_eq!(whose(text, run_dir), Whose::Callers, "{text}");
    }
    let other =
        r#"{"name": "selvedge", "plugins": [{"type": "bridge", "agent": "/run/selvedge/agent.sock"}]}"#;
    for text in [other, "", "[]", "selvedge", &ours[1..]] {
        assert_eq!(whose(text, run_dir), Whose::Others, "{text}");
    }
}

#[test]
fn a_file_of_an_earlier_name_is_known_unless_anybody_has_edited_it() {
    let log_file = Some("/var/log/selvedge.log".to_owned());
    let bridged = Attach::Bridge { bridge: "cni7".parse().unwrap() };
    let ours = render(&conflist());
    let texts = [
        ("05-routed.conflist", ours.clone()),
        ("06-bridged.conflist", render(&AgentConflist { attach: bridged, log_file, ..conflist() })),
        ("07-edited.conflist", ours.replace("1450", "1400 ")),
        ("08-longer.conflist", ours.replace("\"capabilities\"", "\"more\": 1, \"capabilities\"")),
        ("09-elsewhere.conflist", ours.replace("/run/selvedge", "/run/other")),
        ("10-selvedge.conflist", ours.clone()),
        ("11-foreign.conflist", "{}".to_owned()),
    ];
    let texts = texts.map(|(name, text)| (name.to_owned(), text)).into();
    let earlier = superseded(&texts, "10-selvedge.conflist", Path::new("/run/selvedge"));
    assert_eq!(earlier, ["05-routed.conflist", "06-bridged.conflist"].map(str::to_owned).into());
}

#[test]
fn of_other_configurations_those_with_an_earlier_name_are_taken_instead_of_ours() {
    let there = [
        "99-loopback.conf",
        "10-selvedge.conflist",
        "README",
        "05-cilium.conflist",
        "10-flannel.conflist",
        "05-calico.conflist.disabled",
        "10-selvedge.conflist.tmp",
        "20-weave.json",
        "conflist",
    ];
    let rivals = rivals(there, "10-selvedge.conflist");
    assert_eq!(rivals.before, ["05-cilium.conflist", "10-flannel.conflist"]);
    assert_eq!(rivals.after, ["20-weave.json", "99-loopback.conf"]);
}
