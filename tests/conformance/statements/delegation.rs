//! DG-1 to DG-8.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use selvedge_tests::{FakeIpam, Pod};
use serde_json::{Value, json};

use crate::config::{after, with};
use crate::statements::add::IMPOSSIBLE_ADDRESS;
use crate::statements::reply::ResultText;
use crate::statements::subject::{Ask, Subject};
use crate::statements::{Verdict, statements};

statements! {
    "DG-1" Must dg_1_the_first_regular_file_of_the_name_in_cni_path_is_run
    "The delegated plugin is the first regular file of its name in the folders of CNI_PATH."
    "DG-2" Must dg_2_it_gets_the_environment_and_the_configuration_to_the_byte
    "The delegated plugin gets the whole environment, and the configuration to the byte."
    "DG-3" Must dg_3_what_it_says_on_stderr_is_passed_on
    "What the delegated plugin says on stderr is passed on."
    "DG-4" Must dg_4_its_error_object_is_passed_on_unchanged
    "The delegated plugin's error object is passed on unchanged: code, message, details."
    "DG-5" Runtimes dg_5_an_add_that_fails_after_it_gives_the_address_back
    "An ADD that fails after the delegated plugin's gives the address back with its DEL."
    "DG-6" Runtimes dg_6_a_plugin_that_is_just_being_replaced_is_tried_again
    "A delegated plugin that is just being written (ETXTBSY) is tried again."
    "DG-7" Must dg_7_every_verb_is_forwarded
    "Each verb is forwarded: ADD, CHECK, DEL, GC, STATUS."
    "DG-8" Must dg_8_an_answer_that_is_no_result_is_refused_and_leaves_nothing
    "A delegated plugin that prints no result, or one without addresses, fails silently or is killed, makes \
     ADD fail with an error object and leave nothing."
}

fn asking<'a>(on: &'a Subject, verb: &'static str, pod: &Pod, ipam: &FakeIpam) -> Ask<'a> {
    on.ask(verb, &on.delegating(FakeIpam::TYPE)).of("web-0", pod).finding(ipam)
}

fn dg_1_the_first_regular_file_of_the_name_in_cni_path_is_run(on: &Subject) -> Verdict {
    let ipam = FakeIpam::giving(on.stage(), "");
    let folder = on.stage().folder().join("decoy");
    fs::create_dir_all(folder.join(FakeIpam::TYPE)).unwrap();
    let path = format!("/nowhere:{}::{}", folder.display(), ipam.path());
    let result = asking(on, "ADD", &on.pod(), &ipam).with("CNI_PATH", &path).run().result()?;
    on.must(result.addresses() == ["10.244.1.250"], "another address");
    Ok(())
}

fn dg_2_it_gets_the_environment_and_the_configuration_to_the_byte(on: &Subject) -> Verdict {
    let (ipam, pod) = (FakeIpam::giving(on.stage(), ""), on.pod());
    let text = format!("{:#}\n ", with(on.delegating(FakeIpam::TYPE), json!({"x-unknown": [1.50]})));
    let asked =
        asking(on, "ADD", &pod, &ipam).saying(text.as_bytes()).with("CNI_ARGS", "IgnoreUnknown=1;X=1");
    asked.with("TRACEPARENT", "00-ab-cd-01").run().done()?;
    on.must(ipam.stdin() == text, "the configuration is changed");
    let netns = format!("CNI_NETNS={}", pod.path().display());
    let expected = [
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=web-0",
        "CNI_IFNAME=eth0",
        "CNI_ARGS=IgnoreUnknown=1;X=1",
        "TRACEPARENT=00-ab-cd-01",
        &netns,
    ];
    let environment = ipam.environment();
    for line in expected {
        let name = line.split('=').next().unwrap_or_default();
        on.must(environment.iter().any(|have| have == line), format!("{name} is not passed on"));
    }
    Ok(())
}

