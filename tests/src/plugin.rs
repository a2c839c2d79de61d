//! Calls of a CNI plugin, as a runtime makes them.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use selvedge_netns::Namespace;
use serde_json::Value;

use crate::{Pod, bin_dir, program};

/// One call: the environment and the configuration that a runtime would hand over.
#[derive(Debug, Clone)]
pub struct Call {
    program: PathBuf,
    environment: Vec<(String, String)>,
    config: Value,
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
        Self { program: program("selvedge"), environment: Vec::new(), config }
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

    /// The same call of another plugin.
    pub fn by(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// Makes the call on a node and waits for its end.
    ///
    /// # Panics
    /// If the program cannot be run, is killed by a signal, or writes something to stdout that is not one JSON document.
    pub fn run(&self, node: &Namespace) -> Answer {
        let output = node
            .run(|| self.exec())
            .unwrap_or_else(|error| panic!("{error}"))
            .unwrap_or_else(|error| panic!("run {:?}: {error}", self.program));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let code =
            output.status.code().unwrap_or_else(|| panic!("{:?}: {}\n{stderr}", self.program, output.status));
        let stdout = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&stdout);
        let stdout = (!stdout.is_empty()).then(|| {
            document.unwrap_or_else(|error| panic!("stdout is no JSON: {error}\n{stdout}\n{stderr}"))
        });
        Answer { code, stdout, stderr }
    }

    fn exec(&self) -> io::Result<Output> {
        let mut child = Command::new(&self.program)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin may answer without having read everything.
            let written = stdin.write_all(self.config.to_string().as_bytes());
            written
                .or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        }
        child.wait_with_output()
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
}
