//! Kubeconfig files, of which the current context is read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use data_encoding::BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::kubernetes::ReachError;
use crate::kubernetes::access::{Access, Identity, Secret, Trust};
use crate::kubernetes::login::{Program, User};
use crate::kubernetes::provider::Provider;
use crate::kubernetes::tls;
use crate::yaml::{Fault, Field, Located, Node, Position, documents};

/// Where a cluster says what is meant for a program that knows its users.
const FOR_PROGRAMS: &str = "client.authentication.k8s.io/exec";

/// Reads a kubeconfig and the files that its current context names, which are told before.
pub(super) fn read(file: &Path, named: impl FnOnce(Vec<PathBuf>)) -> Result<Access, ReachError> {
    let config = Kubeconfig { file };
    let said = config.current()?;
    named(said.files());
    said.read(&config)
}

/// A file that says how the API is reached.
struct Kubeconfig<'a> {
    file: &'a Path,
}

/// Something that stands in the file, or in a file of its own.
enum Given {
    Data(Vec<u8>),
    File(PathBuf),
}

type Read<T> = Result<T, Located>;

impl<'a> Kubeconfig<'a> {
    fn current(&self) -> Result<Said, ReachError> {
        let text = fs::read(self.file).and_then(utf8);
        let text = text.map_err(|source| self.unreadable("kubeconfig", self.file, source))?;
        let documents = documents(&text, &[]).collect::<Result<Vec<_>, _>>();
        documents.and_then(|documents| self.context(&documents)).map_err(|why| self.unusable(why))
    }

    fn unusable(&self, source: Located) -> ReachError {
        ReachError::Kubeconfig { file: self.file.to_owned(), source: Box::new(source) }
    }

    fn unreadable(&self, what: &'static str, file: &Path, source: io::Error) -> ReachError {
        ReachError::File { what, file: file.to_owned(), source }
    }

    /// What the current context says. Of several documents the first that says something has the last word.
    fn context(&self, documents: &[Rc<Node>]) -> Read<Said> {
        let roots: Vec<Field<'_>> =
            documents.iter().map(|node| Field::root(node)).filter(|root| !root.is_null()).collect();
        let named = |list: &str, inner: &str, name: &str| named(&roots, (list, inner), name);
        let current = roots.iter().find_map(|root| root.get("current-context").transpose()).transpose()?;
        let current = current.ok_or_else(|| nothing("current-context"))?;
        let name = current.scalar()?;
        let Some(context) = named("contexts", "context", name)? else {
            return Err(current.refuse(name, "is no context of this file"));
        };
        let cluster = context.require("cluster")?;
        let Some(at) = named("clusters", "cluster", cluster.scalar()?)? else {
            return Err(cluster.refuse(cluster.scalar()?, "is no cluster of this file"));
        };
        let namespace = text(&context, "namespace")?.unwrap_or("default").to_owned();
        // A user who isn't there is nobody, as for kubectl.
        let user = text(&context, "user")?.map(|name| named("users", "user", name)).transpose()?.flatten();
        self.said(&at, namespace, user.as_ref())
    }

    fn said(&self, cluster: &Field<'_>, namespace: String, user: Option<&Field<'_>>) -> Read<Said> {
        let server = cluster.require("server")?;
        if let Some(proxy) = of(Some(cluster), "proxy-url")? {
            return Err(proxy.refuse(proxy.scalar()?, "is a proxy, by which the API can't be reached"));
        }
        let exec = of(user, "exec")?;
        let (certificate, key) = (self.given(user, "client-certificate")?, self.given(user, "client-key")?);
        if let Some(user) = user.filter(|_| certificate.is_some() != key.is_some()) {
            user.require(if key.is_some() { "client-certificate" } else { "client-key" })?;
        }
        Ok(Said {
            server: server.scalar()?.parse().map_err(|why| server.fault(Fault::Refused(format!("{why}"))))?,
            namespace,
            anybody: cluster.get("insecure-skip-tls-verify")?.map(|is| is.boolean()).transpose()?
                == Some(true),
            authority: self.given(Some(cluster), "certificate-authority")?,
            server_name: text(cluster, "tls-server-name")?.map(str::to_owned),
            certificate,
            key,
            token_file: of(user, "tokenFile")?.map(|file| self.path(&file)).transpose()?,
            user: user.map_or(Ok(User::Anonymous), user_of)?,
            program: exec.map(|exec| self.program(&exec)).transpose()?,
            headers: user.map_or_else(|| Ok(HeaderMap::new()), headers)?,
            extension: extension(cluster)?,
        })
    }

