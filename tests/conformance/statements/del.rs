//! DEL-1 to DEL-7.

use std::fs;

use selvedge_tests::{FakeIpam, Pod};
use serde_json::json;

use crate::config::after;
use crate::hand::{change, delete_link, look, must_run, name};
use crate::process::wait_for;
use crate::statements::reply::{Reply, ResultText};
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "DEL-1" Must del_1_succeeds_whatever_is_gone_already_and_any_number_of_times
    "DEL succeeds whatever is gone already: the namespace, its path, the interface, the reservation, the \
     rules; and any number of times."
    "DEL-2" Must del_2_of_what_was_never_added_succeeds_and_changes_nothing
    "DEL of what was never added succeeds and changes nothing."
    "DEL-3" Must del_3_removes_everything_without_the_path_while_the_namespace_lives
    "DEL removes everything also with an empty CNI_NETNS while the namespace lives, as nerdctl and ctr ask \
     it to."
    "DEL-4" Must del_4_needs_no_earlier_result_in_any_version
    "DEL removes everything without the earlier result, in every version, and takes one where there is one."
    "DEL-5" Runtimes del_5_goes_on_after_a_failure_and_reports_it_in_words_that_no_runtime_takes_for_success
    "DEL goes on after a failure and then reports it, never in words that runtimes take for success (not \
     found, no such file or directory)."
    "DEL-6" Runtimes del_6_works_with_a_configuration_that_was_changed_after_add
    "DEL removes everything also if subnet, bridge or masquerading were changed in the configuration since \
     ADD."
    "DEL-7" Runtimes del_7_waits_for_the_add_of_a_runtime_that_gave_up_and_leaves_nothing
    "DEL that meets the ADD of a runtime that was killed ends with nothing left, and keeps no other \
     container waiting."
}