fn dg_3_what_it_says_on_stderr_is_passed_on(on: &Subject) -> Verdict {
    let ipam = FakeIpam::giving(on.stage(), "echo 'a word to the wise' >&2");
    let reply = asking(on, "ADD", &on.pod(), &ipam).run();
    reply.done()?;
    on.must(reply.stderr.contains("a word to the wise\n"), "it is not");
    Ok(())
}

fn dg_4_its_error_object_is_passed_on_unchanged(on: &Subject) -> Verdict {
    let object = r#"{"cniVersion": "1.0.0", "code": 123, "msg": "no lease to give", "details": "a\nb"}"#;
    let ipam = FakeIpam::new(on.stage(), &format!("echo '{}'; exit 1", object.replace('\\', r"\\")));
    let refusal = asking(on, "ADD", &on.pod(), &ipam).run().refused_with(&[123])?;
    on.must(refusal.message == "no lease to give", "another message");
    on.must(refusal.details == "a\nb", "other details");
    Ok(())
}

fn dg_5_an_add_that_fails_after_it_gives_the_address_back(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let ipam = FakeIpam::new(on.stage(), IMPOSSIBLE_ADDRESS);
    asking(on, "ADD", &on.pod(), &ipam).run().refused()?;
    on.must(ipam.calls() == ["ADD", "DEL"], "its DEL is not called");
    on.must_be_as(&before, "after such an ADD");
    Ok(())
}

fn dg_6_a_plugin_that_is_just_being_replaced_is_tried_again(on: &Subject) -> Verdict {
    let (ipam, pod) = (FakeIpam::giving(on.stage(), ""), on.pod());
    let program = PathBuf::from(ipam.path()).join(FakeIpam::TYPE);
    let being_written = fs::OpenOptions::new().append(true).open(program).unwrap();
    let asked = asking(on, "ADD", &pod, &ipam).start();
    // Time for a first try, which this file, open for writing, makes fail.
    thread::sleep(Duration::from_millis(300));
    drop(being_written);
    asked.reply().done()?;
    Ok(())
}

fn dg_7_every_verb_is_forwarded(on: &Subject) -> Verdict {
    let (ipam, pod) = (FakeIpam::giving(on.stage(), ""), on.pod());
    let result = asking(on, "ADD", &pod, &ipam).run().result()?;
    let config = on.delegating(FakeIpam::TYPE);
    let newest = with(config.clone(), json!({"cniVersion": "1.1.0"}));
    let calls: [(&str, &Value); 4] =
        [("CHECK", &after(&config, &result)), ("STATUS", &newest), ("DEL", &config), ("GC", &newest)];
    for (verb, config) in calls {
        on.ask(verb, config).of("web-0", &pod).finding(&ipam).run();
    }
    let calls = ipam.calls();
    let forwarded = |verb: &&str| calls.iter().any(|call| call == verb);
    let missing: Vec<_> =
        ["ADD", "CHECK", "STATUS", "DEL", "GC"].into_iter().filter(|verb| !forwarded(verb)).collect();
    on.must(missing.is_empty(), format!("not forwarded: {}", missing.join(", ")));
    Ok(())
}

fn dg_8_an_answer_that_is_no_result_is_refused_and_leaves_nothing(on: &Subject) -> Verdict {
    let useless = [
        ("garbage", "echo 'half a {'"),
        ("nothing", ":"),
        ("null", "echo null"),
        ("no addresses", r#"echo '{"cniVersion": "1.0.0", "ips": []}'"#),
        (
            "an address that is none",
            r#"echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.250"}]}'"#,
        ),
        ("two documents", r#"echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.250/24"}]} {}'"#),
        ("a silent failure", "exit 1"),
        ("words and a failure", "echo oops; exit 7"),
        ("a kill", "kill -9 $$"),
    ];
    for (what, lines) in useless {
        let on = on.anew();
        let before = on.settled()?;
        let ipam = FakeIpam::new(on.stage(), lines);
        on.note(asking(&on, "ADD", &on.pod(), &ipam).run().refused(), what);
        on.must_be_as(&before, "after such an ADD");
    }
    Ok(())
}
