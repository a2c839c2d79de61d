//! ERR-1 to ERR-4: error objects and codes.

use std::fs::File;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::statements::reply::{Reply, Unmet};
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "ERR-1" Must err_1_an_error_object_has_a_code_a_message_and_a_version
    "An error object has a code, a message and the version that it is in."
    "ERR-2" Runtimes err_2_a_message_is_one_line_that_names_the_object
    "A message is one line that names the object: the path, the interface, the plugin, the range, the \
     address."
    "ERR-3" Must err_3_codes_below_100_mean_what_the_specification_says_and_999_is_for_defects
    "Codes below 100 mean what the specification says, the plugin's own begin at 100, and 999 is left for \
     defects of the plugin."
    "ERR-4" Runtimes err_4_a_lock_that_somebody_holds_for_a_moment_is_waited_for
    "A lock that another process holds for a moment is waited for: no runtime tries again because of code 11."
}

/// A failure that an administrator meets.
struct Failure {
    what: &'static str,
    /// What the message must name.
    object: &'static str,
    reply: Reply,
}

fn failures(on: &Subject) -> Result<Vec<Failure>, Unmet> {
    let (pod, other, kept) = (on.pod(), on.pod(), on.pod());
    let config = on.config();
    on.add(&config, "taken", &pod)?;
    let full = on.in_subnets(&on.config_with(json!({"name": "full", "bridge": "br7"})), &["10.244.9.0/30"]);
    on.add(&full, "kept", &kept)?;
    let elsewhere = on.config_with(json!({"runtimeConfig": {"ips": ["192.0.2.1/24"]}}));
    let add = |config, container| on.ask("ADD", config).of(container, &other);
    let failure = |what, object, reply| Failure { what, object, reply };
    Ok(vec![
        failure("no namespace", "/nowhere", add(&config, "web-0").with("CNI_NETNS", "/nowhere").run()),
        failure("a taken interface", "eth0", on.ask("ADD", &config).of("web-1", &pod).run()),
        failure("no delegate", "no-such-plugin", add(&on.delegating("no-such-plugin"), "web-2").run()),
        failure("no bridge", "lo", add(&on.config_with(json!({"bridge": "lo"})), "web-3").run()),
        failure("an exhausted pool", "10.244.9.", on.ask("ADD", &full).of("web-4", &on.pod()).run()),
        failure(
            "an address out of range",
            "192.0.2.1",
            on.ask("ADD", &elsewhere).of("web-5", &on.pod()).run(),
        ),
    ])
}

fn err_1_an_error_object_has_a_code_a_message_and_a_version(on: &Subject) -> Verdict {
    for Failure { what, reply, .. } in failures(on)? {
        on.note(reply.refused(), what);
        let version = reply.document().is_some_and(|error| error["cniVersion"].is_string());
        on.must(version, "an error object is in no version");
    }
    Ok(())
}

fn err_2_a_message_is_one_line_that_names_the_object(on: &Subject) -> Verdict {
    for Failure { what, object, reply } in failures(on)? {
        let refusal = reply.refused()?;
        on.must(!refusal.message.contains('\n'), format!("{what}: more than one line"));
        on.must(refusal.message.contains(object), format!("{what}: {object} is not named"));
    }
    Ok(())
}

fn err_3_codes_below_100_mean_what_the_specification_says_and_999_is_for_defects(on: &Subject) -> Verdict {
    let mut wrong = Vec::new();
    for Failure { what, reply, .. } in failures(on)? {
        let code = reply.refused()?.code;
        if !matches!(code, 1..=8 | 11 | 50 | 51 | 100..999) {
            wrong.push(format!("{code} for {what}"));
        }
    }
    on.must(wrong.is_empty(), wrong.join(", "));
    Ok(())
}

fn err_4_a_lock_that_somebody_holds_for_a_moment_is_waited_for(on: &Subject) -> Verdict {
    on.settled()?;
    let ours = on.stage().folder().join("ipam/mynet/lock");
    let path = if on.is_ours() { ours } else { on.data().join("mynet/lock") };
    let lock = File::options().write(true).open(&path).unwrap();
    lock.lock().unwrap();
    let pod = on.pod();
    let asked = on.ask("ADD", &on.config()).of("web-0", &pod).start();
    thread::sleep(Duration::from_millis(300));
    drop(lock);
    asked.reply().done()?;
    Ok(())
}
