//! ST-1 to ST-6.

use std::time::{Duration, Instant};

use selvedge_tests::FakeIpam;
use serde_json::{Value, json};

use crate::config::with;
use crate::hand::{change, delete_link, new_link};
use crate::process::wait_for;
use crate::statements::reply::Unmet;
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "ST-1" Must st_1_succeeds_where_an_add_would_and_fails_with_50_or_51_where_not
    "STATUS succeeds where an ADD would; where not, it fails with code 50, or 51 if containers that are there suffer."
    "ST-2" Must st_2_the_delegates_error_is_passed_on_and_a_missing_delegate_is_one
    "STATUS asks the delegated plugin and passes its error on; one that cannot be found is an error."
    "ST-3" Should st_3_an_exhausted_pool_is_50_until_an_address_is_free
    "An exhausted pool is code 50 until an address is free."
    "ST-4" Must st_4_add_does_not_depend_on_status
    "ADD does not depend on STATUS having been called."
    "ST-5" Runtimes st_5_answers_soon_even_if_the_delegate_hangs
    "STATUS answers within a second or so even if the delegated plugin hangs: containerd waits for it with \
     everything else."
    "ST-6" Runtimes st_6_what_is_held_for_containers_that_are_gone_is_reclaimed_first
    "Before a pool is called exhausted, what is held for containers that are gone is reclaimed: the node \
     would be called not ready."
}

/// The configuration with so few addresses that a node runs out of them, in the version that has STATUS.
fn small(on: &Subject) -> Value {
    with(on.in_subnets(&on.config(), &["10.244.3.0/29"]), json!({"cniVersion": "1.1.0"}))
}

/// The same in a version in which everybody knows ADD and DEL.
fn spoken(on: &Subject, config: &Value) -> Value {
    with(config.clone(), json!({"cniVersion": on.config()["cniVersion"]}))
}

/// Attaches containers until there is no address left.
fn fill(on: &Subject, config: &Value) -> Result<(), Unmet> {
    (0..5).try_for_each(|number| on.add(&spoken(on, config), &format!("web-{number}"), &on.pod()).map(drop))
}

fn st_1_succeeds_where_an_add_would_and_fails_with_50_or_51_where_not(on: &Subject) -> Verdict {
    let before = on.state();
    on.ask("STATUS", &on.in_version("1.1.0")).run().done()?;
    on.must_be_as(&before, "after STATUS");
    let config = small(on);
    fill(on, &config)?;
    on.ask("STATUS", &config).run().refused_with(&[50])?;
    // Its bridge is gone, and its name is another kind of link's.
    let (with_pods, without) = (on.anew(), on.anew());
    with_pods.add(&with_pods.config(), "web-0", &with_pods.pod())?;
    change(with_pods.stage().node(), &[delete_link("cni0"), new_link("cni0")]);
    with_pods.ask("STATUS", &with_pods.in_version("1.1.0")).run().refused_with(&[51])?;
    with_pods.ask("ADD", &with_pods.config()).of("web-1", &with_pods.pod()).run().refused()?;
    change(without.stage().node(), &[new_link("cni0")]);
    without.ask("STATUS", &without.in_version("1.1.0")).run().refused_with(&[50])?;
    Ok(())
}

fn st_2_the_delegates_error_is_passed_on_and_a_missing_delegate_is_one(on: &Subject) -> Verdict {
    let refuses = r#"echo '{"cniVersion": "1.1.0", "code": 51, "msg": "out of order"}'; exit 1"#;
    let ipam = FakeIpam::new(on.stage(), refuses);
    let config = |plugin| with(on.delegating(plugin), json!({"cniVersion": "1.1.0"}));
    let reply = on.ask("STATUS", &config(FakeIpam::TYPE)).finding(&ipam).run();
    on.must(ipam.calls() == ["STATUS"], "the delegate is not asked");
    on.note(reply.refused_with(&[51]), "with such a delegate");
    on.note(on.ask("STATUS", &config("nowhere")).finding(&ipam).run().refused(), "without a delegate");
    Ok(())
}

fn st_3_an_exhausted_pool_is_50_until_an_address_is_free(on: &Subject) -> Verdict {
    let config = small(on);
    fill(on, &config)?;
    on.ask("STATUS", &config).run().refused_with(&[50])?;
    on.del(&spoken(on, &config), "web-0", &on.pod()).done()?;
    on.ask("STATUS", &config).run().done()?;
    Ok(())
}

fn st_4_add_does_not_depend_on_status(on: &Subject) -> Verdict {
    on.add(&on.config(), "web-0", &on.pod())?;
    Ok(())
}

fn st_5_answers_soon_even_if_the_delegate_hangs(on: &Subject) -> Verdict {
    let ipam = FakeIpam::new(on.stage(), "exec sleep 5");
    let config = with(on.delegating(FakeIpam::TYPE), json!({"cniVersion": "1.1.0"}));
    let asked = Instant::now();
    let reply = on.ask("STATUS", &config).finding(&ipam).run();
    // More than the bound: the machine may be busy.
    on.must(asked.elapsed() < Duration::from_secs(3), "it hangs too");
    on.must(!ipam.calls().is_empty(), "the delegate is not asked");
    reply.refused()?;
    Ok(())
}

fn st_6_what_is_held_for_containers_that_are_gone_is_reclaimed_first(on: &Subject) -> Verdict {
    let config = small(on);
    let before = on.state();
    fill(on, &config)?;
    let full = on.state().count("link");
    on.forget_pods();
    // The pairs go with their namespaces, in the kernel's own time; the bridge stays.
    wait_for(|| on.state().count("link") + 5 <= full || on.state().count("link") == before.count("link"));
    on.note(on.ask("STATUS", &config).run().done(), "");
    on.note(on.add(&spoken(on, &config), "web-9", &on.pod()), "after it");
    Ok(())
}
