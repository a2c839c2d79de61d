//! ENV-1 to ENV-7.

use std::fs;

use serde_json::{Value, json};

use crate::statements::reply::{ResultText, Unmet};
use crate::statements::state::names_in;
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "ENV-1" Must env_1_every_missing_variable_is_named
    "A missing variable is refused with code 4, in a message that names all that are missing."
    "ENV-2" Runtimes env_2_cni_path_is_demanded_only_to_find_another_plugin
    "CNI_PATH is demanded only where another plugin has to be found, and then by name with code 4."
    "ENV-3" Must env_3_a_container_id_is_checked_by_its_letters_and_may_be_of_any_length
    "A container id with other letters than the specification's is refused with code 4; its length is free."
    "ENV-4" Must env_4_an_interface_name_that_the_kernel_would_refuse_is_refused_before_it
    "An interface name that the kernel would refuse is refused with code 4, before anything is done."
    "ENV-5" Runtimes env_5_what_is_no_container_namespace_is_refused_and_a_path_is_echoed_as_given
    "A CNI_NETNS that is none, or the plugin's own, is refused with code 3 or 8 before anything is done; the \
     result repeats the path as it was given."
    "ENV-6" Convention env_6_unknown_and_malformed_arguments_are_refused_but_never_by_del
    "CNI_ARGS: Kubernetes' and podman's are taken in any order, unknown ones only with IgnoreUnknown, \
     malformed ones are refused; DEL minds none of it."
    "ENV-7" Convention env_7_what_the_runtime_configuration_asks_for_goes_before_cni_args
    "An address or a MAC address asked for in runtimeConfig or args.cni goes before the one in CNI_ARGS."
}

fn env_1_every_missing_variable_is_named(on: &Subject) -> Verdict {
    let cases = [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME"),
    ];
    for (verb, names) in cases {
        let refusal = on.ask(verb, &on.config()).run().refused_with(&[4])?;
        let all = names.split(',').all(|name| refusal.message.contains(name));
        on.must(all, format!("{verb} does not name all of {names}"));
    }
    let gc = on.ask("GC", &on.in_version("1.1.0")).without("CNI_PATH").run().refused_with(&[4])?;
    on.must(gc.message.contains("CNI_PATH"), "GC does not name CNI_PATH");
    Ok(())
}

fn env_2_cni_path_is_demanded_only_to_find_another_plugin(on: &Subject) -> Verdict {
    let alone = if on.is_ours() { on.config() } else { on.config_with(json!({"ipam": {}})) };
    let added = on.ask("ADD", &alone).of("web-0", &on.pod()).without("CNI_PATH").run();
    on.note(added.done(), "with nothing to find");
    let delegating =
        on.ask("ADD", &on.delegating("host-local")).of("web-1", &on.pod()).without("CNI_PATH").run();
    let refusal = delegating.refused_with(&[4])?;
    on.must(refusal.message.contains("CNI_PATH"), "the message does not name CNI_PATH");
    Ok(())
}

fn env_3_a_container_id_is_checked_by_its_letters_and_may_be_of_any_length(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let files = names_in(on.stage().folder());
    for id in ["../../escaped", "a/b", "-a", "a b", "a\nb", "ä"] {
        for verb in ["ADD", "DEL"] {
            let refusal = on.ask(verb, &on.config()).of(id, &on.pod()).run().refused_with(&[4])?;
            on.must(refusal.message.contains("CNI_CONTAINERID"), "the message does not name the variable");
        }
    }
    on.must_be_as(&before, "after refusals");
    on.must(names_in(on.stage().folder()) == files, "a file is named after such an id");
    let (pod, other) = (on.pod(), on.pod());
    let (one, longer) = ("a".repeat(3000), "a".repeat(3001));
    let first = on.add(&on.config(), &one, &pod)?;
    let second = on.add(&on.config(), &longer, &other)?;
    on.must(first.addresses() != second.addresses(), "two long ids share an address");
    for (id, pod) in [(&one, &pod), (&longer, &other)] {
        on.del(&on.config(), id, pod).done()?;
    }
    on.must_be_as(&before, "after their DELs");
    Ok(())
}