/// Something that was done to an attachment.
type Loss = (&'static str, fn(&Subject, &Pod));

const LOSSES: [Loss; 3] = [
    ("the interface gone", |_, pod| change(pod.namespace(), &[delete_link("eth0")])),
    ("the reservations gone", |on, _| on.lose_reservations()),
    ("the rules gone", |on, _| drop(must_run(on.stage().node(), "nft", &["flush", "ruleset"]))),
];

fn del_1_succeeds_whatever_is_gone_already_and_any_number_of_times(on: &Subject) -> Verdict {
    let config = on.config();
    let file = on.stage().folder().join("file");
    fs::write(&file, "").unwrap();
    let paths = [
        ("no path", ""),
        ("nothing there", "/nowhere/at/all"),
        ("an ordinary file", file.to_str().unwrap()),
        ("another kind of namespace", "/proc/self/ns/mnt"),
    ];
    for (number, (what, path)) in paths.into_iter().enumerate() {
        let (id, pod) = (format!("path-{number}"), on.pod());
        on.add(&config, &id, &pod)?;
        let del = on.ask("DEL", &config).of(&id, &pod).with("CNI_NETNS", path).run();
        on.note(del.done(), what);
    }
    for (number, (what, lose)) in LOSSES.into_iter().enumerate() {
        let (id, pod) = (format!("lost-{number}"), on.pod());
        on.add(&config, &id, &pod)?;
        lose(on, &pod);
        for _ in 0..3 {
            on.note(on.del(&config, &id, &pod).done(), what);
        }
    }
    Ok(())
}

fn del_2_of_what_was_never_added_succeeds_and_changes_nothing(on: &Subject) -> Verdict {
    let empty = on.state();
    on.del(&on.config(), "never", &on.pod()).done()?;
    on.must_be_as(&empty, "on a fresh node");
    let pod = on.pod();
    on.add(&on.config(), "web-0", &pod)?;
    let before = on.state();
    for container in ["never", "web", "web-00"] {
        on.del(&on.config(), container, &on.pod()).done()?;
        on.must_be_as(&before, "beside a live attachment");
    }
    Ok(())
}

fn del_3_removes_everything_without_the_path_while_the_namespace_lives(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let pod = on.pod();
    on.add(&on.config(), "web-0", &pod)?;
    on.ask("DEL", &on.config()).of("web-0", &pod).with("CNI_NETNS", "").run().done()?;
    on.must_be_as(&before, "after DEL");
    let there = look(pod.namespace()).links.contains_key(&name("eth0"));
    on.must(!there, "the container keeps its interface");
    Ok(())
}

fn del_4_needs_no_earlier_result_in_any_version(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let pod = on.pod();
    for version in on.versions() {
        let config = on.in_version(version);
        on.add(&config, "web-0", &pod)?;
        on.note(on.del(&config, "web-0", &pod).done(), "without it");
        on.must_be_as(&before, "without it");
        let result = on.add(&config, "web-0", &pod)?;
        on.note(on.del(&after(&config, &result), "web-0", &pod).done(), "with it");
        on.must_be_as(&before, "with it");
    }
    Ok(())
}

fn del_5_goes_on_after_a_failure_and_reports_it_in_words_that_no_runtime_takes_for_success(
    on: &Subject,
) -> Verdict {
    let before = on.settled()?;
    let ipam = FakeIpam::giving(on.stage(), IPAM_THAT_KEEPS);
    let pod = on.pod();
    let config = on.delegating(FakeIpam::TYPE);
    let call = |verb| -> Reply { on.ask(verb, &config).of("web-0", &pod).finding(&ipam).run() };
    call("ADD").done()?;
    fs::write(on.stage().folder().join("broken"), "").unwrap();
    let refusal = call("DEL").refused()?;
    let said = format!("{} {}", refusal.message, refusal.details).to_lowercase();
    let like_success = said.contains("not found") || said.contains("no such file or directory");
    on.must(!like_success, "the delegate's words for success are passed on");
    let there = look(pod.namespace()).links.contains_key(&name("eth0"));
    on.must(!there, "it stops at the failure, and the interface stays");
    fs::remove_file(on.stage().folder().join("broken")).unwrap();
    call("DEL").done()?;
    on.must_be_as(&before, "once it can be done");
    Ok(())
}

/// Its DEL fails as long as there is a file `broken` beside its folder.
const IPAM_THAT_KEEPS: &str = r#"
    if [ $CNI_COMMAND = DEL ] && [ -e "$(dirname "$0")/../broken" ]; then
        echo '{"cniVersion": "1.0.0", "code": 120, "msg": "lease Not Found: no such file or directory"}'
        exit 1
    fi"#;

fn del_6_works_with_a_configuration_that_was_changed_after_add(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let changed = [
        ("another subnet", on.in_subnets(&on.config(), &["10.99.0.0/24"])),
        ("another bridge", on.config_with(json!({"bridge": "br7"}))),
        ("no masquerading any more", on.config_with(json!({"ipMasq": false}))),
    ];
    for (number, (what, config)) in changed.into_iter().enumerate() {
        let (id, pod) = (format!("web-{number}"), on.pod());
        // What a loss before has left is not counted twice.
        let before = if on.found().is_empty() { before.clone() } else { on.state() };
        on.add(&on.config(), &id, &pod)?;
        on.note(on.del(&config, &id, &pod).done(), what);
        on.must_be_as(&before, what);
    }
    Ok(())
}

/// Its ADD takes as long as there is no file `go` beside its folder.
pub(crate) const SLOW_IPAM: &str = r#"
    while [ $CNI_COMMAND = ADD ] && [ ! -e "$(dirname "$0")/../go" ]; do sleep 0.01; done"#;

fn del_7_waits_for_the_add_of_a_runtime_that_gave_up_and_leaves_nothing(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let ipam = FakeIpam::giving(on.stage(), SLOW_IPAM);
    let (pod, other) = (on.pod(), on.pod());
    let config = on.delegating(FakeIpam::TYPE);
    let call = |verb| on.ask(verb, &config).of("web-0", &pod).finding(&ipam).start();
    let orphan = call("ADD");
    wait_for(|| ipam.calls() == ["ADD"]);
    let del = call("DEL");
    let own = on.add(&on.config(), "web-1", &other)?;
    on.must(own.addresses().len() == 1, "another container gets no address");
    on.del(&on.config(), "web-1", &other).done()?;
    fs::write(on.stage().folder().join("go"), "").unwrap();
    drop(orphan.reply());
    del.reply().done()?;
    on.must_be_as(&before, "after both");
    let there = look(pod.namespace()).links.contains_key(&name("eth0"));
    on.must(!there, "the container keeps its interface");
    Ok(())
}
