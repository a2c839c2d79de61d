//! As whom the API is asked: a password, a token, or what a program says, which is asked again before that expires.

use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use data_encoding::BASE64;
use http::HeaderValue;
use k8s_openapi::jiff::{self, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::kubernetes::access::{Identity, Secret};
use crate::kubernetes::provider::Provider;
use crate::yaml::{Field, Located, documents};

/// How long before it expires a token is no longer used.
const EARLY: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum User {
    /// Nobody, or whom the certificate names.
    Anonymous,
    /// Somebody with a password.
    Basic { name: String, password: Secret<String> },
    /// Whom the token is for.
    Token(Secret<String>),
    /// Whom a program names (client.authentication.k8s.io).
    Program(Box<Program>),
    /// Whom a program names in the older way.
    Provider(Box<Provider>),
}

/// A program that answers with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) api_version: Option<String>,
    pub(super) command: OsString,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// Whether it may ask a person.
    pub(super) interactive: bool,
    /// The server, if it wants to know it.
    pub(super) cluster: Option<Value>,
}

/// Nobody can be logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It isn't there, or can't be run.
    #[error("{program} can't be run")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed with {status}: {said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to its standard error.
        said: String,
    },
    /// Its answer is none.
    #[error("the answer of {program} can't be understood: {why}")]
    Answer {
        /// The program.
        program: String,
        /// Why.
        why: String,
    },
    /// A time is no time.
    #[error("the token's expiry {time:?} is no time")]
    Expiry {
        /// What is there.
        time: String,
        /// Why.
        #[source]
        source: jiff::Error,
    },
    /// A provider of tokens that isn't known, or that has none.
    #[error("{0}")]
    Provider(String),
    /// It contains what no header can.
    #[error("the token, or the name and the password, can't be sent")]
    Header(#[source] http::header::InvalidHeaderValue),
    /// The program was not waited for.
    #[error("the login was broken off")]
    BrokenOff,
}

/// What a user has to show.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// A header.
    pub(super) token: Option<Token>,
    /// A certificate.
    pub(super) identity: Option<Identity>,
}

/// A token, and when it will be none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) token: Secret<String>,
    pub(super) expires: Option<Timestamp>,
}

impl Token {
    fn header(&self) -> Result<HeaderValue, LoginError> {
        header(&format!("Bearer {}", self.token.0))
    }

    fn is_over(&self) -> bool {
        self.expires.is_some_and(|expires| Timestamp::now() + EARLY >= expires)
    }
}

fn header(text: &str) -> Result<HeaderValue, LoginError> {
    let mut value = HeaderValue::try_from(text).map_err(LoginError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A user who is logged in, and is again when that expires.
#[derive(Debug)]
pub(super) struct Login {
    user: User,
    now: Mutex<(HeaderValue, Option<Token>)>,
}

impl Login {
    /// Logs a user in. Nothing comes back of one who needs no header; a certificate may.
    pub(super) fn of(user: &User) -> Result<(Option<Self>, Option<Identity>), LoginError> {
        let login = |header, token| Self { user: user.clone(), now: Mutex::new((header, token)) };
        match user {
            User::Anonymous => Ok((None, None)),
            User::Basic { name, password } => {
                let text = BASE64.encode(format!("{name}:{}", password.0).as_bytes());
                Ok((Some(login(header(&format!("Basic {text}"))?, None)), None))
            }
            User::Token(_) | User::Program(_) | User::Provider(_) => {
                let Credentials { token, identity } = user.credentials()?;
                let token = token.map(|token| Ok(login(token.header()?, Some(token)))).transpose()?;
                Ok((token, identity))
            }
        }
    }

    /// The header of a request that is made now.
    pub(super) async fn header(&self) -> Result<HeaderValue, LoginError> {
        let mut now = self.now.lock().await;
        if now.1.as_ref().is_some_and(Token::is_over) {
            let user = self.user.clone();
            let told = spawn_blocking(move || user.credentials()).await;
            let told = told.map_err(|_ended| LoginError::BrokenOff)??;
            let token =
                told.token.ok_or_else(|| LoginError::Provider("there is no token any more".into()))?;
            *now = (token.header()?, Some(token));
        }
        Ok(now.0.clone())
    }
}

impl User {
    fn credentials(&self) -> Result<Credentials, LoginError> {
        let token = match self {
            Self::Anonymous | Self::Basic { .. } => None,
            Self::Token(token) => Some(Token { token: token.clone(), expires: None }),
            Self::Program(program) => return program.ask(),
            Self::Provider(provider) => Some(provider.ask()?),
        };
        Ok(Credentials { token, identity: None })
    }
}

/// What a program answers.
#[derive(Deserialize)]
struct Answer {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Program {
    fn ask(&self) -> Result<Credentials, LoginError> {
        let mut spec = json!({"interactive": self.interactive});
        if let Some(cluster) = &self.cluster {
            spec["cluster"] = cluster.clone();
        }
        let asked = json!({"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec});
        let mut command = Command::new(&self.command);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("KUBERNETES_EXEC_INFO", asked.to_string());
        if self.interactive {
            command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        }
        let said = output(&mut command)?;
        let not = |why: String| LoginError::Answer { program: name_of(&command), why };
        let answer: Answer = match serde_json::from_slice(&said) {
            Ok(answer) => answer,
            // JSON is asked for; YAML is understood too.
            Err(_) => serde_json::from_value(yaml(&said).map_err(|why| not(why.to_string()))?)
                .map_err(|why| not(why.to_string()))?,
        };
        let status = answer.status.ok_or_else(|| not("it has no status".to_owned()))?;
        if let (Some(certificate), Some(key)) = (status.client_certificate_data, status.client_key_data) {
            let identity = Identity { certificate: certificate.into(), key: Secret(key.into()) };
            return Ok(Credentials { token: None, identity: Some(identity) });
        }
        let expires = status.expiration_timestamp.map(|time| expiry(&time)).transpose()?;
        let token = status.token.map(|token| Token { token: Secret(token), expires });
        Ok(Credentials { token, identity: None })
    }
}

fn yaml(text: &[u8]) -> Result<Value, Located> {
    let document = documents(text, &[]).next().transpose()?;
    document.map_or(Ok(Value::Null), |node| Field::root(&node).json())
}

/// When a token expires.
pub(super) fn expiry(time: &str) -> Result<Timestamp, LoginError> {
    time.parse().map_err(|source| LoginError::Expiry { time: time.to_owned(), source })
}

/// What a program writes to its standard output.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>, LoginError> {
    let ran = command.output();
    let Output { status, stdout, stderr } =
        ran.map_err(|source| LoginError::Start { program: name_of(command), source })?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr).trim().to_owned();
        return Err(LoginError::Failed { program: name_of(command), status, said });
    }
    Ok(stdout)
}

/// The program's name, as people know it.
pub(super) fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
