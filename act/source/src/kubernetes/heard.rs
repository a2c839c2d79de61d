//! A client that says when the API has answered: a watch that was taken up again may be silent for long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use selvedge_model::Kind;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::Service;
use tower::layer::layer_fn;

/// A client, and from which kind of objects a request was answered well.
///
/// # Errors
/// If a certificate or a key of the configuration can't be used.
pub(super) fn client(config: kube::Config) -> Result<(Client, UnboundedReceiver<Kind>), kube::Error> {
    let (told, heard) = unbounded_channel();
    let layer = layer_fn(|inner| Telling { inner, told: told.clone() });
    Ok((ClientBuilder::try_from(config)?.with_layer(&layer).build(), heard))
}

struct Telling<S> {
    inner: S,
    told: UnboundedSender<Kind>,
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
        let kind = kind(request.uri().path());
        let (answer, told) = (self.inner.call(request), self.told.clone());
        Box::pin(async move {
            let answer = answer.await?;
            if answer.status().is_success() {
                // Whoever doesn't listen any more is about to end.
                kind.map(|kind| told.send(kind).ok());
            }
            Ok(answer)
        })
    }
}

fn kind(path: &str) -> Option<Kind> {
    match path.rsplit('/').next()? {
        "nodes" => Some(Kind::Node),
        "pods" => Some(Kind::Pod),
        _ => None,
    }
}
