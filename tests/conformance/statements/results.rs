//! VER-1, the shapes of results (RES-1 to RES-3), and their conversion (CONV-1 to CONV-4).

use std::collections::BTreeSet;

use selvedge_tests::FakeIpam;
use serde_json::{Value, json};

use crate::config::{after, with};
use crate::statements::reply::ResultText;
use crate::statements::subject::Subject;
use crate::statements::{Verdict, statements};

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

statements! {
    "VER-1" Must ver_1_version_lists_every_version_whatever_runtimes_pass
    "VERSION lists 0.1.0 to 1.1.0, whatever runtimes put into the other variables."
    "RES-1" Must res_1_the_oldest_versions_have_an_address_and_routes_for_each_family_and_no_interfaces
    "Results of 0.1.0 and 0.2.0 have one address with its routes for each family, and no interfaces; without \
     any address ADD fails and leaves nothing."
    "RES-2" Must res_2_the_middle_versions_name_the_family_of_each_address
    "Results of 0.3.0 to 0.4.0 name the family of each address, and interfaces without later fields."
    "RES-3" Must res_3_from_1_0_0_addresses_name_no_family_and_from_1_1_0_interfaces_their_mtu
    "Results from 1.0.0 on name no family; those of 1.1.0 give interfaces their MTU."
    "CONV-1" Runtimes conv_1_a_delegates_result_of_any_version_is_understood
    "A delegated plugin's result is understood in every version, and without one in the configuration's."
    "CONV-2" Runtimes conv_2_an_earlier_result_may_lack_its_version
    "prevResult may lack its version, or spell the key CNIVersion."
    "CONV-3" Runtimes conv_3_addresses_keep_their_host_bits
    "Addresses keep their host bits, with the subnet's prefix length."
    "CONV-4" Runtimes conv_4_every_version_says_the_same_as_far_as_it_has_words_for_it
    "Results of all versions say the same of one attachment, as far as the version has words for it."
}

fn ver_1_version_lists_every_version_whatever_runtimes_pass(on: &Subject) -> Verdict {
    let dummies =
        [("CNI_CONTAINERID", ""), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "dummy"), ("CNI_PATH", "dummy")];
    let asked = dummies
        .into_iter()
        .fold(on.ask("VERSION", &json!({"cniVersion": "1.0.0"})), |asked, (name, value)| {
            asked.with(name, value)
        });
    let answer = asked.run().result()?;
    on.must(!answer.text("/cniVersion").is_empty(), "the answer is in no version");
    let listed: Vec<&str> = answer.list("/supportedVersions").iter().filter_map(Value::as_str).collect();
    let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    let missing: Vec<&str> = all.into_iter().filter(|version| !listed.contains(version)).collect();
    on.must(missing.is_empty(), format!("without {}", missing.join(", ")));
    Ok(())
}

fn res_1_the_oldest_versions_have_an_address_and_routes_for_each_family_and_no_interfaces(
    on: &Subject,
) -> Verdict {
    let before = on.settled_with(&on.in_subnets(&on.config(), &DUAL))?;
    for version in ["0.1.0", "0.2.0"] {
        let config = on.in_subnets(&on.in_version(version), &DUAL);
        let pod = on.pod();
        let result = on.add(&config, "web-0", &pod)?;
        on.must(result.get("interfaces").is_none() && result.get("ips").is_none(), "it has later lists");
        for (family, gateway) in [("ip4", "10.244.1.1"), ("ip6", "fd00:10:244:1::1")] {
            on.must(result.text(&format!("/{family}/ip")).contains('/'), format!("no {family}"));
            on.must(result[family]["gateway"] == gateway, format!("no gateway of {family}"));
            on.must(result.list(&format!("/{family}/routes")).len() == 1, format!("no routes of {family}"));
        }
        on.del(&config, "web-0", &pod).done()?;
    }
    let none = FakeIpam::new(on.stage(), r#"echo '{"cniVersion": "0.2.0"}'"#);
    let config = with(on.delegating(FakeIpam::TYPE), json!({"cniVersion": "0.2.0"}));
    on.ask("ADD", &config).of("web-1", &on.pod()).finding(&none).run().refused()?;
    on.must_be_as(&before, "without any address");
    Ok(())
}

fn res_2_the_middle_versions_name_the_family_of_each_address(on: &Subject) -> Verdict {
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let config = on.in_subnets(&on.config_with(json!({"cniVersion": version, "mtu": 1400})), &DUAL);
        let pod = on.pod();
        let result = on.add(&config, "web-0", &pod)?;
        let families: Vec<_> = result.list("/ips").iter().map(|ip| ip.text("/version")).collect();
        on.must(families == ["4", "6"], "a family is not named");
        on.must(result.inside().get("mtu").is_none(), "an interface has fields of later versions");
        on.del(&config, "web-0", &pod).done()?;
    }
    Ok(())
}

