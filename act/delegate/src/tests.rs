use std::os::unix::fs::PermissionsExt;

use super::*;

/// A plugin that is a shell script, in a directory of its own that goes with it.
struct Script(PathBuf);

impl Script {
    fn new(name: &str, body: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("selvedge-delegate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("plugin");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn run(&self, stdin: &[u8], deadline: Duration) -> Result<Answer, DelegateError> {
        run(Call { program: &self.0, env: &[("CNI_COMMAND", "ADD".to_owned())], stdin, deadline })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_plugin_gets_its_environment_and_its_whole_configuration() {
    let script = Script::new("echo", "echo \"$CNI_COMMAND\"; cat");
    let stdin = vec![b'x'; 300_000];
    let answer = script.run(&stdin, LONG).unwrap();
    assert!(answer.status.success());
    assert_eq!(answer.stdout.len(), 300_004);
    assert!(answer.stdout.starts_with(b"ADD\nxxx"));
}

#[test]
fn a_plugin_that_hangs_is_killed_at_its_deadline() {
    let script = Script::new("hang", "sleep 100");
    let started = Instant::now();
    let error = script.run(b"{}", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, DelegateError::Deadline { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_grandchild_that_keeps_stdout_open_does_not_keep_us_waiting() {
    let script = Script::new("daemon", "echo done; sleep 20 & exit 3");
    let started = Instant::now();
    let answer = script.run(b"{}", LONG).unwrap();
    assert_eq!((answer.status.code(), answer.stdout.as_slice()), (Some(3), &b"done\n"[..]));
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_plugin_that_closes_its_output_and_lives_on_is_waited_for() {
    let script = Script::new("closed", "echo done; exec >&- 2>&-; sleep 0.2; exit 3");
    let answer = script.run(b"{}", LONG).unwrap();
    assert_eq!((answer.status.code(), answer.stdout.as_slice()), (Some(3), &b"done\n"[..]));
}

#[test]
fn a_plugin_that_prints_for_ever_is_killed() {
    let error = Script::new("chatter", "exec yes").run(b"{}", LONG).unwrap_err();
    assert!(matches!(error, DelegateError::TooLong { .. }), "{error}");
}

#[test]
fn a_plugin_that_never_reads_its_configuration_still_answers() {
    let script = Script::new("deaf", "exec 0<&-; echo '{}'");
    assert_eq!(script.run(&vec![b' '; 300_000], LONG).unwrap().stdout, b"{}\n");
}

#[test]
fn a_missing_program_is_named() {
    let call = Call { program: Path::new("/nonexistent/plugin"), env: &[], stdin: b"", deadline: LONG };
    assert_eq!(run(call).unwrap_err().to_string(), "start /nonexistent/plugin");
}
