use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;

/// The longest request.
const LONGEST: usize = 1 << 20;

/// Servers in a run directory of their own.
struct Stage {
    root: PathBuf,
    status: Arc<Mutex<Status>>,
    reaped: Arc<AtomicUsize>,
}

impl Stage {
    fn new() -> Self {
        static STAGES: AtomicUsize = AtomicUsize::new(0);
        let name = format!("selvedge-serve-{}-{}", process::id(), STAGES.fetch_add(1, Ordering::Relaxed));
        let root = env::temp_dir().join(name);
        fs::create_dir(&root).unwrap();
        let status = Arc::new(Mutex::new(Status::starting("node-a", "1.2.3")));
        Self { root, status, reaped: Arc::default() }
    }

    fn options(&self) -> Options {
        let reaped = Arc::clone(&self.reaped);
        Options {
            run_dir: self.run_dir(),
            listen: None,
            status: Arc::clone(&self.status),
            patience: Duration::from_secs(60),
            figures: Box::new(Policies::default),
            on_reap: Box::new(move || {
                reaped.fetch_add(1, Ordering::SeqCst);
            }),
            on_explain: Box::new(|_| Err(String::new())),
            on_try: Box::new(|_| Err(String::new())),
            on_matrix: Box::new(|_| Err(String::new())),
            on_admit: Box::new(|_, _, _| None),
            on_reconcile: Box::new(|| {}),
        }
    }

    fn start(&self) -> Serving {
        start(self.options()).unwrap()
    }

    fn start_http(&self, patience: Duration) -> Serving {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        start(Options { listen, patience, ..self.options() }).unwrap()
    }

    fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    fn socket(&self) -> PathBuf {
        self.run_dir().join("agent.sock")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    fn ask(&self, request: &str) -> Value {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        answer(stream)
    }

    fn be(&self, state: State) {
        self.status.lock().unwrap().state = state;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

fn answer(mut stream: UnixStream) -> Value {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_status_is_told_as_it_is_at_the_moment() {
    let stage = Stage::new();
    let _serving = stage.start();
    stage.status.lock().unwrap().passes = 7;
    let told: Status = serde_json::from_value(stage.ask("{\"get\":\"status\"}\n")).unwrap();
    assert_eq!(told, *stage.status.lock().unwrap());
}

#[test]
fn a_status_of_a_thousand_nodes_arrives_whole() {
    let stage = Stage::new();
    let _serving = stage.start();
    stage.status.lock().unwrap().wanted.routes =
        vec!["fd00:10:244:3e8::/64 via fd00:30::3e8".repeat(4); 5000];
    let told: Status = serde_json::from_value(stage.ask("{\"get\":\"status\"}\n")).unwrap();
    assert_eq!(told.wanted.routes.len(), 5000);
}

#[test]
fn a_request_may_come_in_parts_and_end_with_the_stream() {
    let stage = Stage::new();
    let _serving = stage.start();
    let mut stream = stage.connect();
    for part in ["{\"get\"", ":\"re", "ady\"}"] {
        stream.write_all(part.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(stream)["ready"], json!(false));
}

#[test]
fn who_asks_for_reaping_needs_not_wait_for_the_answer() {
    let stage = Stage::new();
    let _serving = stage.start();
    for _ in 0..100 {
        stage.connect().write_all(b"{\"do\":\"reap\"}\n").unwrap();
    }
    until("every request is passed on", || stage.reaped.load(Ordering::SeqCst) == 100);
    assert_eq!(stage.ask("{\"do\":\"reap\"}\n"), json!({ "ok": true }));
}

#[test]
fn a_request_that_is_too_long_is_refused() {
    let stage = Stage::new();
    let _serving = stage.start();
    let most = format!("{{\"get\":\"ready\"{}}}\n", " ".repeat(LONGEST - 16));
    assert_eq!(most.len(), LONGEST);
    assert_eq!(stage.ask(&most)["ready"], json!(false));
    let answer = stage.ask(&"x".repeat(LONGEST + 1));
    assert!(answer["error"].as_str().unwrap().starts_with("a request has up to 1048576 bytes"), "{answer}");
}

#[test]
fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let stage = Stage::new();
    let _serving = stage.start();
    let mut slow: Vec<_> = (0..40).map(|_| stage.connect()).collect();
    let start = Instant::now();
    stage.ask("{\"get\":\"ready\"}\n");
    assert!(start.elapsed() < Duration::from_millis(500), "took {:?}", start.elapsed());
    let trickling = slow.pop().unwrap();
    let trickle = |mut to: &UnixStream| {
        while to.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    };
    trickle(&trickling);
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    for mut stream in slow {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn more_clients_than_there_are_places_are_answered_in_turn() {
    let stage = Stage::new();
    let _serving = stage.start();
    let _slow: Vec<_> = (0..64).map(|_| stage.connect()).collect();
    let start = Instant::now();
    stage.ask("{\"get\":\"ready\"}\n");
    let took = start.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(20), "took {took:?}");
}

#[test]
fn the_socket_is_roots_alone_and_nothing_else_is_left_in_the_run_directory() {
    let stage = Stage::new();
    let serving = stage.start();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&stage.socket()), 0o600);
    assert_eq!(mode(&stage.run_dir()), 0o700);
    assert_eq!(names(&stage.run_dir()), ["agent.sock"]);
    drop(serving);
    assert!(names(&stage.run_dir()).is_empty());
}

#[test]
fn a_dead_agents_socket_is_replaced() {
    let stage = Stage::new();
    fs::create_dir(stage.run_dir()).unwrap();
    let aside = format!("agent.sock.{}", process::id());
    for left_behind in [stage.socket(), stage.run_dir().join(aside)] {
        drop(UnixListener::bind(left_behind).unwrap());
    }
    let _serving = stage.start();
    assert_eq!(stage.ask("{\"get\":\"ready\"}\n")["ready"], json!(false));
    assert_eq!(names(&stage.run_dir()), ["agent.sock"]);
}

#[test]
fn a_live_agents_socket_is_refused_and_stays() {
    let stage = Stage::new();
    let _first = stage.start();
    let error = start(stage.options()).unwrap_err();
    assert!(matches!(&error, ServeError::Occupied { path } if *path == stage.socket()), "{error:?}");
    assert_eq!(stage.ask("{\"get\":\"ready\"}\n")["ready"], json!(false));
}

#[test]
fn a_socket_that_somebody_removes_with_its_directory_comes_back() {
    let stage = Stage::new();
    let _serving = stage.start();
    for _ in 0..2 {
        fs::remove_dir_all(stage.run_dir()).unwrap();
        until("the socket is back", || stage.socket().exists());
        assert_eq!(stage.ask("{\"get\":\"ready\"}\n")["ready"], json!(false));
        assert_eq!(names(&stage.run_dir()), ["agent.sock"]);
    }
}

#[test]
fn a_successors_socket_is_not_removed() {
    let stage = Stage::new();
    let first = stage.start();
    fs::remove_file(stage.socket()).unwrap();
    let _second = stage.start();
    drop(first);
    assert_eq!(stage.ask("{\"get\":\"ready\"}\n")["ready"], json!(false));
}

#[test]
fn a_stopped_server_can_be_started_again_at_once() {
    let stage = Stage::new();
    for _ in 0..20 {
        let serving = stage.start_http(Duration::from_secs(60));
        stage.ask("{\"get\":\"ready\"}\n");
        drop(serving);
    }
}

#[test]
fn a_run_directory_that_cannot_be_is_named() {
    let stage = Stage::new();
    fs::write(stage.run_dir(), "").unwrap();
    let error = start(stage.options()).unwrap_err();
    assert!(matches!(&error, ServeError::RunDir { path, .. } if *path == stage.run_dir()), "{error:?}");
}

#[test]
fn a_socket_path_that_is_too_long_is_named() {
    let stage = Stage::new();
    let run_dir = stage.root.join("x".repeat(100));
    let error = start(Options { run_dir, ..stage.options() }).unwrap_err();
    assert!(matches!(error, ServeError::Socket { .. }), "{error:?}");
}

fn address(serving: &Serving) -> SocketAddr {
    serving._http.as_ref().unwrap().address()
}

/// Status code, headers and body.
fn fetch(serving: &Serving, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address(serving)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_owned(), body.to_owned())
}

#[test]
fn ready_means_that_pods_are_served() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_secs(60));
    let ready = || {
        let (code, _, body) = fetch(&serving, "/readyz");
        (code, body)
    };
    assert_eq!(ready(), (503, "the first pass hasn't ended yet\n".to_owned()));
    stage.be(State::Degraded { reasons: vec!["no route to node-b".into(), "no rule".into()] });
    assert_eq!(ready(), (200, "no route to node-b; no rule\n".to_owned()));
    stage.be(State::Failed { reasons: vec!["no bridge".into()] });
    assert_eq!(ready(), (503, "no bridge\n".to_owned()));
    stage.be(State::Ready);
    assert_eq!(ready(), (200, "ok\n".to_owned()));
}

