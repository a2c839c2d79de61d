//! Health and metrics over HTTP, on one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use super::health::{Health, Stuck};
use super::{Figures, ServeError, Shared, metrics, reason};

mod bounded;

use bounded::Bounded;

/// The name of the server's thread.
const THREAD: &str = "http";

/// How often the count of passes is looked at although nobody asks.
const LOOK: Duration = Duration::from_secs(5);

/// The server at work. Dropped, it ends and closes all connections.
#[derive(Debug)]
pub(super) struct Http {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is served.
struct Pages {
    status: Shared,
    health: Health,
    metrics: Registry,
}

impl Http {
    /// Listens on an address and starts to serve.
    pub(super) fn start(
        address: SocketAddr,
        (status, figures): (Shared, Figures),
        health: Health,
    ) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { address, source };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let metrics = metrics::registry(status.clone(), figures);
        let pages = Arc::new(Pages { status, health, metrics });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(THREAD.to_owned());
        let thread = thread.spawn(move || serve(&runtime, listener, pages, stopped));
        let thread = thread.map_err(|source| ServeError::Thread { name: THREAD, source })?;
        tracing::info!(%address, "serving health and metrics over HTTP");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address listened on.
    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(address = %self.address, "the HTTP server's thread panicked");
        }
    }
}

/// Serves until the other end of `stopped` is dropped.
fn serve(runtime: &Runtime, listener: TcpListener, pages: Arc<Pages>, stopped: oneshot::Receiver<()>) {
    runtime.spawn(look_regularly(Arc::clone(&pages)));
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages);
    runtime.spawn(axum::serve(Bounded::new(listener), router).into_future());
    let _dropped = runtime.block_on(stopped);
}

async fn look_regularly(pages: Arc<Pages>) {
    loop {
        let _judged_when_asked = pages.check();
        tokio::time::sleep(LOOK).await;
    }
}

impl Pages {
    fn check(&self) -> Result<(), Stuck> {
        self.health.check(self.status.read(|status| status.passes), Instant::now())
    }
}

async fn healthz(State(pages): State<Arc<Pages>>) -> Response {
    match pages.check() {
        Ok(()) => line(StatusCode::OK, "ok"),
        Err(stuck) => line(StatusCode::SERVICE_UNAVAILABLE, &stuck.to_string()),
    }
}

async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    let (serves, reason, age) =
        pages.status.read(|status| (status.state.serves(), reason(&status.state), status.source_age()));
    let code = if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = reason.unwrap_or_else(|| "ok".to_owned());
    if !age.is_zero() {
        // Pods are served by what is known: no reason to take the node out of service.
        text += &format!("; the cluster's state is {} s old", age.as_secs());
    }
    line(code, &text)
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let mut page = String::new();
    match text::encode(&mut page, &pages.metrics) {
        Ok(()) => ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], page).into_response(),
        Err(error) => line(StatusCode::INTERNAL_SERVER_ERROR, &format!("encode the metrics: {error}")),
    }
}

fn line(code: StatusCode, text: &str) -> Response {
    (code, format!("{text}\n")).into_response()
}
