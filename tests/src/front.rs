//! TLS before the API server, as a real one has it: HTTP/2, one certificate, and a network that can swallow everything.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use selvedge_netns::Namespace;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The name that its certificate is for.
const NAME: &str = "localhost";

/// The front, ended when dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    certificate: String,
    connections: Arc<AtomicUsize>,
    swallows: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// A front at 127.0.0.1 of a namespace, whose loopback is up, for a server there.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(place: &Namespace, server: SocketAddr) -> Self {
        let key = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap_or_else(|e| panic!("{e}"));
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private)
            });
        let mut config = config.unwrap_or_else(|error| panic!("{error}"));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener =
            place.run(|| TcpListener::bind("127.0.0.1:0")).unwrap_or_else(|error| panic!("{error}"));
        let listener = listener.unwrap_or_else(|error| panic!("listen: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let (stop, stopped) = oneshot::channel::<()>();
        let swallows = watch::Sender::new(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, swallowed) = (Arc::clone(&connections), swallows.subscribe());
        let place = place.try_clone().unwrap_or_else(|error| panic!("{error}"));
        let thread = thread::spawn(move || {
            let inside = || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap_or_else(|error| panic!("{error}")).block_on(async {
                    tokio::select! {
                        () = accept(listener, (TlsAcceptor::from(Arc::new(config)), server), &counted, swallowed) => {}
                        _ = stopped => {}
                    }
                });
            };
            place.run(inside).unwrap_or_else(|error| panic!("{error}"));
        });
        let certificate = key.cert.pem();
        Self { address, certificate, connections, swallows, stop: Some(stop), thread: Some(thread) }
    }

    /// Writes a kubeconfig that leads here, by a host name.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn kubeconfig(&self, file: &Path) {
        let authority = file.with_extension("crt");
        fs::write(&authority, &self.certificate)
            .unwrap_or_else(|error| panic!("write {authority:?}: {error}"));
        let server = format!("https://{NAME}:{}", self.address.port());
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "front",
            "clusters": [{"name": "front", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "front", "user": {"token": "t0ken"}}],
            "contexts": [{"name": "front", "context": {"cluster": "front", "user": "front"}}],
        });
        fs::write(file, text.to_string()).unwrap_or_else(|error| panic!("write {file:?}: {error}"));
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// From now on everything is swallowed that is sent by the connections that there are, or no more.
    pub fn swallow(&self, everything: bool) {
        self.swallows.send_replace(everything);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn accept(
    listener: TcpListener,
    (acceptor, server): (TlsAcceptor, SocketAddr),
    connections: &AtomicUsize,
    swallows: watch::Receiver<bool>,
) {
    listener.set_nonblocking(true).unwrap_or_else(|error| panic!("{error}"));
    let listener = tokio::net::TcpListener::from_std(listener).unwrap_or_else(|error| panic!("{error}"));
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let (acceptor, swallows) = (acceptor.clone(), swallows.clone());
        tokio::spawn(async move {
            let (Ok(client), Ok(server)) = tokio::join!(acceptor.accept(client), TcpStream::connect(server))
            else {
                return;
            };
            let (of_client, to_client) = split(client);
            let (of_server, to_server) = split(server);
            tokio::join!(
                carry(of_client, to_server, swallows.clone()),
                carry(of_server, to_client, swallows)
            );
        });
    }
}

/// Carries what comes until either end has had enough; what is not to be carried waits for ever.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut swallows: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if swallows.wait_for(|everything| !everything).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
            || to.flush().await.is_err()
        {
            break;
        }
    }
    to.shutdown().await.ok();
}
