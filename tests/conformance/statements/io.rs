//! IO-1 to IO-11.

use std::io::{Write, pipe};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use selvedge_tests::{FakeIpam, Pod};
use serde_json::{Value, json};

use crate::config::after;
use crate::process::wait_for;
use crate::statements::reply::ResultText;
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "IO-1" Must io_1_success_exits_with_0_and_failure_with_another_code_and_an_error_object
    "A call that succeeds exits with 0, one that fails with another code and an error object."
    "IO-2" Must io_2_exactly_one_json_document_on_stdout
    "Stdout gets exactly one JSON document: the result of an ADD or the error object, never both."
    "IO-3" Runtimes io_3_the_error_object_is_on_stdout_and_stderr_is_for_people
    "The error object goes to stdout; stderr carries text for people only."
    "IO-4" Runtimes io_4_check_del_gc_and_status_print_nothing_when_they_succeed
    "CHECK, DEL, GC and STATUS print nothing when they succeed."
    "IO-5" Runtimes io_5_an_add_whose_result_nobody_can_read_fails_and_leaves_nothing
    "An ADD whose result nobody can read any more fails and takes back what it did."
    "IO-6" Runtimes io_6_no_child_outlives_the_plugin_with_its_pipes_open
    "A killed plugin leaves no child behind that keeps the runtime waiting on stdout or stderr."
    "IO-7" Runtimes io_7_stdin_is_read_to_its_end_within_a_limit_and_not_for_version
    "Stdin is read to its end, with whatever line breaks, up to a limit; VERSION does not wait for it."
    "IO-8" Runtimes io_8_the_environment_of_the_runtime_does_not_matter
    "The rest of the runtime's environment does not matter: no PATH, no HOME, foreign variables."
    "IO-9" Runtimes io_9_without_a_command_the_plugin_says_what_it_is_and_an_unknown_one_is_code_4
    "Without CNI_COMMAND the plugin says on stderr what it is and succeeds; an unknown command is refused \
     with code 4."
    "IO-10" Runtimes io_10_keys_are_matched_in_any_case_and_the_exact_one_wins
    "Keys of the configuration are matched in any case, and the exact spelling wins."
    "IO-11" Runtimes io_11_null_is_absent_and_a_number_may_be_a_float
    "null is as good as absent, unknown keys are passed over, and a whole number may be written as a float."
}

fn io_1_success_exits_with_0_and_failure_with_another_code_and_an_error_object(on: &Subject) -> Verdict {
    let (pod, config) = (on.pod(), on.config());
    let result = on.add(&config, "web-0", &pod)?;
    on.must(result.get("code").is_none(), "the result of a success has a code");
    on.ask("ADD", &config).of("web-0", &pod).run().refused()?;
    Ok(())
}

fn io_2_exactly_one_json_document_on_stdout(on: &Subject) -> Verdict {
    let pod = on.pod();
    let added = on.ask("ADD", &on.config()).of("web-0", &pod).run();
    on.must(added.document().is_some(), "a success prints something else");
    let refused = on.ask("ADD", &on.config()).of("web-0", &pod).run();
    on.must(refused.document().is_some(), "an early failure prints something else");
    // Shows only once the address is reserved.
    let late = on.ask("ADD", &on.config_with(json!({"bridge": "lo"}))).of("web-1", &on.pod()).run();
    let document = late.document();
    on.must(document.is_some(), "a late failure prints something else");
    on.must(document.is_some_and(|error| error.get("ips").is_none()), "a late failure prints a result");
    Ok(())
}

fn io_3_the_error_object_is_on_stdout_and_stderr_is_for_people(on: &Subject) -> Verdict {
    let reply = on.ask("ADD", &on.config_with(json!({"name": "?"}))).of("web-0", &on.pod()).run();
    reply.refused()?;
    on.must(serde_json::from_str::<Value>(&reply.stderr).is_err(), "an object is on stderr");
    Ok(())
}

fn io_4_check_del_gc_and_status_print_nothing_when_they_succeed(on: &Subject) -> Verdict {
    let (pod, config) = (on.pod(), on.config());
    let result = on.add(&config, "web-0", &pod)?;
    let calls = [
        ("STATUS", on.in_version("1.1.0")),
        ("CHECK", after(&config, &result)),
        ("GC", on.in_version("1.1.0")),
        ("DEL", after(&config, &result)),
    ];
    for (verb, config) in calls {
        let reply = on.ask(verb, &config).of("web-0", &pod).run();
        on.note(reply.done(), "");
        on.must(!reply.succeeded() || reply.stdout.is_empty(), format!("{verb} prints something"));
    }
    Ok(())
}

fn io_5_an_add_whose_result_nobody_can_read_fails_and_leaves_nothing(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let pod = on.pod();
    let status = unheard(on, &pod);
    on.must(!status.success(), "ADD succeeds");
    on.must_be_as(&before, "after such an ADD");
    Ok(())
}

