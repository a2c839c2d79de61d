//! Why a measurement could not be made.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// A failure that ends the benchmark: a figure from half a run is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("{what}")]
    System { what: String, source: io::Error },
    #[error("{verb} {path:?}")]
    File { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("a namespace for the benchmark")]
    Namespace(#[from] selvedge_netns::NetnsError),
    #[error("{program:?} {verb} ended with {status}: {output}")]
    Call { program: PathBuf, verb: &'static str, status: ExitStatus, output: String },
    #[error("`{command}` in a node ended with {status}")]
    Setup { command: String, status: ExitStatus },
    #[error("fill the lease journal")]
    Leases { source: Box<dyn Error + Send + Sync> },
    #[error("selvedge-agent: {what}; its log: {log}")]
    Agent { what: String, log: String },
}

impl BenchError {
    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: source.into() }
    }

    pub(crate) fn file(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { verb, path: path.to_owned(), source }
    }
}
