//! GC-1 to GC-5.

use std::fs;
use std::rc::Rc;

use selvedge_tests::{FakeIpam, Pod};
use serde_json::{Value, json};

use crate::config::with;
use crate::hand::must_run;
use crate::process::wait_for;
use crate::statements::reply::{Reply, Unmet};
use crate::statements::state::State;
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "GC-1" Should gc_1_what_is_not_listed_goes_and_what_is_listed_stays
    "GC removes what the list of valid attachments does not name, interface by interface, and takes the \
     list's older key too."
    "GC-2" Runtimes gc_2_null_is_an_empty_list_and_no_list_spares_what_lives
    "A list that is null is an empty one; without any list only what has lost its namespace goes."
    "GC-3" Must gc_3_the_delegate_is_told_and_its_failure_keeps_nothing_else
    "GC is forwarded to the delegated plugin; its failure is reported and keeps nothing else from being \
     removed."
    "GC-4" Must gc_4_other_networks_and_foreign_rules_are_not_touched
    "GC leaves listed attachments, other networks and foreign rules alone."
    "GC-5" Runtimes gc_5_may_be_repeated_and_says_nothing
    "GC may be repeated, and says nothing."
}

const KEY: &str = "cni.dev/valid-attachments";

/// GC of a configuration with a list of the containers whose `eth0` is valid.
fn gc(on: &Subject, config: &Value, key: &str, containers: &[&str]) -> Reply {
    let list = |container: &&str| json!({"containerID": container, "ifname": "eth0"});
    let listed: Vec<Value> = containers.iter().map(list).collect();
    on.ask("GC", &with(config.clone(), json!({"cniVersion": "1.1.0", key: listed}))).run()
}

/// Pods `web-0` to `web-2`, attached.
fn three(on: &Subject) -> Verdict {
    (0..3).try_for_each(|number| on.add(&on.config(), &format!("web-{number}"), &on.pod()).map(drop))
}

/// A container that stays, and the state with it alone.
fn resident(on: &Subject) -> Result<(Rc<Pod>, State), Unmet> {
    on.settled()?;
    let pod = on.pod();
    on.add(&on.config(), "kept", &pod)?;
    Ok((pod, on.state()))
}

fn gc_1_what_is_not_listed_goes_and_what_is_listed_stays(on: &Subject) -> Verdict {
    let (_kept, before) = resident(on)?;
    for key in [KEY, "cni.dev/attachments"] {
        three(on)?;
        gc(on, &on.config(), key, &["kept"]).done()?;
        on.must_be_as(&before, "with such a list");
    }
    let pod = on.pod();
    on.ask("ADD", &on.config()).of("kept", &pod).with("CNI_IFNAME", "net1").run().done()?;
    gc(on, &on.config(), KEY, &["kept"]).done()?;
    on.must_be_as(&before, "with another interface of a listed container");
    Ok(())
}

fn gc_2_null_is_an_empty_list_and_no_list_spares_what_lives(on: &Subject) -> Verdict {
    let empty = on.settled()?;
    three(on)?;
    on.ask("GC", &on.config_with(json!({"cniVersion": "1.1.0", KEY: null}))).run().done()?;
    on.must_be_as(&empty, "with null");
    on.forget_pods();
    let (_kept, before) = resident(on)?;
    three(on)?;
    on.forget_pods();
    // The kernel deletes the pairs of namespaces that are gone in its own time.
    wait_for(|| on.state().count("link") == before.count("link"));
    on.ask("GC", &on.in_version("1.1.0")).run().done()?;
    on.must_be_as(&before, "without a list");
    Ok(())
}

fn gc_3_the_delegate_is_told_and_its_failure_keeps_nothing_else(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let ipam = FakeIpam::giving(
        on.stage(),
        r#"[ $CNI_COMMAND != GC ] || { echo '{"cniVersion": "1.1.0", "code": 122, "msg": "cannot sweep"}'; exit 1; }"#,
    );
    let (pod, config) = (on.pod(), on.delegating(FakeIpam::TYPE));
    on.ask("ADD", &config).of("web-0", &pod).finding(&ipam).run().done()?;
    let swept = with(config, json!({"cniVersion": "1.1.0", KEY: []}));
    let reply = on.ask("GC", &swept).finding(&ipam).run();
    on.must(ipam.calls().contains(&"GC".to_owned()), "the delegate is not told");
    on.must_be_as(&before, "after GC");
    reply.refused_with(&[122])?;
    Ok(())
}

fn gc_4_other_networks_and_foreign_rules_are_not_touched(on: &Subject) -> Verdict {
    let foreign =
        "table inet foreign { chain forward { type filter hook forward priority 0; policy drop; }\n }\n";
    let rules = on.stage().folder().join("rules.nft");
    fs::write(&rules, foreign).unwrap();
    if must_run(on.stage().node(), "nft", &["-f", rules.to_str().unwrap()]).is_none() {
        return Err(Unmet::NotApplicable("nft is not installed"));
    }
    let other = on.config_with(json!({"name": "other", "bridge": "br7"}));
    let (pod, kept) = (on.pod(), on.pod());
    on.add(&on.in_subnets(&other, &["10.245.0.0/24"]), "web-0", &pod)?;
    on.add(&on.config(), "kept", &kept)?;
    let before = on.state();
    three(on)?;
    gc(on, &on.config(), KEY, &["kept"]).done()?;
    on.must_be_as(&before, "after GC");
    Ok(())
}

fn gc_5_may_be_repeated_and_says_nothing(on: &Subject) -> Verdict {
    let before = on.settled()?;
    three(on)?;
    for _ in 0..3 {
        let reply = gc(on, &on.config(), KEY, &[]);
        reply.done()?;
        on.must(reply.stdout.is_empty(), "it prints something");
        on.must_be_as(&before, "after GC");
    }
    Ok(())
}