/// ADD with a stdout that nobody reads.
fn unheard(on: &Subject, pod: &Pod) -> ExitStatus {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let (config, netns) = (on.config().to_string(), pod.path().display().to_string());
    let program = on.program("bridge");
    let run = || {
        let mut add = Command::new(program);
        add.env_clear().envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "web-0"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", &netns),
            ("CNI_PATH", super::subject::REFERENCE),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        let mut child = add.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null()).spawn()?;
        child.stdin.take().unwrap().write_all(config.as_bytes())?;
        child.wait()
    };
    on.stage().node().run(run).unwrap().unwrap()
}

fn io_6_no_child_outlives_the_plugin_with_its_pipes_open(on: &Subject) -> Verdict {
    let ipam = FakeIpam::new(on.stage(), "exec sleep 5");
    let pod = on.pod();
    let asked = on.ask("ADD", &on.delegating(FakeIpam::TYPE)).of("web-0", &pod).finding(&ipam).start();
    wait_for(|| !ipam.environment().is_empty());
    let killed = Instant::now();
    asked.running.kill();
    let waited = killed.elapsed();
    on.must(waited < Duration::from_secs(3), "the delegate goes on, and the runtime waits for it");
    Ok(())
}

fn io_7_stdin_is_read_to_its_end_within_a_limit_and_not_for_version(on: &Subject) -> Verdict {
    let config = on.config();
    let dos = format!("{config:#}\n").replace('\n', "\r\n");
    for (number, text) in [config.to_string(), format!("{config}\r\n"), dos].into_iter().enumerate() {
        let reply = on.ask("ADD", &config).saying(text).of(&format!("web-{number}"), &on.pod()).run();
        on.note(reply.done(), "with other line breaks");
    }
    let long = on.config_with(json!({"padding": "x".repeat(4 << 20)}));
    let reply = on.ask("ADD", &long).of("web-9", &on.pod()).run();
    on.note(reply.refused_with(&[5, 6]), "with more than 4 MiB");
    on.must(version_answers_while_stdin_is_open(on), "VERSION waits for the end of stdin");
    Ok(())
}

fn version_answers_while_stdin_is_open(on: &Subject) -> bool {
    let mut version = Command::new(on.program("bridge"));
    version.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped());
    let mut child = version.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    let answered = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.success(),
            None if Instant::now() > until => break false,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    drop(stdin);
    child.wait().unwrap();
    answered
}

fn io_8_the_environment_of_the_runtime_does_not_matter(on: &Subject) -> Verdict {
    let call = || on.ask("ADD", &on.config());
    let noise =
        [("XDG_RUNTIME_DIR", ""), ("LANG", "tlh"), ("HOME", "/nowhere"), ("TRACEPARENT", "00-ab-cd-01")];
    let pod = on.pod();
    let noisy =
        noise.into_iter().fold(call().of("noisy", &pod), |call, (name, value)| call.with(name, value));
    on.note(noisy.run().done(), "with foreign variables");
    on.note(call().of("bare", &on.pod()).without("PATH").run().done(), "without PATH");
    Ok(())
}

fn io_9_without_a_command_the_plugin_says_what_it_is_and_an_unknown_one_is_code_4(on: &Subject) -> Verdict {
    let alone = on.ask("ADD", &on.config()).without("CNI_COMMAND").saying("").run();
    on.must(alone.succeeded(), "without a command it fails");
    on.must(alone.stdout.is_empty() && alone.stderr.contains("0.4.0"), "it does not say what it speaks");
    let refusal = on.ask("FROB", &on.config()).of("web-0", &on.pod()).run().refused_with(&[4])?;
    on.must(refusal.message == "unknown CNI_COMMAND: FROB", "an unknown command is refused in other words");
    Ok(())
}

fn io_10_keys_are_matched_in_any_case_and_the_exact_one_wins(on: &Subject) -> Verdict {
    let mut config = on.config_with(json!({"NAME": "wrong", "MTU": 1400}));
    let object = config.as_object_mut().unwrap();
    let version = object.remove("cniVersion").unwrap();
    object.insert("CNIVersion".into(), version.clone());
    // As containerd writes a capability.
    object.insert("runtimeconfig".into(), json!({"IPs": ["10.244.1.77/24"]}));
    let pod = on.pod();
    let result = on.add(&config, "web-0", &pod)?;
    on.must(result["cniVersion"] == version, "the version is not read");
    on.must(result.addresses() == ["10.244.1.77"], "the address that is asked for is not given");
    let mtu = crate::hand::look(pod.namespace()).links[&crate::hand::name("eth0")].mtu;
    on.must(mtu == 1400, "the MTU is not read");
    on.must(!on.state().has(&["wrong"]), "of two spellings of the name, the last wins");
    Ok(())
}

fn io_11_null_is_absent_and_a_number_may_be_a_float(on: &Subject) -> Verdict {
    let nothing =
        json!({"dns": null, "args": null, "runtimeConfig": null, "prevResult": null, "other": [{}]});
    on.note(on.add(&on.config_with(nothing), "nothing", &on.pod()), "with null");
    let float = on.config_with(json!({"mtu": 1.4e3}));
    on.note(on.add(&float, "float", &on.pod()), "with an MTU of 1.4e3");
    Ok(())
}
