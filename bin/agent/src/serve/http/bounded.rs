//! A listener whose clients can't exhaust the agent: so many connections at once, each for so long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// How many connections are open at a time; the others wait until they are accepted.
const CONNECTIONS: usize = 64;

/// How long a client has for its first request. One that sends none must not keep the kubelet's checks waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a connection may stay open. Clients that keep one open for the next request make another.
const LIFETIME: Duration = Duration::from_secs(10);

/// The listener.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    times: Times,
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// For its first request.
    request: Duration,
    /// In all.
    whole: Duration,
}

/// A connection that holds one of the places and fails once its time is over.
pub(super) struct Guest {
    stream: TcpStream,
    /// The end of the time for the request, or since one is being answered, of the whole time.
    end: Pin<Box<Sleep>>,
    /// The end of the whole time, as long as nothing has been answered.
    unanswered: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    /// Bounds a listener.
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            times: Times { request: PATIENCE, whole: LIFETIME },
        }
    }
}

impl Listener for Bounded {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes the semaphore");
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let end = Box::pin(sleep(self.times.request));
        let unanswered = Some(Instant::now() + self.times.whole);
        (Guest { stream, end, unanswered, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Guest {
    /// Fails if the time is over, else goes on, to be woken when it is.
    fn in_time(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.in_time(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(end) = self.unanswered.take() {
            self.end.as_mut().reset(end);
        }
        ready!(self.in_time(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime;

    use super::*;

    fn on_a_listener<F: Future>(
        places: usize,
        (request, whole): (u64, u64),
        test: impl FnOnce(Bounded, SocketAddr) -> F,
    ) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let times =
                Times { request: Duration::from_millis(request), whole: Duration::from_millis(whole) };
            test(Bounded { listener, places: Arc::new(Semaphore::new(places)), times }, address).await;
        });
    }

    #[test]
    fn a_connection_ends_with_its_time_although_the_client_trickles() {
        on_a_listener(1, (200, 60_000), async |mut listener, address| {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut guest, _) = listener.accept().await;
            let start = Instant::now();
            let error = loop {
                client.write_all(b"x").await.unwrap();
                match guest.read(&mut [0]).await {
                    Ok(count) => assert_eq!(count, 1),
                    Err(error) => break error,
                }
                sleep(Duration::from_millis(20)).await;
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(start.elapsed() < Duration::from_secs(20));
        });
    }

    #[test]
    fn a_silent_connection_is_woken_when_its_time_is_over() {
        on_a_listener(1, (50, 60_000), async |mut listener, address| {
            let _client = TcpStream::connect(address).await.unwrap();
            let (mut guest, _) = listener.accept().await;
            assert_eq!(guest.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_client_that_is_being_answered_has_its_whole_time() {
        on_a_listener(1, (50, 300), async |mut listener, address| {
            let _client = TcpStream::connect(address).await.unwrap();
            let (mut guest, _) = listener.accept().await;
            let start = Instant::now();
            guest.write_all(b"x").await.unwrap();
            assert_eq!(guest.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
        });
    }

    #[test]
    fn a_connection_without_a_place_waits_for_one() {
        on_a_listener(1, (60_000, 60_000), async |mut listener, address| {
            let _clients =
                (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
            let (guest, _) = listener.accept().await;
            let brief = Duration::from_millis(50);
            assert!(tokio::time::timeout(brief, listener.accept()).await.is_err());
            drop(guest);
            assert!(tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.is_ok());
        });
    }
}
