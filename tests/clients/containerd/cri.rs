//! The part of the Container Runtime Interface that pod networking shows in, as the kubelet speaks it.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use selvedge_tests::within;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A pod as the kubelet asks for it (`PodSandboxConfig`).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Config {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub(crate) dns: Option<DnsConfig>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) annotations: HashMap<String, String>,
}

/// `PodSandboxMetadata`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

/// `DNSConfig`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DnsConfig {
    #[prost(string, repeated, tag = "1")]
    pub(crate) servers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) searches: Vec<String>,
}

/// A published port; protocol 0 is TCP, 1 UDP, 2 SCTP.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PortMapping {
    #[prost(int32, tag = "1")]
    pub(crate) protocol: i32,
    #[prost(int32, tag = "2")]
    pub(crate) container_port: i32,
    #[prost(int32, tag = "3")]
    pub(crate) host_port: i32,
    #[prost(string, tag = "4")]
    pub(crate) host_ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<Config>,
}

/// What begins with a sandbox's id: several requests, and the answer to a run.
#[derive(Clone, PartialEq, Message)]
struct SandboxId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct SandboxStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<SandboxStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<SandboxNetwork>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxNetwork {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional: Vec<PodIp>,
}

#[derive(Clone, PartialEq, Message)]
struct PodIp {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct Listing {
    #[prost(message, repeated, tag = "1")]
    items: Vec<SandboxId>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

/// `RuntimeCondition`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    pub(crate) good: bool,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    pub(crate) message: String,
}

impl Config {
    /// A pod of a name in the namespace `default`.
    pub(crate) fn of(name: &str) -> Self {
        let metadata = Metadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        };
        Self { metadata: Some(metadata), ..Self::default() }
    }
}

/// A connection to a runtime's socket.
#[derive(Debug)]
pub(crate) struct Cri {
    runtime: Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects as soon as the runtime answers.
    pub(crate) fn connect(socket: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = within(20.0, "the runtime accepts connections", || {
            runtime.block_on(endpoint.connect()).map_err(|error| format!("{error:?}"))
        });
        let cri = Self { runtime, channel };
        within(20.0, "the runtime knows how it is", || {
            cri.conditions().map(drop).map_err(|error| error.to_string())
        });
        cri
    }

    /// RunPodSandbox: the sandbox's id.
    pub(crate) fn run(&self, config: Config) -> Result<String, Status> {
        self.call("RunPodSandbox", RunRequest { config: Some(config) }).map(|answer: SandboxId| answer.id)
    }

    /// The same with a deadline, which the server is told.
    pub(crate) fn run_within(&self, config: Config, deadline: Duration) -> Result<String, Status> {
        let mut request = Request::new(RunRequest { config: Some(config) });
        request.set_timeout(deadline);
        let answer: Result<SandboxId, _> =
            self.runtime.block_on(unary(self.channel.clone(), "RunPodSandbox", request));
        answer.map(|answer| answer.id)
    }

    /// RunPodSandbox of all at once: the ids, and how long each took.
    pub(crate) fn run_all(&self, configs: Vec<Config>) -> Vec<(Result<String, Status>, Duration)> {
        let requests = configs.into_iter().map(|config| RunRequest { config: Some(config) });
        let answers = self.all("RunPodSandbox", requests);
        answers.into_iter().map(|(answer, took)| (answer.map(|run: SandboxId| run.id), took)).collect()
    }

    /// StopPodSandbox and RemovePodSandbox of all at once.
    pub(crate) fn end_all(&self, ids: &[String]) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let ended = self.all::<_, Nothing>(method, ids.iter().map(|id| SandboxId { id: id.clone() }));
            for (end, _) in ended {
                end.unwrap();
            }
        }
    }

    /// StopPodSandbox.
    pub(crate) fn stop(&self, id: &str) -> Result<(), Status> {
        self.call("StopPodSandbox", SandboxId { id: id.into() }).map(|Nothing {}| ())
    }

    /// RemovePodSandbox.
    pub(crate) fn remove(&self, id: &str) -> Result<(), Status> {
        self.call("RemovePodSandbox", SandboxId { id: id.into() }).map(|Nothing {}| ())
    }

    /// The addresses that PodSandboxStatus shows.
    pub(crate) fn addresses(&self, id: &str) -> Vec<String> {
        let answer: SandboxStatusAnswer = self.call("PodSandboxStatus", SandboxId { id: id.into() }).unwrap();
        let network = answer.status.unwrap_or_default().network.unwrap_or_default();
        [network.ip].into_iter().chain(network.additional.into_iter().map(|more| more.ip)).collect()
    }

    /// The ids of all sandboxes.
    pub(crate) fn list(&self) -> Vec<String> {
        let listing: Listing = self.call("ListPodSandbox", Nothing {}).unwrap();
        listing.items.into_iter().map(|item| item.id).collect()
    }

    /// What Status says of the network, and how long it took to say so.
    pub(crate) fn network(&self) -> (Condition, Duration) {
        let asked = Instant::now();
        let conditions = self.conditions().unwrap();
        let took = asked.elapsed();
        let network = conditions.into_iter().find(|condition| condition.kind == "NetworkReady");
        (network.unwrap(), took)
    }

    fn conditions(&self) -> Result<Vec<Condition>, Status> {
        let answer: RuntimeAnswer = self.call("Status", Nothing {})?;
        Ok(answer.status.unwrap_or_default().conditions)
    }

    fn call<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: Q,
    ) -> Result<A, Status> {
        self.runtime.block_on(unary(self.channel.clone(), method, Request::new(request)))
    }

    fn all<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &'static str,
        requests: impl Iterator<Item = Q>,
    ) -> Vec<(Result<A, Status>, Duration)> {
        self.runtime.block_on(async {
            let mut calls = JoinSet::new();
            for request in requests {
                let channel = self.channel.clone();
                calls.spawn(async move {
                    let asked = Instant::now();
                    (unary(channel, method, Request::new(request)).await, asked.elapsed())
                });
            }
            calls.join_all().await
        })
    }
}

async fn unary<Q: Message + 'static, A: Message + Default + 'static>(
    channel: Channel,
    method: &'static str,
    request: Request<Q>,
) -> Result<A, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse().unwrap();
    grpc.unary(request, path, ProstCodec::default()).await.map(Response::into_inner)
}