    /// What stands under `key-data`, or in the file that stands under `key`.
    fn given(&self, at: Option<&Field<'_>>, key: &str) -> Read<Option<Given>> {
        if let Some(data) = of(at, &format!("{key}-data"))? {
            let text: String = data.scalar()?.split_whitespace().collect();
            let no_base64 = |why| data.fault(Fault::Refused(format!("no base64: {why}")));
            return Ok(Some(Given::Data(BASE64.decode(text.as_bytes()).map_err(no_base64)?)));
        }
        Ok(of(at, key)?.map(|file| self.path(&file)).transpose()?.map(Given::File))
    }

    /// A path, which is relative to the file's folder.
    fn path(&self, field: &Field<'_>) -> Read<PathBuf> {
        Ok(self.file.parent().unwrap_or_else(|| Path::new("")).join(field.scalar()?))
    }

    fn program(&self, exec: &Field<'_>) -> Read<(Program, bool)> {
        let command = exec.require("command")?;
        // What has no slash is looked for where programs are.
        let path = if command.scalar()?.contains('/') {
            self.path(&command)?.into()
        } else {
            command.scalar()?.into()
        };
        let args = list(exec, "args")?.iter().map(|arg| Ok(arg.scalar()?.to_owned())).collect::<Read<_>>()?;
        let mut env = Vec::new();
        for entry in list(exec, "env")? {
            if let (Some(name), Some(value)) = (text(&entry, "name")?, text(&entry, "value")?) {
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        let program = Program {
            api_version: text(exec, "apiVersion")?.map(str::to_owned),
            command: path,
            args,
            env,
            interactive: text(exec, "interactiveMode")? != Some("Never"),
            cluster: None,
        };
        let asks = exec.get("provideClusterInfo")?.map(|is| is.boolean()).transpose()?;
        Ok((program, asks == Some(true)))
    }

    fn load(&self, what: &'static str, given: Option<Given>) -> Result<Option<Vec<u8>>, ReachError> {
        match given {
            Some(Given::Data(data)) => Ok(Some(data)),
            Some(Given::File(file)) => {
                fs::read(&file).map(Some).map_err(|source| self.unreadable(what, &file, source))
            }
            None => Ok(None),
        }
    }
}

/// What a context says.
struct Said {
    server: http::Uri,
    namespace: String,
    anybody: bool,
    authority: Option<Given>,
    server_name: Option<String>,
    certificate: Option<Given>,
    key: Option<Given>,
    token_file: Option<PathBuf>,
    user: User,
    /// A program, and whether it wants to know the cluster.
    program: Option<(Program, bool)>,
    headers: HeaderMap,
    /// What the cluster tells such a program.
    extension: Option<Value>,
}

impl Said {
    /// The files that it names, whether they are there or not.
    fn files(&self) -> Vec<PathBuf> {
        let given = [&self.authority, &self.certificate, &self.key].map(Option::as_ref);
        let files = given.into_iter().flatten().filter_map(|given| match given {
            Given::Data(_) => None,
            Given::File(file) => Some(file),
        });
        files.chain(&self.token_file).cloned().collect()
    }

    fn read(self, config: &Kubeconfig<'_>) -> Result<Access, ReachError> {
        let authority = config.load("certificate authority", self.authority)?;
        let (certificate, key) =
            (config.load("client certificate", self.certificate)?, config.load("client key", self.key)?);
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key: Secret(key) }),
            _ => None,
        };
        let user = with_token_of(self.token_file.as_deref(), self.user)?;
        let user = match (user, self.program) {
            (User::Anonymous, Some((mut program, asks))) => {
                program.cluster = asks.then(|| {
                    let (authority, name) =
                        (authority.as_ref().map(|pem| BASE64.encode(pem)), &self.server_name);
                    let told = [
                        ("server", Some(json!(self.server.to_string()))),
                        ("insecure-skip-tls-verify", self.anybody.then(|| json!(true))),
                        ("certificate-authority-data", authority.map(|data| json!(data))),
                        ("tls-server-name", name.as_ref().map(|name| json!(name))),
                        ("config", self.extension),
                    ];
                    told.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
                });
                User::Program(Box::new(program))
            }
            (user, _) => user,
        };
        let trust = match authority {
            _ if self.anybody => Trust::Anybody,
            Some(pem) => {
                Trust::Authorities(tls::certificates("certificate authority", &pem).map_err(ReachError::Tls)?)
            }
            None => Trust::System,
        };
        let Self { server, namespace, server_name, headers, .. } = self;
        Ok(Access { server, namespace, trust, server_name, identity, user, headers })
    }
}

