//! Calls killed at every system call: one DEL leaves nothing; without it nobody gets the address of a pod that has it,
//! and GC, or the agent, leaves nothing.

use selvedge_tests::{Call, Traces, within};
use serde_json::json;

use crate::judge::Harm;
use crate::scene::{Mode, Scene};
use crate::strace::Ended;
use crate::sweep::Sweep;

/// How soon the agent has cleaned up behind a pod that is gone, in seconds.
const SWEPT_WITHIN: f64 = 20.0;

pub(crate) const ADD: Sweep = Sweep {
    name: "",
    mode: Mode::Bridge,
    prepare: Scene::boot,
    call: |scene| scene.call("ADD"),
    shows: "write",
    tidy: |scene| scene.call("DEL").run(scene.node()).done(),
    judge: one_del,
};

pub(crate) const DEL: Sweep =
    Sweep { prepare: Scene::attach, call: |scene| scene.call("DEL"), tidy: |_| {}, ..ADD };

/// Detaches `web-0` without a word of its namespace, which lives.
fn del_without_netns(scene: &Scene) -> Call {
    scene.call("DEL").with("CNI_NETNS", "")
}

/// Detaches `web-0` by the path of a namespace that is gone.
fn del_of_gone_netns(scene: &Scene) -> Call {
    scene.call("DEL").with("CNI_NETNS", "/proc/self/fd/1000000")
}

fn one_del(scene: &Scene, _ended: &Ended) -> Result<bool, Harm> {
    scene.must_do(&scene.call("DEL"))?;
    scene.must_be_as_before()?;
    Ok(false)
}

fn one_del_without_netns(scene: &Scene, _ended: &Ended) -> Result<bool, Harm> {
    scene.must_do(&del_without_netns(scene))?;
    scene.must_be_as_before()?;
    Ok(false)
}

/// The pod goes without a DEL, and the agent sweeps.
pub(crate) fn the_pod_is_gone(scene: &Scene, _ended: &Ended) -> Result<bool, Harm> {
    scene.nobody_gets_its_address()?;
    scene.must_do(&scene.call_of_other("DEL"))?;
    scene.replace_victim();
    the_agent_sweeps(scene)?;
    scene.must_be_as_before()?;
    Ok(false)
}

pub(crate) fn another_add_and_gc(scene: &Scene, _ended: &Ended) -> Result<bool, Harm> {
    scene.nobody_gets_its_address()?;
    scene.must_do(&scene.gc(&[]))?;
    scene.must_be_as_before()?;
    Ok(false)
}

#[test]
fn after_an_add_of_a_bridged_pod_killed_anywhere_one_del_leaves_nothing() {
    Sweep { name: "kills in ADD, bridge, then DEL", ..ADD }.kill();
}

#[test]
fn after_an_add_of_a_bridged_pod_killed_anywhere_no_address_is_given_twice_and_gc_leaves_nothing() {
    Sweep { name: "kills in ADD, bridge, then ADD and GC", judge: another_add_and_gc, ..ADD }.kill();
}

#[test]
fn after_an_add_of_a_routed_pod_killed_anywhere_one_del_leaves_nothing() {
    let name = "kills in ADD, routed, agent away, then DEL";
    Sweep { name, mode: Mode::AgentAway, judge: one_del_without_netns, ..ADD }.kill();
}

#[test]
fn after_an_add_of_a_routed_pod_killed_anywhere_no_address_is_given_twice_and_gc_leaves_nothing() {
    let name = "kills in ADD, routed, agent away, then ADD and GC";
    Sweep { name, mode: Mode::AgentAway, judge: another_add_and_gc, ..ADD }.kill();
}

#[test]
fn after_an_add_beside_an_agent_killed_anywhere_one_del_leaves_nothing() {
    Sweep { name: "kills in ADD, agent, then DEL", mode: Mode::Agent, ..ADD }.kill();
}

#[test]
fn after_an_add_beside_an_agent_killed_anywhere_the_agent_leaves_nothing_once_the_pod_is_gone() {
    Sweep { name: "kills in ADD, agent, then its sweep", mode: Mode::Agent, judge: the_pod_is_gone, ..ADD }
        .kill();
}

/// Waits until the agent has freed what a pod held that is gone.
fn the_agent_sweeps(scene: &Scene) -> Result<(), Harm> {
    let agent = scene.agent.as_ref().unwrap();
    let swept = || {
        within(SWEPT_WITHIN, "the agent sweeps", || {
            agent.ask(&json!({"do": "reconcile"}));
            let now = Traces::on(scene.node(), &scene.run_dir);
            if now == scene.before { Ok(()) } else { Err(format!("{now:?}")) }
        });
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(swept))
        .map_err(|_said| Harm::Leak(scene.difference()))
}

#[test]
fn after_a_del_of_a_bridged_pod_killed_anywhere_another_leaves_nothing() {
    Sweep { name: "kills in DEL, bridge, then DEL", ..DEL }.kill();
}

#[test]
fn after_a_del_of_a_bridged_pod_killed_anywhere_no_address_is_given_twice_and_gc_leaves_nothing() {
    Sweep { name: "kills in DEL, bridge, then ADD and GC", judge: another_add_and_gc, ..DEL }.kill();
}

#[test]
fn after_a_del_without_a_namespace_killed_anywhere_another_leaves_nothing() {
    let name = "kills in DEL, bridge, no netns, then DEL";
    let mode = Mode::WideBridge;
    Sweep { name, mode, call: del_without_netns, judge: one_del_without_netns, ..DEL }.kill();
}

