//! The file of a node's own key.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rustix::rand::{GetRandomFlags, getrandom};
use selvedge_model::PublicKey;
use x25519_dalek::StaticSecret;

/// Where a node's key is, in the agent's run directory. Whoever removes the file or puts another key there changes the
/// node's key.
pub fn key_file(run_dir: &Path) -> PathBuf {
    run_dir.join("wireguard.key")
}

/// The secret half of a node's key (Curve25519).
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What is in the file is no key.
    #[error(
        "{} holds no key: it must hold the base64 of 32 bytes, as `wg genkey` prints it; remove it for a new one",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl SecretKey {
    /// The key in a file; `None` if there is no file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let text = match read(path) {
            Ok(text) => text,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeyError::File { what: "read", path: path.to_owned(), source }),
        };
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        let bytes = BASE64.decode(text.trim_end().as_bytes()).map_err(|_secret| malformed())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_secret| malformed())?;
        Ok(Some(Self(StaticSecret::from(bytes))))
    }

    /// A new key in a file, which appears whole and with mode 0600. What was in that file is gone then.
    ///
    /// # Errors
    /// [`KeyError::File`]; the file is as it was then.
    pub fn generate(path: &Path) -> Result<Self, KeyError> {
        let written = || -> io::Result<Self> {
            let mut bytes = [0; 32];
            let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
            if got != bytes.len() {
                return Err(io::Error::other("the kernel has no randomness yet"));
            }
            let key = Self(StaticSecret::from(bytes));
            let beside = path.with_extension("key.new");
            // One that a killed agent left may have other rights.
            match fs::remove_file(&beside) {
                Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
            writeln!(file, "{}", BASE64.encode(&bytes))?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            Ok(key)
        };
        written().map_err(|source| KeyError::File { what: "write", path: path.to_owned(), source })
    }

    /// The half that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// The secret itself, for the device that encrypts with it.
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// What is in a file. What is none, a pipe for instance, may keep a reader waiting for ever.
fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{Mode, mkfifoat};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_nobody_else_reads_it() {
        let dir = std::env::temp_dir().join(format!("selvedge-key-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = key_file(&dir);
        assert!(SecretKey::read(&path).unwrap().is_none());
        let made = SecretKey::generate(&path).unwrap();
        let read = SecretKey::read(&path).unwrap().unwrap();
        assert_eq!((made.bytes(), made.public()), (read.bytes(), read.public()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(SecretKey::generate(&path).unwrap().public(), made.public());
        fs::write(&path, "nonsense\n").unwrap();
        let why = SecretKey::read(&path).unwrap_err().to_string();
        assert!(why.contains("holds no key") && !why.contains("nonsense"), "{why}");
        fs::remove_file(&path).unwrap();
        mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(SecretKey::read(&path).unwrap_err().to_string().starts_with("read "));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_public_half_is_the_one_of_rfc_7748() {
        // Section 5.2: the base point multiplied by 9.
        let mut nine = [0; 32];
        nine[0] = 9;
        let public = SecretKey(StaticSecret::from(nine)).public();
        let expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
        assert_eq!(data_encoding::HEXLOWER.encode(&public.0), expected);
    }
}
