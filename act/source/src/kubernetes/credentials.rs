//! How the API is reached, and as whom: read from files, and read again when these change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};

use crate::kubernetes::{Reach, ReachError};

/// What a kubelet gives every pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the files say, and which these are: also of what can't be used.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) config: Result<Config, ReachError>,
    pub(super) files: Files,
}

/// Files as they were before they were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// What differs when a file was written, or another was put in its place.
type Stamp = (u64, u64, Option<SystemTime>);

impl Files {
    fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect())
    }

    /// True if one of them is not what it was.
    pub(super) fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, before)| stamp(path) != *before)
    }
}

/// Nothing of a file that can't be looked at.
fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.len(), data.modified().ok()))
}

/// Reads everything.
pub(super) async fn read(reach: &Reach) -> Credentials {
    let (files, config) = match reach {
        Reach::InCluster => {
            let files = ["token", "ca.crt"].map(|name| Path::new(SERVICE_ACCOUNT).join(name));
            (Files::of(files), in_cluster())
        }
        Reach::Kubeconfig(file) => {
            let mut files = Files::of([file.clone()]);
            let config = kubeconfig(file, &mut files).await;
            (files, config)
        }
    };
    let config = config.and_then(with_token);
    Credentials { config, files }
}

fn with_token(mut config: Config) -> Result<Config, ReachError> {
    let user = &mut config.auth_info;
    // The client would read it again each minute, and take the end of its line for a part of it.
    if let Some(file) = user.token_file.take() {
        match fs::read_to_string(&file) {
            // As for kubectl, a token beside it stands in for a file that says nothing.
            Ok(token) if user.token.is_none() || !token.trim().is_empty() => {
                user.token = Some(token.trim().to_owned().into());
            }
            Err(source) if user.token.is_none() => {
                return Err(ReachError::File { what: "token", file: file.into(), source });
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(config)
}

fn in_cluster() -> Result<Config, ReachError> {
    let mut config = Config::incluster().map_err(ReachError::InCluster)?;
    config.root_cert_file = None;
    Ok(config)
}

/// A proxy must be named by the kubeconfig: what the environment says is meant for the way to the world.
async fn kubeconfig(file: &Path, files: &mut Files) -> Result<Config, ReachError> {
    let unusable = |source| match source {
        KubeconfigError::ReadConfig(source, file) => ReachError::File { what: "kubeconfig", file, source },
        KubeconfigError::LoadCertificateAuthority(LoadDataError::ReadFile(source, file)) => {
            ReachError::File { what: "certificate authority", file, source }
        }
        source => ReachError::Kubeconfig { file: file.to_owned(), source },
    };
    let text = Kubeconfig::read_from(file).map_err(unusable)?;
    let clusters: Vec<_> = text.clusters.iter().filter_map(|named| named.cluster.as_ref()).collect();
    let users = text.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let named = users.flat_map(|user| [&user.token_file, &user.client_certificate, &user.client_key]);
    let named = named.chain(clusters.iter().map(|cluster| &cluster.certificate_authority));
    files.0.extend(Files::of(named.flatten().map(PathBuf::from)).0);
    let proxied =
        clusters.iter().any(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()));
    let config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(unusable)?;
    if !proxied {
        config.proxy_url = None;
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