#[test]
fn after_a_del_of_a_routed_pod_killed_anywhere_another_leaves_nothing() {
    let name = "kills in DEL, routed, agent away, then DEL";
    Sweep { name, mode: Mode::AgentAway, ..DEL }.kill();
}

#[test]
fn after_a_del_of_a_routed_pod_whose_namespace_is_gone_killed_anywhere_no_address_is_given_twice() {
    let name = "kills in DEL, routed, netns gone, then ADD and GC";
    Sweep { name, mode: Mode::AgentAway, call: del_of_gone_netns, judge: another_add_and_gc, ..DEL }.kill();
}

#[test]
fn after_a_del_beside_an_agent_killed_anywhere_another_leaves_nothing() {
    Sweep { name: "kills in DEL, agent, then DEL", mode: Mode::Agent, ..DEL }.kill();
}

#[test]
fn after_an_add_with_published_ports_killed_anywhere_one_del_leaves_nothing() {
    let name = "kills in ADD with ports, bridge, then DEL";
    Sweep { name, call: Scene::publish, judge: one_del_without_netns, ..ADD }.kill();
}

#[test]
fn after_an_add_with_published_ports_beside_an_agent_killed_anywhere_the_agent_leaves_nothing() {
    let swept = |scene: &Scene, _ended: &Ended| {
        scene.replace_victim();
        the_agent_sweeps(scene)?;
        Ok(false)
    };
    let name = "kills in ADD with ports, agent, then its sweep";
    Sweep { name, mode: Mode::Agent, call: Scene::publish, judge: swept, ..ADD }.kill();
}

#[test]
fn after_a_del_with_published_ports_killed_anywhere_gc_leaves_nothing() {
    let name = "kills in DEL with ports, routed, netns gone, then ADD and GC";
    let judge = another_add_and_gc;
    Sweep {
        name,
        mode: Mode::AgentAway,
        prepare: Scene::attach_published,
        call: del_of_gone_netns,
        judge,
        ..DEL
    }
    .kill();
}

#[test]
fn after_a_compaction_killed_anywhere_the_leases_are_right_and_nothing_is_left() {
    let name = "kills in DEL with compaction, routed, then ADD and GC";
    let prepare = Scene::attach_with_a_long_journal;
    Sweep { name, mode: Mode::AgentAway, prepare, shows: "rename", judge: another_add_and_gc, ..DEL }.kill();
}

#[test]
fn after_a_gc_killed_anywhere_another_leaves_only_what_is_valid() {
    let judge = |scene: &Scene, _ended: &Ended| {
        scene.must_do(&scene.gc(&["web-1"]))?;
        scene.other_must_be_whole()?;
        scene.must_do(&scene.call_of_other("DEL"))?;
        scene.must_be_as_before()?;
        Ok(false)
    };
    let tidy = |scene: &Scene| scene.call_of_other("DEL").run(scene.node()).done();
    let call = |scene: &Scene| scene.gc(&["web-1"]);
    let name = "kills in GC, bridge, then GC";
    Sweep { name, mode: Mode::WideBridge, prepare: Scene::attach_both, call, tidy, judge, ..ADD }.kill();
}

#[test]
fn after_a_gc_killed_anywhere_one_del_of_each_leaves_nothing() {
    let judge = |scene: &Scene, ended: &Ended| {
        scene.other_must_be_whole()?;
        scene.must_do(&scene.call_of_other("DEL"))?;
        one_del(scene, ended)
    };
    let tidy = |scene: &Scene| scene.call_of_other("DEL").run(scene.node()).done();
    let call = |scene: &Scene| scene.gc(&["web-1"]);
    let name = "kills in GC, bridge, then DEL";
    Sweep { name, mode: Mode::WideBridge, prepare: Scene::attach_both, call, tidy, judge, ..ADD }.kill();
}

/// One DEL of `eth1`, after which `web-1` is as it was without it; and then one of `eth0`.
fn one_del_of_further(scene: &Scene, _ended: &Ended) -> Result<bool, Harm> {
    scene.must_do(&scene.call_of_further("DEL"))?;
    scene.other_must_have_eth0_alone()?;
    scene.must_do(&scene.call_of_other("DEL"))?;
    scene.must_be_as_before()?;
    Ok(false)
}

/// An ADD of a container's second interface, in a network of its own.
const FURTHER: Sweep = Sweep {
    mode: Mode::WideBridge,
    prepare: Scene::attach_other,
    call: |scene| scene.call_of_further("ADD"),
    tidy: |scene| {
        scene.call_of_further("DEL").run(scene.node()).done();
        scene.call_of_other("DEL").run(scene.node()).done();
    },
    judge: one_del_of_further,
    ..ADD
};

#[test]
fn after_an_add_of_a_further_interface_killed_anywhere_one_del_leaves_the_first_as_it_was() {
    Sweep { name: "kills in ADD of a further interface, bridge, then DEL", ..FURTHER }.kill();
}

#[test]
fn after_a_del_of_a_further_interface_killed_anywhere_another_leaves_the_first_as_it_was() {
    let name = "kills in DEL of a further interface, bridge, then DEL";
    let tidy = |scene: &Scene| scene.call_of_other("DEL").run(scene.node()).done();
    let call = |scene: &Scene| scene.call_of_further("DEL");
    Sweep { name, prepare: Scene::attach_further, call, tidy, ..FURTHER }.kill();
}
