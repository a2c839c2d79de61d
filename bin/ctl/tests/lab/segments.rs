//! Labs whose network is worse than one segment that lets everything through.

use crate::{AGENT, Bench};

#[test]
fn a_lab_of_two_segments_stands_with_its_obstacles() {
    let Some(bench) = Bench::new("segments", AGENT) else { return };
    let line = "up --pods 0 --segments 2 --mtu 9000 --block udp/4789,tcp/443 --loss 5 --transport native";
    let (code, text) = bench.lab(line);
    assert_eq!(code, Some(0), "{text}");
    let headline = "lab: 3 nodes on 2 segments, 0 pods, attach routed, transport native, IPv4 and IPv6, MTU 9000, \
                    tcp/443 blocked, udp/4789 blocked, 5 % lost  ready in ";
    assert!(text.starts_with(headline), "{text}");
    assert!(text.contains("node-c    172.30.1.13, fd00:30:1::13  agent running"), "{text}");
    let (_, text) = bench.lab("status --json");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let network =
        serde_json::json!({"segments": 2, "mtu": 9000, "blocked": ["tcp/443", "udp/4789"], "loss": 5});
    assert_eq!(status["shape"]["network"], network);
    assert_eq!(status["nodes"][2]["segment"], "segment-2");

    let (_, config) = bench.exec("node-a", "cat /run/selvedge-lab/agent.yaml");
    assert!(config.contains("transport: native\n"), "{config}");
    for (place, ports) in
        [("segment", ["node-a", "node-b", "router"]), ("segment-2", ["node-c", "segment", "router"])]
    {
        let (_, links) = bench.exec(place, "cut -d: -f1 /proc/net/dev");
        assert!(ports.iter().all(|port| links.contains(port)), "{place}: {links}");
    }
    for (place, links, expected) in
        [("node-c", "eth0", "9000\n"), ("router", "eth[012]", "9000\n1500\n9000\n")]
    {
        let mtus = format!("cat /proc/sys/net/ipv6/conf/{links}/mtu");
        assert_eq!(bench.exec(place, &mtus).1, expected, "{place}");
    }
    // 10.244.2.0/24 by 172.30.1.13 on the second segment, as little-endian hexadecimal numbers.
    let (_, routes) = bench.exec("router", "cat /proc/net/route");
    assert!(routes.contains("eth2\t0002F40A\t0D011EAC\t"), "{routes}");
    bench.succeeds("down");
    bench.wait_until_gone();
}
