//! The connection to the API: one for all requests, where the server speaks HTTP/2.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::{Builder, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config, Error};
use selvedge_model::chain;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use crate::kubernetes::credentials::{self, Credentials, Files};
use crate::kubernetes::heard::{Telling, Told};
use crate::kubernetes::{Reach, ReachError};

/// How often the server is asked for a sign of life while watches wait, and how long it may take. A network that
/// swallows everything would be noticed by nobody otherwise.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
const WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may be silent that knows no signs of life; a watch ends after 290 seconds.
const SILENCE: Duration = Duration::from_secs(300);

/// How soon credentials that can't be used are read again, even if no file of theirs has changed.
const AGAIN: Duration = Duration::from_secs(30);

/// A client, and what its connection tells.
///
/// # Errors
/// If the configuration, or a certificate, a key or a token of it, can't be used, or if it wants a proxy.
pub(super) async fn client(reach: &Reach) -> Result<(Client, UnboundedReceiver<Told>), ReachError> {
    let Credentials { config, files } = credentials::read(reach).await;
    let config = config?;
    let namespace = config.default_namespace.clone();
    let connection = connect(config).map_err(ReachError::Client)?;
    let (told, heard) = unbounded_channel();
    let now = Arc::new(Mutex::new(Now { files, connection, again: None }));
    let renewed = Renewed { reach: reach.clone(), now, told: told.clone() };
    Ok((ClientBuilder::new(Telling::new(renewed, told), namespace).build(), heard))
}

type Answered = Response<Incoming>;
type Connection = BoxCloneSyncService<Request<Body>, Answered, BoxError>;

/// A connection that is made anew for the next request when a file has changed that it was made by. What can't be used,
/// such as half a file, is told and leaves the one that there is.
#[derive(Debug, Clone)]
struct Renewed {
    reach: Reach,
    now: Arc<Mutex<Now>>,
    told: UnboundedSender<Told>,
}

#[derive(Debug)]
struct Now {
    /// As they were last read.
    files: Files,
    /// By the last that could be used.
    connection: Connection,
    /// When to read the files again, which can't be used.
    again: Option<Instant>,
}

impl Renewed {
    async fn connection(&self) -> Connection {
        let mut now = self.now.lock().await;
        if now.files.have_changed() || now.again.is_some_and(|again| again <= Instant::now()) {
            let Credentials { config, files } = credentials::read(&self.reach).await;
            now.files = files;
            let problem = match config.and_then(|config| connect(config).map_err(ReachError::Client)) {
                Ok(connection) => {
                    now.connection = connection;
                    None
                }
                Err(why) => Some(chain(&why)),
            };
            now.again = problem.is_some().then(|| Instant::now() + AGAIN);
            // Whoever doesn't listen any more is about to end.
            self.told.send(Told::Credentials(problem)).ok();
        }
        now.connection.clone()
    }
}

impl Service<Request<Body>> for Renewed {
    type Response = Answered;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answered, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let renewed = self.clone();
        Box::pin(async move { renewed.connection().await.oneshot(request).await })
    }
}

fn connect(config: Config) -> Result<Connection, Error> {
    if let Some(proxy_url) = config.proxy_url {
        return Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy_url) });
    }
    let mut connector = TimeoutConnector::new(https(&config)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout.or(Some(SILENCE)));
    connector.set_write_timeout(config.write_timeout);
    let client = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(SIGN_OF_LIFE)
        .http2_keep_alive_timeout(WITHIN)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(BoxCloneSyncService::new(service))
}

fn https(config: &Config) -> Result<HttpsConnector<HttpConnector>, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let mut builder =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = config.tls_server_name.clone() {
        let name = name.try_into().map_err(|why| Error::Service(Box::new(why)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_all_versions().wrap_connector(tcp))
}

#[cfg(test)]
mod tests;
