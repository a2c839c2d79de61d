//! The real kernel, with the real `iptables-legacy` and `ip6tables-legacy` as judges of what we wrote.
//!
//! Each test has a network namespace of its own, and a mount namespace with a `/run` of its own for the lock.

#![cfg(test)]

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use selvedge_model::NetworkName;
use selvedge_xtables::{
    AcceptRule, Change, Direction, Family, LOCK_FILE, OwnRule, Policy, XtablesError, forward_policy,
    set_accept,
};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Runs a test for both families, each in new namespaces on a thread of its own.
fn in_namespaces(test: fn(Family)) {
    for family in FAMILIES {
        let done = thread::spawn(move || {
            enter().map_err(|e| format!("no namespaces of our own ({e}); needs root"))?;
            usable(family)?;
            test(family);
            Ok::<_, String>(())
        });
        match done.join() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                println!("skipped: {reason}");
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "skipped: {reason}");
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

#[expect(unsafe_code, reason = "unshare takes file descriptors apart if asked to")]
fn enter() -> rustix::io::Result<()> {
    // SAFETY: the flags leave the table of file descriptors shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)
}

/// Why the tests can't run here, if they can't.
fn usable(family: Family) -> Result<(), String> {
    let tool = family.to_string();
    let found = Command::new(&tool).arg("--version").stdout(Stdio::null()).status();
    found.map_err(|e| format!("{tool} is not installed ({e})"))?;
    let list = match family {
        Family::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        Family::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
    };
    let listed = std::fs::exists(list).is_ok_and(|exists| exists);
    listed.then_some(()).ok_or_else(|| format!("the kernel has no {list}"))
}

/// Runs a line of words with `input`; quotes are not understood.
fn run(tool: &str, line: &str, input: &str) -> String {
    let mut command = Command::new(tool);
    command.args(line.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn iptables(family: Family, line: &str) -> String {
    run(&family.to_string(), line, "")
}

fn save(family: Family) -> String {
    let text = run(&format!("{family}-save"), "-c -t filter", "");
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn restore(family: Family, text: &str) {
    run(&format!("{family}-restore"), "-c", text);
}

/// User chains with jumps forth and back, a rule without a target, counters everywhere, as Docker leaves a host.
fn busy(family: Family) -> String {
    let net = if family == Family::Ipv4 { "172.17.0.0/16" } else { "fd17::/16" };
    let (reject, host) = match family {
        Family::Ipv4 => ("icmp-admin-prohibited", "192.0.2.1/32"),
        Family::Ipv6 => ("icmp6-adm-prohibited", "2001:db8::1/128"),
    };
    restore(
        family,
        &format!(
            "*filter\n:INPUT ACCEPT [11:1100]\n:FORWARD DROP [12:1200]\n:OUTPUT ACCEPT [13:1300]\n\
             :A-USER - [0:0]\n:Z-USER - [0:0]\n\
             [1:100] -A INPUT -j Z-USER\n\
             [2:200] -A FORWARD -j A-USER\n\
             [3:300] -A FORWARD -s {net}\n\
             [4:400] -A FORWARD -i docker0 ! -o docker0 -m comment --comment \"selvedge? no\" -j ACCEPT\n\
             [5:500] -A FORWARD -d {net} -p tcp -m tcp --dport 80 -g Z-USER\n\
             [6:600] -A OUTPUT -d {host} -j REJECT --reject-with {reject}\n\
             [7:700] -A A-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             [8:800] -A A-USER -j Z-USER\n\
             [9:900] -A Z-USER -s {host} -j DROP\n\
             [10:1000] -A Z-USER -j RETURN\n\
             COMMIT\n"
        ),
    );
    save(family)
}

fn pods(family: Family) -> IpNet {
    if family == Family::Ipv4 { "10.244.0.0/16" } else { "fd00:10:244::/48" }.parse().unwrap()
}

fn both_ways(cidr: IpNet) -> [AcceptRule; 2] {
    [Direction::From, Direction::To].map(|direction| AcceptRule { cidr, direction })
}

fn name(text: &str) -> NetworkName {
    text.parse().unwrap()
}

fn change(added: usize, removed: usize) -> Change {
    Change { added, removed, moved: 0 }
}

/// Our two rules as `-S` lists them.
fn listed(family: Family, network: &str) -> [String; 2] {
    ["-s", "-d"].map(|option| {
        format!("-A FORWARD {option} {} -m comment --comment \"selvedge {network}\" -j ACCEPT", pods(family))
    })
}

fn own_rules(family: Family) -> Vec<OwnRule> {
    forward_policy(family).unwrap().unwrap().ours
}

#[test]
fn no_table_is_created_by_asking_or_adding() {
    in_namespaces(|family| {
        assert_eq!(forward_policy(family).unwrap(), None);
        assert!(set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap().is_empty());
        assert_eq!(forward_policy(family).unwrap(), None);
        assert!(!std::fs::exists(LOCK_FILE).unwrap());
    });
}

#[test]
fn a_dropping_chain_lists_our_rules_as_iptables_would_have_written_them() {
    in_namespaces(|family| {
        iptables(family, "-P FORWARD DROP");
        let added = set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap();
        assert_eq!(added, change(2, 0));
        let ours = listed(family, "mynet");
        assert_eq!(iptables(family, "-S FORWARD"), format!("-P FORWARD DROP\n{}\n{}\n", ours[0], ours[1]));

        let forward = forward_policy(family).unwrap().unwrap();
        assert_eq!((forward.policy, forward.rules), (Policy::Drop, 2));
        let accepts: Vec<_> = forward.ours.into_iter().filter_map(|own| own.accept).collect();
        assert_eq!(accepts, both_ways(pods(family)));
        assert!(set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap().is_empty());
    });
}

#[test]
fn the_rules_counters_and_chains_of_others_survive_adding_and_removing() {
    in_namespaces(|family| {
        let before = busy(family);
        assert_eq!(set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap(), change(2, 0));
        let ours = listed(family, "mynet").map(|line| format!("[0:0] {line}\n"));
        let first = before.find("[2:200] -A FORWARD").unwrap();
        let expected = format!("{}{}{}{}", &before[..first], ours[0], ours[1], &before[first..]);
        assert_eq!(save(family), expected);
        assert_eq!(set_accept(family, &name("mynet"), &[]).unwrap(), change(0, 2));
        assert_eq!(save(family), before);
        assert!(set_accept(family, &name("mynet"), &[]).unwrap().is_empty());
    });
}

#[test]
fn iptables_deletes_our_rules_by_specification_and_finds_them_by_check() {
    in_namespaces(|family| {
        let before = busy(family);
        set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap();
        for option in ["-s", "-d"] {
            for verb in ["-C", "-D"] {
                let tool = family.to_string();
                let cidr = pods(family).to_string();
                let spec = [verb, "FORWARD", option, &cidr, "-m", "comment", "--comment", "selvedge mynet"];
                let status = Command::new(tool).args(spec).args(["-j", "ACCEPT"]).status().unwrap();
                assert!(status.success(), "{verb} {option}");
            }
        }
        // iptables-legacy itself forgets the policies' counters when it deletes a rule.
        let rules = |text: &str| {
            text.lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(rules(&save(family)), rules(&before));
    });
}

#[test]
fn our_rules_are_recognised_after_a_save_and_restore() {
    in_namespaces(|family| {
        busy(family);
        set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap();
        let saved = save(family);
        iptables(family, "-F");
        assert_eq!(own_rules(family), []);
        restore(family, &saved);
        assert!(set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap().is_empty());
        assert_eq!(set_accept(family, &name("mynet"), &[]).unwrap(), change(0, 2));
    });
}

#[test]
fn networks_and_edited_rules_are_told_apart_by_the_comment() {
    in_namespaces(|family| {
        iptables(family, "-P FORWARD DROP");
        let edited = format!(
            "*filter\n-A FORWARD -s {} -p tcp -m comment --comment \"selvedge mynet\" -j ACCEPT\nCOMMIT\n",
            pods(family)
        );
        run(&format!("{family}-restore"), "-n", &edited);
        set_accept(family, &name("other"), &both_ways(pods(family))).unwrap();
        assert!(own_rules(family).contains(&OwnRule { network: name("mynet"), accept: None }));
        assert_eq!(set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap(), change(2, 1));
        let narrowed = both_ways(pods(family));
        assert_eq!(set_accept(family, &name("mynet"), &narrowed[..1]).unwrap(), change(0, 1));
        let networks: Vec<_> = own_rules(family).into_iter().map(|own| own.network.to_string()).collect();
        assert_eq!(networks, ["mynet", "other", "other"]);
    });
}

#[test]
fn a_rule_inserted_before_ours_is_overtaken_and_keeps_its_counter() {
    in_namespaces(|family| {
        busy(family);
        set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap();
        iptables(family, "-I FORWARD -i late0 -c 21 2100");
        iptables(family, "-I FORWARD -j A-USER -c 22 2200");
        let moved = set_accept(family, &name("mynet"), &both_ways(pods(family))).unwrap();
        assert_eq!(moved, Change { added: 0, removed: 0, moved: 2 });
        let saved = save(family);
        let forward: Vec<_> = saved.lines().filter(|line| line.contains("-A FORWARD")).take(5).collect();
        let ours = listed(family, "mynet").map(|line| format!("[0:0] {line}"));
        let foreign = ["[22:2200] -A FORWARD -j A-USER", "[21:2100] -A FORWARD -i late0"];
        assert_eq!(forward[..4], [&ours[0], &ours[1], foreign[0], foreign[1]]);
        assert_eq!(forward[4], "[2:200] -A FORWARD -j A-USER");
    });
}

#[test]
fn networks_that_would_open_the_chain_or_belong_to_the_other_family_are_refused() {
    let all = both_ways("0.0.0.0/0".parse().unwrap());
    for rules in [all, both_ways(pods(Family::Ipv6))] {
        let error = set_accept(Family::Ipv4, &name("mynet"), &rules).unwrap_err();
        assert!(matches!(error, XtablesError::Refused { .. }), "{error}");
    }
}

#[test]
fn nothing_is_written_while_an_iptables_holds_the_lock() {
    in_namespaces(|family| {
        iptables(family, "-P FORWARD DROP");
        let lock = std::fs::File::open(LOCK_FILE).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        thread::scope(|scope| {
            let adding = scope.spawn(|| set_accept(family, &name("mynet"), &both_ways(pods(family))));
            thread::sleep(Duration::from_millis(100));
            assert_eq!(own_rules(family), []);
            drop(lock);
            assert_eq!(adding.join().unwrap().unwrap(), change(2, 0));
        });
    });
}

#[test]
fn a_writer_that_ignores_the_lock_costs_another_attempt_and_loses_nothing() {
    in_namespaces(|family| {
        busy(family);
        let rules = forward_policy(family).unwrap().unwrap().rules;
        let appended = thread::scope(|scope| {
            let foreign = scope.spawn(move || {
                let append = |i: &usize| {
                    let mut command = Command::new(family.to_string());
                    command.args(["-A", "FORWARD", "-i", &format!("eth{i}")]).stderr(Stdio::null());
                    command.env("XTABLES_LOCKFILE", "/run/another.lock").status().unwrap().success()
                };
                (0..100).filter(append).count()
            });
            while !foreign.is_finished() {
                for rules in [&both_ways(pods(family))[..], &[]] {
                    let done = set_accept(family, &name("mynet"), rules);
                    assert!(matches!(done, Ok(_) | Err(XtablesError::Counters { .. })), "{done:?}");
                }
            }
            foreign.join().unwrap()
        });
        // An iptables whose counters couldn't be put back has failed, and its rule is there all the same.
        let now = forward_policy(family).unwrap().unwrap().rules;
        assert!((rules + appended..=rules + 100).contains(&now), "{rules} and {appended} gave {now}");
    });
}