fn res_3_from_1_0_0_addresses_name_no_family_and_from_1_1_0_interfaces_their_mtu(on: &Subject) -> Verdict {
    for version in ["1.0.0", "1.1.0"] {
        let config = on.config_with(json!({"cniVersion": version, "mtu": 1400}));
        let (id, pod) = (format!("in-{version}"), on.pod());
        let added = on.ask("ADD", &config).of(&id, &pod).run();
        on.note(added.done(), &format!("in {version}"));
        let Ok(result) = added.result() else { continue };
        let named = result.list("/ips").iter().any(|ip| ip.get("version").is_some());
        on.must(!named, "a family is named");
        on.must(version == "1.0.0" || result.inside()["mtu"] == 1400, "no MTU in 1.1.0");
    }
    Ok(())
}

fn conv_1_a_delegates_result_of_any_version_is_understood(on: &Subject) -> Verdict {
    let answers = [
        ("0.2.0", r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.244.1.250/24", "gateway": "10.244.1.1"}}"#),
        (
            "0.3.1",
            r#"{"cniVersion": "0.3.1",
                "ips": [{"version": "4", "address": "10.244.1.250/24", "gateway": "10.244.1.1"}]}"#,
        ),
        (
            "1.0.0",
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.250/24", "gateway": "10.244.1.1"}]}"#,
        ),
        ("no version", r#"{"ips": [{"address": "10.244.1.250/24", "gateway": "10.244.1.1"}]}"#),
    ];
    for (version, answer) in answers {
        let on = on.anew();
        let (ipam, pod) = (FakeIpam::new(on.stage(), &format!("echo '{answer}'")), on.pod());
        let added = on.ask("ADD", &on.delegating(FakeIpam::TYPE)).of("web-0", &pod).finding(&ipam).run();
        on.note(added.done(), version);
        let Ok(result) = added.result() else { continue };
        let ip = (result.text("/ips/0/address"), result.text("/ips/0/gateway"));
        on.must(ip == ("10.244.1.250/24", "10.244.1.1"), format!("{version}: another address"));
    }
    Ok(())
}

fn conv_2_an_earlier_result_may_lack_its_version(on: &Subject) -> Verdict {
    let pod = on.pod();
    let mut result = on.add(&on.config(), "web-0", &pod)?;
    let version = result.as_object_mut().unwrap().remove("cniVersion").unwrap();
    on.note(on.check(&after(&on.config(), &result), "web-0", &pod).done(), "without it");
    result["CNIVersion"] = version;
    on.note(on.check(&after(&on.config(), &result), "web-0", &pod).done(), "as CNIVersion");
    Ok(())
}

fn conv_3_addresses_keep_their_host_bits(on: &Subject) -> Verdict {
    let result = on.add(&on.in_subnets(&on.config(), &["10.9.4.0/22"]), "web-0", &on.pod())?;
    on.must(result.text("/ips/0/address") == "10.9.4.2/22", "another form");
    Ok(())
}

fn conv_4_every_version_says_the_same_as_far_as_it_has_words_for_it(on: &Subject) -> Verdict {
    let mut said = BTreeSet::new();
    for version in on.versions() {
        let on = on.anew();
        let result = on.add(&on.in_subnets(&on.in_version(version), &DUAL), "web-0", &on.pod())?;
        let old = result.get("ip4").is_some();
        let [first, second] = if old { ["/ip4/ip", "/ip6/ip"] } else { ["/ips/0/address", "/ips/1/address"] };
        let gateway = if old { "/ip4/gateway" } else { "/ips/0/gateway" };
        said.insert([first, second, gateway].map(|pointer| result.text(pointer).to_owned()));
    }
    on.must(said.len() == 1, "addresses or gateways differ");
    Ok(())
}