fn env_4_an_interface_name_that_the_kernel_would_refuse_is_refused_before_it(on: &Subject) -> Verdict {
    let before = on.settled()?;
    for ifname in ["sixteen-letters-", ".", "..", "a/b", "a:b", "a b"] {
        let pod = on.pod();
        let asked = on.ask("ADD", &on.config()).of("web-0", &pod).with("CNI_IFNAME", ifname);
        on.note(asked.run().refused_with(&[4]), &format!("for {ifname:?}"));
    }
    on.must_be_as(&before, "after refusals");
    Ok(())
}

fn env_5_what_is_no_container_namespace_is_refused_and_a_path_is_echoed_as_given(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let file = on.stage().folder().join("file");
    fs::write(&file, "").unwrap();
    let paths = [
        ("its own namespace", "/proc/self/ns/net"),
        ("nothing there", "/nowhere/at/all"),
        ("an ordinary file", file.to_str().unwrap()),
        ("another kind of namespace", "/proc/self/ns/mnt"),
    ];
    for (what, path) in paths {
        let reply = on.ask("ADD", &on.config()).of("web-0", &on.pod()).with("CNI_NETNS", path).run();
        on.note(reply.refused_with(&[3, 8]), what);
    }
    on.must_be_as(&before, "after refusals");
    let on = on.anew();
    let pod = on.pod();
    let path = pod.path().display().to_string().replace("/fd/", "//fd/./");
    let result = on.ask("ADD", &on.config()).of("web-0", &pod).with("CNI_NETNS", &path).run().result()?;
    on.must(result.inside().text("/sandbox") == path, "the result has another form of the path");
    Ok(())
}

fn env_6_unknown_and_malformed_arguments_are_refused_but_never_by_del(on: &Subject) -> Verdict {
    let attempt = |container: &str, args: &str| {
        on.ask("ADD", &on.config()).of(container, &on.pod()).with("CNI_ARGS", args).run()
    };
    let kubernetes =
        "K8S_POD_UID=u;K8S_POD_INFRA_CONTAINER_ID=i;K8S_POD_NAME=p;IgnoreUnknown=1;K8S_POD_NAMESPACE=n";
    let taken = [
        ("podman's", "IgnoreUnknown=1;K8S_POD_NAME=web-0"),
        ("Kubernetes'", kubernetes),
        ("none", ""),
        ("an unknown one with IgnoreUnknown", "FROB=1;IgnoreUnknown=true"),
    ];
    for (number, (what, args)) in taken.into_iter().enumerate() {
        on.note(attempt(&format!("taken-{number}"), args).done(), what);
    }
    for (number, (what, args)) in
        [("an unknown one", "FROB=1"), ("one without a value", "IgnoreUnknown=1;IP"), ("two signs", "A=b=c")]
            .into_iter()
            .enumerate()
    {
        on.note(attempt(&format!("refused-{number}"), args).refused(), what);
    }
    let pod = on.pod();
    on.add(&on.config(), "web-0", &pod)?;
    let del = on.ask("DEL", &on.config()).of("web-0", &pod).with("CNI_ARGS", ";;=FROB").run();
    on.note(del.done(), "malformed ones");
    Ok(())
}

fn env_7_what_the_runtime_configuration_asks_for_goes_before_cni_args(on: &Subject) -> Verdict {
    let attempt = |container: &str, more: Value| -> Result<Value, Unmet> {
        let pod = on.pod();
        let asked = on.ask("ADD", &on.config_with(more)).of(container, &pod);
        asked.with("CNI_ARGS", "IgnoreUnknown=1;IP=10.244.1.70;MAC=02:00:00:00:00:70").run().result()
    };
    let runtime = json!({"runtimeConfig": {"ips": ["10.244.1.80/24"], "mac": "02:00:00:00:00:80"},
        "args": {"cni": {"mac": "02:00:00:00:00:85"}}});
    let args = json!({"args": {"cni": {"ips": ["10.244.1.90/24"], "mac": "02:00:00:00:00:90"}}});
    let cases =
        [("runtimeConfig", runtime, "80"), ("args.cni", args, "90"), ("CNI_ARGS alone", json!({}), "70")];
    for (number, (what, more, last)) in cases.into_iter().enumerate() {
        let given = attempt(&format!("web-{number}"), more);
        let Ok(result) = given else {
            on.note(given, what);
            continue;
        };
        on.must(result.addresses() == [format!("10.244.1.{last}")], format!("{what}: another address"));
        let mac = result.inside().text("/mac").to_owned();
        on.must(mac == format!("02:00:00:00:00:{last}"), format!("{what}: another MAC address"));
    }
    Ok(())
}