/// A user with the token that stands in a file, if one does.
pub(super) fn with_token_of(file: Option<&Path>, user: User) -> Result<User, ReachError> {
    let Some(file) = file.filter(|_| matches!(user, User::Anonymous | User::Token(_))) else {
        return Ok(user);
    };
    match (fs::read_to_string(file), user) {
        // As for kubectl, a token beside it stands in for a file that says nothing.
        (Ok(token), user) if user == User::Anonymous || !token.trim().is_empty() => {
            Ok(User::Token(Secret(token.trim().to_owned())))
        }
        (Err(source), User::Anonymous) => {
            Err(ReachError::File { what: "token", file: file.to_owned(), source })
        }
        (Ok(_) | Err(_), user) => Ok(user),
    }
}

fn user_of(user: &Field<'_>) -> Read<User> {
    if let Some(provider) = user.get("auth-provider")? {
        let mut config = BTreeMap::new();
        if let Some(said) = provider.get("config")? {
            for (key, value) in said.entries()?.filter(|(_, value)| !value.is_null()) {
                config.insert(key.to_owned(), value.scalar()?.to_owned());
            }
        }
        let name = provider.require("name")?.scalar()?.to_owned();
        return Ok(User::Provider(Box::new(Provider { name, config: Secret(config) })));
    }
    if let (Some(name), Some(password)) = (text(user, "username")?, text(user, "password")?) {
        return Ok(User::Basic { name: name.to_owned(), password: Secret(password.to_owned()) });
    }
    let token = text(user, "token")?;
    Ok(token.map_or(User::Anonymous, |token| User::Token(Secret(token.to_owned()))))
}

/// What a request says of whom it is made for.
fn headers(user: &Field<'_>) -> Read<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, field: &Field<'_>| {
        let no_header = |why: String| field.fault(Fault::Refused(format!("no header: {why}")));
        let value = HeaderValue::from_str(field.scalar()?).map_err(|why| no_header(why.to_string()))?;
        let name = HeaderName::try_from(name).map_err(|why| no_header(why.to_string()))?;
        headers.append(name, value);
        Ok(())
    };
    for (key, name) in [("as", "impersonate-user"), ("as-uid", "impersonate-uid")] {
        of(Some(user), key)?.map_or(Ok(()), |value| add(name, &value))?;
    }
    list(user, "as-groups")?.iter().try_for_each(|group| add("impersonate-group", group))?;
    if let Some(extra) = user.get("as-user-extra")? {
        for (key, _) in extra.entries()? {
            let name = format!("impersonate-extra-{}", escaped(key));
            list(&extra, key)?.iter().try_for_each(|value| add(&name, value))?;
        }
    }
    Ok(headers)
}

/// A key as a header's name can bear it.
fn escaped(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    key.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// What the cluster tells programs that know its users.
fn extension(cluster: &Field<'_>) -> Read<Option<Value>> {
    for entry in list(cluster, "extensions")? {
        if text(&entry, "name")? == Some(FOR_PROGRAMS) {
            return entry.get("extension")?.map(|extension| extension.json()).transpose();
        }
    }
    Ok(None)
}

/// The entry of that name in a list of such, in the first document that has it.
fn named<'a>(roots: &[Field<'a>], (list, inner): (&str, &str), name: &str) -> Read<Option<Field<'a>>> {
    for root in roots {
        for entry in self::list(root, list)? {
            if text(&entry, "name")? == Some(name) {
                return entry.get(inner);
            }
        }
    }
    Ok(None)
}

/// A field, if there is what it should be in; one that says nothing is none, as for kubectl.
fn of<'a>(at: Option<&Field<'a>>, key: &str) -> Read<Option<Field<'a>>> {
    let field = at.map_or(Ok(None), |at| at.get(key))?;
    Ok(field.filter(|field| field.scalar() != Ok("")))
}

fn list<'a>(at: &Field<'a>, key: &str) -> Read<Vec<Field<'a>>> {
    at.get(key)?.map_or_else(|| Ok(Vec::new()), |list| Ok(list.items()?.collect()))
}

fn text<'a>(at: &Field<'a>, key: &str) -> Read<Option<&'a str>> {
    of(Some(at), key)?.map(|field| field.scalar()).transpose()
}

fn nothing(path: &str) -> Located {
    Located { at: Position { line: 1, column: 1 }, path: path.to_owned(), fault: Fault::Missing }
}

/// The text as UTF-8, if it begins with the mark of another encoding.
fn utf8(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let wide = |pairs: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = pairs.chunks(2).map(|pair| unit([pair[0], pair.get(1).copied().unwrap_or_default()]));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.map(String::into_bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
    };
    match &bytes[..] {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(rest.to_vec()),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
