//! Says when a watch was taken up again, which may be silent for long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use kube::client::Body;
use selvedge_model::Kind;
use tokio::sync::mpsc::UnboundedSender;
use tower::Service;

/// What the connection tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A watch of this kind of objects was taken up.
    Watched(Kind),
    /// Why changed credentials can't be used; nothing if they can.
    Credentials(Option<String>),
}

/// Tells of which kind of objects a watch was taken up.
#[derive(Debug, Clone)]
pub(super) struct Telling<S> {
    inner: S,
    told: UnboundedSender<Told>,
}

impl<S> Telling<S> {
    /// Tells what comes of `inner`.
    pub(super) fn new(inner: S, told: UnboundedSender<Told>) -> Self {
        Self { inner, told }
    }
}

impl<S, B> Service<Request<Body>> for Telling<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = watched(request.uri());
        let (answer, told) = (self.inner.call(request), self.told.clone());
        Box::pin(async move {
            let answer = answer.await?;
            if answer.status().is_success() {
                // Whoever doesn't listen any more is about to end.
                kind.map(|kind| told.send(Told::Watched(kind)).ok());
            }
            Ok(answer)
        })
    }
}

/// The kind of objects that a request goes on watching. A list is heard of once it has come to its end, be it a stream.
fn watched(uri: &Uri) -> Option<Kind> {
    let query = uri.query().unwrap_or_default();
    let has = |parameter: &str| query.split('&').any(|one| one == parameter);
    if !has("watch=true") || has("sendInitialEvents=true") {
        return None;
    }
    match uri.path().rsplit('/').next()? {
        "nodes" => Some(Kind::Node),
        "pods" => Some(Kind::Pod),
        "namespaces" => Some(Kind::Namespace),
        "networkpolicies" => Some(Kind::NetworkPolicy),
        _ => None,
    }
}
