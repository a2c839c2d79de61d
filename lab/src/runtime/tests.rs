use super::*;

/// A directory with plugins that note what they are given, and a conflist that names them.
struct Plugins(PathBuf);

impl Plugins {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("selvedge-lab-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A plugin that appends its verb and its input to `calls` and then does as `script` says.
    fn add(&self, name: &str, script: &str) {
        let calls = self.0.join("calls");
        let text = format!(
            "#!/bin/sh\n{{ echo \"$CNI_COMMAND {name} $CNI_IFNAME $CNI_NETNS $CNI_ARGS\"; cat; echo; }} >> {}\n{script}\n",
            calls.display()
        );
        let (draft, path) = (self.0.join("draft"), self.0.join(name));
        fs::write(&draft, text).unwrap();
        // By a process of its own: were the plugin open for writing here while another test starts one, that one would
        // hold it open, and it could not be executed ("text file busy").
        assert!(Command::new("install").args(["-m", "755"]).args([draft, path]).status().unwrap().success());
    }

    fn conflist(&self) -> Conflist {
        let path = self.0.join("10-x.conflist");
        let text =
            r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"one","mtu":1400},{"type":"two"}]}"#;
        fs::write(&path, text).unwrap();
        Conflist::read(&path).unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.0.join("calls")).unwrap()
    }
}

impl Drop for Plugins {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Runs a function with a sandbox on the node that the calling process is.
fn with_sandbox<T>(plugins: &Plugins, run: impl FnOnce(Sandbox<'_>) -> T) -> Option<T> {
    let node = Namespace::current().unwrap();
    if let Err(error) = node.run(|| ()) {
        println!("skipped: {error}");
        assert!(std::env::var_os("CI").is_none(), "skipped under CI");
        return None;
    }
    let pod = "web-0".parse().unwrap();
    Some(run(Sandbox { pod: &pod, netns: Path::new("/run/netns/web-0"), node: &node, plugins: &plugins.0 }))
}

const RESULT: &str =
    r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.0.2/32"},{"address":"fd00::2/128"}]}'"#;

#[test]
fn each_plugin_gets_its_entry_with_name_version_and_the_result_before_it() {
    let plugins = Plugins::new("chain");
    plugins.add("one", RESULT);
    plugins.add("two", RESULT);
    let conflist = plugins.conflist();
    let attached = with_sandbox(&plugins, |sandbox| {
        let attached = conflist.add(sandbox).unwrap();
        conflist.del(sandbox, &attached).unwrap();
        attached
    });
    let Some(attached) = attached else { return };
    let addresses: Vec<String> = attached.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.244.0.2", "fd00::2"]);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                K8S_POD_INFRA_CONTAINER_ID=default_web-0;K8S_POD_UID=lab-default-web-0";
    let previous = r#""prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.244.0.2/32"},{"address":"fd00::2/128"}]}"#;
    let one = r#"{"type":"one","mtu":1400,"name":"net","cniVersion":"1.1.0""#;
    let two = r#"{"type":"two","name":"net","cniVersion":"1.1.0""#;
    let call = |verb: &str, name: &str, config: &str| {
        format!("{verb} {name} eth0 /run/netns/web-0 {args}\n{config}}}\n")
    };
    let expected = [
        call("ADD", "one", one),
        call("ADD", "two", &format!("{two},{previous}")),
        call("DEL", "two", &format!("{two},{previous}")),
        call("DEL", "one", &format!("{one},{previous}")),
    ];
    assert_eq!(plugins.calls(), expected.concat());
}

#[test]
fn a_plugins_error_is_told_with_its_code_and_the_others_are_undone() {
    let plugins = Plugins::new("error");
    plugins.add("one", RESULT);
    plugins.add("two", r#"echo '{"code":100,"msg":"no room","details":"at all"}'; exit 1"#);
    let conflist = plugins.conflist();
    let Some(error) = with_sandbox(&plugins, |sandbox| conflist.add(sandbox).unwrap_err()) else { return };
    assert_eq!(error.to_string(), "ADD of default/web-0 by plugin two: code 100: no room; at all");
    let verbs: Vec<String> =
        plugins.calls().lines().filter(|l| !l.starts_with('{')).map(|l| l[..7].to_owned()).collect();
    assert_eq!(verbs, ["ADD one", "ADD two", "DEL two", "DEL one"]);
}

#[test]
fn a_plugin_that_fails_without_a_word_of_json_is_quoted() {
    let plugins = Plugins::new("mute");
    plugins.add("one", "echo oh dear >&2; exit 3");
    plugins.add("two", "true");
    let conflist = plugins.conflist();
    let Some(error) = with_sandbox(&plugins, |sandbox| conflist.add(sandbox).unwrap_err()) else { return };
    assert_eq!(error.to_string(), "ADD of default/web-0 by plugin one: exit status: 3: oh dear");
}

#[test]
fn a_conflist_without_plugins_is_refused_by_file() {
    let plugins = Plugins::new("list");
    let path = plugins.0.join("x.conflist");
    fs::write(&path, r#"{"name":"net"}"#).unwrap();
    let error = Conflist::read(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("the network configuration {path:?} has no plugins"));
}