#[test]
fn clients_that_begin_a_request_and_stop_do_not_hold_up_a_health_check_for_long() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_secs(60));
    let begin = |_| {
        let mut stream = TcpStream::connect(address(&serving)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        stream
    };
    let _begun: Vec<TcpStream> = (0..70).map(begin).collect();
    let start = Instant::now();
    assert_eq!(fetch(&serving, "/healthz").0, 200);
    // A connection may stay open for ten.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn a_loop_that_stands_still_is_unhealthy_until_it_turns() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_secs(2));
    assert_eq!(fetch(&serving, "/healthz").0, 200);
    thread::sleep(Duration::from_millis(2100));
    let (code, _, body) = fetch(&serving, "/healthz");
    assert_eq!(code, 503);
    assert!(body.starts_with("no pass of the loop has ended for"), "{body}");
    stage.status.lock().unwrap().passes += 1;
    assert_eq!(fetch(&serving, "/healthz").0, 200);
}

#[test]
fn a_loop_that_panicked_while_it_held_the_status_doesnt_take_the_servers_along() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_millis(1));
    let status = Arc::clone(&stage.status);
    thread::spawn(move || {
        let _held = status.lock().unwrap();
        panic!("on purpose");
    })
    .join()
    .unwrap_err();
    thread::sleep(Duration::from_millis(2));
    assert_eq!(fetch(&serving, "/healthz").0, 503);
    assert_eq!(stage.ask("{\"get\":\"status\"}\n")["node"], json!("node-a"));
}

#[test]
fn metrics_come_as_openmetrics() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_secs(60));
    stage.status.lock().unwrap().passes = 3;
    let (code, head, body) = fetch(&serving, "/metrics");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("\nselvedge_passes_total 3\n") && body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_secs(60));
    assert_eq!(fetch(&serving, "/").0, 404);
    assert_eq!(fetch(&serving, "/healthz/x").0, 404);
}

#[test]
fn an_address_in_use_is_named_and_leaves_no_socket_behind() {
    let stage = Stage::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = start(Options { listen: Some(address), ..stage.options() }).unwrap_err();
    assert_eq!(error.to_string(), format!("listen for HTTP on {address} (--listen)"));
    assert!(names(&stage.run_dir()).is_empty());
}

#[test]
fn an_open_connection_doesnt_keep_the_server_from_stopping() {
    let stage = Stage::new();
    let serving = stage.start_http(Duration::from_secs(60));
    let mut open = TcpStream::connect(address(&serving)).unwrap();
    open.write_all(b"GET /heal").unwrap();
    fetch(&serving, "/healthz");
    let start = Instant::now();
    drop(serving);
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}
