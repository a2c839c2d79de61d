//! Calls of a CNI plugin, as a runtime makes them.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use selvedge_netns::Namespace;
use serde_json::Value;

use crate::{Pod, bin_dir, program};

/// One call: the environment and the configuration that a runtime would hand over.
#[derive(Debug, Clone)]
pub struct Call {
    program: PathBuf,
    /// What runs the program, and the arguments before the program's path; nothing for itself.
    runner: Vec<OsString>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
}

/// A call that has been made and whose end nobody has waited for yet.
#[derive(Debug)]
pub struct Running {
    program: PathBuf,
    child: Child,
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// The one JSON document on stdout, or nothing.
    pub stdout: Option<Value>,
    /// Everything on stderr.
    pub stderr: String,
}

impl Call {
    /// A call of our plugin: the verb as in CNI_COMMAND, and the network configuration. Other plugins are looked for
    /// where ours are.
    pub fn new(verb: &str, config: Value) -> Self {
        let path = bin_dir().display().to_string();
        let (environment, runner) = (Vec::new(), Vec::new());
        Self { program: program("selvedge"), runner, environment, stdin: config.to_string().into() }
            .with("CNI_COMMAND", verb)
            .with("CNI_PATH", &path)
    }

    /// The same call for a container's interface `eth0` in a pod.
    pub fn of(self, container: &str, pod: &Pod) -> Self {
        let path = pod.path().display().to_string();
        self.with("CNI_CONTAINERID", container).with("CNI_IFNAME", "eth0").with("CNI_NETNS", &path)
    }

    /// The same call with a variable set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same call without a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(set, _)| set != name);
        self
    }

    /// The same call of another plugin.
    pub fn by(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// The same call run by another program, such as a tracer, which gets these arguments and then the plugin's path.
    pub fn under<T: Into<OsString>>(mut self, runner: impl IntoIterator<Item = T>) -> Self {
        self.runner = runner.into_iter().map(Into::into).collect();
        self
    }

    /// The same call with other bytes on stdin.
    pub fn saying(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Makes the call on a node and waits for its end.
    ///
    /// # Panics
    /// If the program cannot be run, is killed by a signal, or writes something to stdout that is not one JSON document.
    pub fn run(&self, node: &Namespace) -> Answer {
        self.start(node).answer()
    }

    /// Makes the call on a node.
    ///
    /// # Panics
    /// If the program cannot be run.
    pub fn start(&self, node: &Namespace) -> Running {
        let child = node
            .run(|| self.exec())
            .unwrap_or_else(|error| panic!("{error}"))
            .unwrap_or_else(|error| panic!("run {:?}: {error}", self.program));
        Running { program: self.program.clone(), child }
    }

    fn exec(&self) -> io::Result<Child> {
        let mut words = self.runner.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin may answer without having read everything.
            let written = stdin.write_all(&self.stdin);
            written
                .or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        }
        Ok(child)
    }
}

impl Running {
    /// The process' id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the program, and waits until it is dead and everybody has closed its stdout and stderr.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn kill(mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait_with_output());
        killed.unwrap_or_else(|error| panic!("kill {:?}: {error}", self.program));
    }

    /// Waits for the program's end, however that comes, and until everybody has closed its stdout and stderr.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn output(self) -> Output {
        let program = self.program;
        self.child.wait_with_output().unwrap_or_else(|error| panic!("wait for {program:?}: {error}"))
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// If it is killed by a signal, or wrote something to stdout that is not one JSON document.
    pub fn answer(self) -> Answer {
        let program = self.program.clone();
        let output = self.output();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().unwrap_or_else(|| panic!("{program:?}: {}\n{stderr}", output.status));
        let stdout = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&stdout);
        let stdout = (!stdout.is_empty()).then(|| {
            document.unwrap_or_else(|error| panic!("stdout is no JSON: {error}\n{stdout}\n{stderr}"))
        });
        Answer { code, stdout, stderr }
    }
}

impl Answer {
    /// The document of a call that must have succeeded with one.
    ///
    /// # Panics
    /// If the call failed or printed nothing.
    pub fn result(&self) -> &Value {
        assert_eq!(self.code, 0, "the call failed: {:?}\n{}", self.stdout, self.stderr);
        self.stdout.as_ref().unwrap_or_else(|| panic!("nothing on stdout\n{}", self.stderr))
    }

    /// The error code of a call that must have failed: the protocol's, not the exit code.
    ///
    /// # Panics
    /// If the call succeeded or its document has no code.
    pub fn error_code(&self) -> u64 {
        assert_ne!(self.code, 0, "the call succeeded: {:?}\n{}", self.stdout, self.stderr);
        let code = self.stdout.as_ref().and_then(|document| document["code"].as_u64());
        code.unwrap_or_else(|| panic!("no error document: {:?}\n{}", self.stdout, self.stderr))
    }

    /// The error object of a call that must have failed, as code and message: with an exit code to match, in a version
    /// of the protocol, the message one line that says something.
    ///
    /// # Panics
    /// If anything of that is not so.
    pub fn refusal(&self) -> (u64, &str) {
        let code = self.error_code();
        let document = self.stdout.as_ref();
        let text = |key: &str| document.and_then(|document| document[key].as_str()).unwrap_or_default();
        let message = text("msg");
        assert!(!text("cniVersion").is_empty(), "an error object in no version: {document:?}");
        assert!(message.len() > 5 && !message.contains('\n'), "no one-line message: {document:?}");
        (code, message)
    }

    /// A call that must have succeeded without a word on stdout.
    ///
    /// # Panics
    /// If it failed or printed something.
    pub fn done(&self) {
        assert_eq!((self.code, &self.stdout), (0, &None), "{}", self.stderr);
    }
}
