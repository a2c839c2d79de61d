//! `auth-provider`, the older way to come by a token: what is left of it in kubeconfigs.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::kubernetes::access::Secret;
use crate::kubernetes::login::{LoginError, Token, expiry, name_of, output};

/// As early as a token that a program tells.
const EARLY: Duration = Duration::from_secs(60);

/// A provider of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) config: Secret<BTreeMap<String, String>>,
}

impl Provider {
    /// A token.
    pub(super) fn ask(&self) -> Result<Token, LoginError> {
        let own = self.get("id-token").map(|token| Token { token: Secret(token.to_owned()), expires: None });
        match &*self.name {
            "oidc" => own.ok_or_else(|| LoginError::Provider("auth-provider oidc has no id-token".into())),
            "gcp" => own.map_or_else(|| self.ask_gcp(), Ok),
            "azure" => {
                Err(LoginError::Provider("auth-provider azure is not supported; use kubelogin".into()))
            }
            other => Err(LoginError::Provider(format!("auth-provider {other} is not supported"))),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.config.0.get(key).map(|value| &**value)
    }

    fn ask_gcp(&self) -> Result<Token, LoginError> {
        if let (Some(token), Some(time)) = (self.get("access-token"), self.get("expiry")) {
            let expires = expiry(time)?;
            if Timestamp::now() + EARLY < expires {
                return Ok(Token { token: Secret(token.to_owned()), expires: Some(expires) });
            }
        }
        let Some(program) = self.get("cmd-path") else {
            return Err(LoginError::Provider("auth-provider gcp has no token and no cmd-path".into()));
        };
        let mut command = Command::new(program);
        for name in self.get("cmd-drop-env").unwrap_or_default().split_whitespace() {
            command.env_remove(name);
        }
        command.args(self.get("cmd-args").unwrap_or_default().split_whitespace());
        let said = output(&mut command)?;
        let not = |why: String| LoginError::Answer { program: name_of(&command), why };
        let Some(path) = self.get("token-key") else {
            let token = String::from_utf8(said).map_err(|why| not(why.to_string()))?;
            return Ok(Token { token: Secret(token.trim().to_owned()), expires: None });
        };
        let said: Value = serde_json::from_slice(&said).map_err(|why| not(why.to_string()))?;
        let text = |path: &str| {
            let found = at(&said, path).and_then(Value::as_str);
            found.map(str::to_owned).ok_or_else(|| not(format!("it has no text at {path}")))
        };
        let token = Secret(text(path)?);
        let expires = self.get("expiry-key").map(|path| expiry(&text(path)?)).transpose()?;
        Ok(Token { token, expires })
    }
}

/// The value that a path leads to: names and numbers, as in `{.credential.access_token}`.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.trim_matches(|c| matches!(c, '"' | '{' | '}' | '$'));
    let steps = path.split(['.', '[', ']']).map(|step| step.trim_matches(['\'', '"']));
    steps.filter(|step| !step.is_empty()).try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

#[cfg(test)]
mod tests;
