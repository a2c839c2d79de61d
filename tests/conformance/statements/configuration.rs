//! CFG-1 to CFG-5.

use selvedge_tests::FakeIpam;
use serde_json::json;

use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

statements! {
    "CFG-1" Must cfg_1_name_json_and_version_are_checked_before_anything_is_done
    "A missing or malformed name is code 7, broken JSON 6, a version that is not spoken 1 with those that \
     are; no version means 0.1.0; nothing is done before."
    "CFG-2" Must cfg_2_a_wrong_value_is_refused_by_key_and_value_and_changes_nothing
    "A wrong value is refused with code 2 or 7 by key and value, and nothing is changed."
    "CFG-3" Must cfg_3_a_plugin_name_with_a_slash_is_never_executed
    "An ipam.type with a slash is refused and never executed."
    "CFG-4" Must cfg_4_unknown_keys_capabilities_and_args_are_tolerated
    "Unknown keys, cni.dev/ keys, capabilities and args are tolerated."
    "CFG-5" Must cfg_5_results_and_errors_are_in_the_version_of_the_configuration
    "Results and error objects are in the configuration's version."
}

fn cfg_1_name_json_and_version_are_checked_before_anything_is_done(on: &Subject) -> Verdict {
    let before = on.state();
    let pod = on.pod();
    for name in [json!("../../etc"), json!(""), json!(null), json!("a/b")] {
        let config = on.config_with(json!({"name": name}));
        on.note(on.ask("ADD", &config).of("web-0", &pod).run().refused_with(&[7]), "for such a name");
    }
    for text in ["", "{", "nonsense"] {
        let reply = on.ask("ADD", &on.config()).saying(text).of("web-0", &pod).run();
        on.note(reply.refused_with(&[6]), "for broken JSON");
    }
    let refusal = on.ask("ADD", &on.in_version("9.9.9")).of("web-0", &pod).run().refused_with(&[1])?;
    let listed = refusal.details.contains("0.4.0") || refusal.message.contains("0.4.0");
    on.must(listed, "the versions that are spoken are not listed");
    on.must_be_as(&before, "after refusals");
    let mut config = on.config();
    config.as_object_mut().unwrap().remove("cniVersion");
    let result = on.add(&config, "web-0", &pod)?;
    on.must(result["cniVersion"] == "0.1.0" && result.get("ip4").is_some(), "no version means another one");
    Ok(())
}

fn cfg_2_a_wrong_value_is_refused_by_key_and_value_and_changes_nothing(on: &Subject) -> Verdict {
    let before = on.settled()?;
    let subnet = on.in_subnets(&on.config(), &["10.244.1.0/33"]);
    let wrong = [
        ("a subnet", subnet, "10.244.1.0/33"),
        (
            "a bridge name",
            on.config_with(json!({"bridge": "a name that is too long"})),
            "a name that is too long",
        ),
        ("an MTU", on.config_with(json!({"mtu": -1})), "-1"),
    ];
    for (what, config, value) in wrong {
        let pod = on.pod();
        let reply = on.ask("ADD", &config).of("web-0", &pod).run();
        match reply.refused() {
            Ok(refusal) => {
                let code = refusal.code;
                on.must([2, 7].contains(&code), format!("{what}: ADD fails with code {code}"));
                let all = format!("{} {}", refusal.message, refusal.details);
                on.must(all.contains(value), format!("{what}: the value is not named"));
                on.must_be_as(&before, what);
            }
            refused => on.note(refused, what),
        }
        on.del(&config, "web-0", &pod);
    }
    Ok(())
}

fn cfg_3_a_plugin_name_with_a_slash_is_never_executed(on: &Subject) -> Verdict {
    let ipam = FakeIpam::new(on.stage(), "true");
    let config = on.delegating(&format!("../plugins/{}", FakeIpam::TYPE));
    let reply = on.ask("ADD", &config).of("web-0", &on.pod()).finding(&ipam).run();
    on.must(ipam.calls().is_empty(), "it is executed");
    reply.refused()?;
    Ok(())
}

fn cfg_4_unknown_keys_capabilities_and_args_are_tolerated(on: &Subject) -> Verdict {
    let config = on.config_with(json!({
        "capabilities": {"portMappings": true, "ips": false}, "args": {"labels": {"a": "b"}, "cni": {"x": 1}},
        "cni.dev/frob": {"a": [1]}, "x-unknown": null,
    }));
    on.add(&config, "web-0", &on.pod())?;
    Ok(())
}

fn cfg_5_results_and_errors_are_in_the_version_of_the_configuration(on: &Subject) -> Verdict {
    for version in on.versions() {
        let pod = on.pod();
        let config = on.config_with(json!({"cniVersion": version, "name": format!("net-{version}")}));
        let result = on.add(&config, "web-0", &pod)?;
        on.must(result["cniVersion"] == *version, "a result is in another version");
        let again = on.ask("ADD", &config).of("web-0", &pod).run();
        again.refused()?;
        let answered = again.document().is_some_and(|error| error["cniVersion"] == *version);
        on.must(answered, "an error object is in another version, or in none");
        // Each of these networks would give the next one's pod the address of this one's.
        on.del(&config, "web-0", &pod).done()?;
    }
    Ok(())
}
