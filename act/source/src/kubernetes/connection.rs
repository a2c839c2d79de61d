//! The connection to the API: one for all requests, where the server speaks HTTP/2.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderMap};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::{Builder, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::middleware::BaseUriLayer;
use kube::client::{Body, ClientBuilder};
use selvedge_model::chain;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::kubernetes::access::{Access, Identity};
use crate::kubernetes::credentials::{self, Credentials, Files};
use crate::kubernetes::heard::{Telling, Told};
use crate::kubernetes::login::Login;
use crate::kubernetes::tls::{self, TlsError};
use crate::kubernetes::{Reach, ReachError};

/// How often the server is asked for a sign of life while watches wait, and how long it may take. A network that
/// swallows everything would be noticed by nobody otherwise.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
const WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may be silent that knows no signs of life; a watch ends after 290 seconds.
const SILENCE: Duration = Duration::from_secs(300);

/// How long a connection may take to be made, and to take what is sent.
const TO_CONNECT: Duration = Duration::from_secs(30);
const TO_WRITE: Duration = Duration::from_secs(295);

/// How soon credentials that can't be used are read again, even if no file of theirs has changed.
const AGAIN: Duration = Duration::from_secs(30);

/// A client, and what its connection tells.
///
/// # Errors
/// If the configuration, or a certificate, a key or a token of it, can't be used, or if it wants a proxy.
pub(super) fn client(reach: &Reach) -> Result<(Client, UnboundedReceiver<Told>), ReachError> {
    let Credentials { access, files } = credentials::read(reach);
    let access = access?;
    let namespace = access.namespace.clone();
    let connection = connect(access)?;
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
            let Credentials { access, files } = credentials::read(&self.reach);
            now.files = files;
            let problem = match access.and_then(connect) {
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

fn connect(access: Access) -> Result<Connection, ReachError> {
    let (login, certificate) = Login::of(&access.user).map_err(ReachError::Login)?;
    let mut connector = TimeoutConnector::new(https(&access, certificate.as_ref()).map_err(ReachError::Tls)?);
    connector.set_connect_timeout(Some(TO_CONNECT));
    connector.set_read_timeout(Some(SILENCE));
    connector.set_write_timeout(Some(TO_WRITE));
    let client = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(SIGN_OF_LIFE)
        .http2_keep_alive_timeout(WITHIN)
        .build::<_, Body>(connector);
    let (headers, login) = (Arc::new(access.headers), login.map(Arc::new));
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let (client, headers, login) = (client.clone(), Arc::clone(&headers), login.clone());
        async move {
            request.headers_mut().extend(HeaderMap::clone(&headers));
            if let Some(login) = login {
                request.headers_mut().insert(AUTHORIZATION, login.header().await?);
            }
            client.request(request).await.map_err(BoxError::from)
        }
    });
    Ok(BoxCloneSyncService::new(BaseUriLayer::new(access.server).layer(service)))
}

fn https(access: &Access, told: Option<&Identity>) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let config = tls::config(&access.trust, told.or(access.identity.as_ref()))?;
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    if let Some(name) = &access.server_name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(tls::server_name(name)?));
    }
    Ok(builder.enable_all_versions().wrap_connector(tcp))
}

#[cfg(test)]
mod tests;
