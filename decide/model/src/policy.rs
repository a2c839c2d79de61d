//! NetworkPolicies, valid once they exist.

use std::fmt;
use std::num::NonZeroU16;

use crate::namespaced::{Key, Keyed};
use crate::port::Transport;
use ipnet::IpNet;

use crate::selector::Selector;

/// A NetworkPolicy's name, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Key for PolicyKey {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Which way, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// What others open towards the pod.
    Ingress,
    /// What the pod opens.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// A NetworkPolicy (networking.k8s.io/v1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name. It selects pods of its own namespace only.
    pub key: PolicyKey,
    /// spec.podSelector: the pods that it isolates.
    pub selects: Selector,
    /// What may come in to them; `None` if spec.policyTypes has no `Ingress`, and the policy says nothing of it.
    pub ingress: Option<Vec<Rule>>,
    /// What may go out from them; `None` if spec.policyTypes has no `Egress`.
    pub egress: Option<Vec<Rule>>,
    /// Whether it is in force.
    pub mode: Mode,
    /// What is wrong with the policy as it is written, if this is the closed form that stands in for it.
    pub refused: Option<String>,
}

/// What becomes of what a policy forbids: the annotation [`Mode::ANNOTATION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mode {
    /// It doesn't pass.
    #[default]
    Enforced,
    /// It passes: the policy is being tried out, and isolates nothing.
    Shadow,
}

impl Mode {
    /// The annotation of a NetworkPolicy that names its mode.
    pub const ANNOTATION: &str = "selvedge.dev/mode";

    /// The mode of that name; `None` if it is none.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "enforced" => Some(Self::Enforced),
            "shadow" => Some(Self::Shadow),
            _ => None,
        }
    }
}

impl Keyed for Policy {
    type Key = PolicyKey;

    fn key(&self) -> &PolicyKey {
        &self.key
    }
}

impl Policy {
    /// The rules of one direction; `None` if the policy isolates nothing in it, an empty list if it admits nothing.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// The closed form: isolates the same pods in the same directions, and admits nothing.
    #[must_use]
    pub fn closed(self, why: String) -> Self {
        let nothing = |rules: Option<Vec<Rule>>| rules.map(|_admitted| Vec::new());
        let (ingress, egress) = (nothing(self.ingress), nothing(self.egress));
        Self { ingress, egress, refused: Some(why), ..self }
    }
}

/// One rule: admits what is from, or to, one of its peers and to one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// `from` or `to`
    pub peers: Peers,
    /// `ports`
    pub ports: Ports,
}

/// Whom a rule admits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peers {
    /// Everybody, in the cluster or not: the field is missing or empty.
    Anyone,
    /// These, and nobody if there are none.
    Of(Vec<Peer>),
}

/// Somebody that a rule admits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Pods by their labels and their namespace's.
    Pods(PodPeer),
    /// `ipBlock`: addresses, whoever has them.
    Block(IpBlock),
}

/// Pods that a rule admits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodPeer {
    /// `namespaceSelector`
    pub namespaces: Namespaces,
    /// `podSelector`; everything where it is missing.
    pub pods: Selector,
}

/// Whose pods are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// Those of the policy's own namespace: `namespaceSelector` is missing.
    Own,
    /// Those of every namespace with such labels.
    Labelled(Selector),
}

/// A network without some parts of it, each of which lies in it and is smaller than it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    cidr: IpNet,
    except: Vec<IpNet>,
}

/// An exception that is no part of its block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It isn't in the block.
    #[error("{except} lies outside {cidr}")]
    Outside {
        /// Its place in the list.
        index: usize,
        /// The exception.
        except: IpNet,
        /// The block.
        cidr: IpNet,
    },
    /// It is the whole block.
    #[error("{except} leaves nothing of {cidr}")]
    Whole {
        /// Its place in the list.
        index: usize,
        /// The exception.
        except: IpNet,
        /// The block.
        cidr: IpNet,
    },
}

impl BlockError {
    /// The exception's place in the list.
    pub fn index(&self) -> usize {
        match self {
            Self::Outside { index, .. } | Self::Whole { index, .. } => *index,
        }
    }
}

impl IpBlock {
    /// A network, host bits dropped, without exceptions.
    pub fn new(cidr: IpNet, except: impl IntoIterator<Item = IpNet>) -> Result<Self, BlockError> {
        let cidr = cidr.trunc();
        let checked = |(index, except): (usize, IpNet)| match except.trunc() {
            except if !cidr.contains(&except) => Err(BlockError::Outside { index, except, cidr }),
            except if except == cidr => Err(BlockError::Whole { index, except, cidr }),
            except => Ok(except),
        };
        let mut except = except.into_iter().enumerate().map(checked).collect::<Result<Vec<_>, _>>()?;
        except.sort();
        except.dedup();
        Ok(Self { cidr, except })
    }

    /// The network.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The parts of it that are not meant.
    pub fn except(&self) -> &[IpNet] {
        &self.except
    }

    /// True if the address is in the network and in no exception.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|net| net.contains(&address))
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (i, net) in self.except.iter().enumerate() {
            write!(f, "{}{net}", if i == 0 { " except " } else { ", " })?;
        }
        Ok(())
    }
}

/// What a rule admits traffic to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// Every port of every protocol, and protocols without ports: the field is missing or empty.
    Any,
    /// These, and nothing if there are none.
    Of(Vec<Port>),
}

/// One entry of `ports`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// `protocol`
    pub transport: Transport,
    /// `port` and `endPort`
    pub which: Which,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// All: `port` is missing.
    All,
    /// From one number to another.
    Numbers(PortRange),
    /// What each pod that traffic goes to calls so.
    Named(PortName),
}

/// Ports from one to another, both included and in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// The ports from `first` to `last`; `None` if they are in the wrong order.
    pub fn new(first: NonZeroU16, last: NonZeroU16) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Just one port.
    pub fn one(port: NonZeroU16) -> Self {
        Self { first: port, last: port }
    }

    /// The first port.
    pub fn first(self) -> NonZeroU16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> NonZeroU16 {
        self.last
    }

    /// True if the port is among them.
    pub fn contains(self, port: u16) -> bool {
        (self.first.get()..=self.last.get()).contains(&port)
    }
}

/// The name of a container's port (an IANA service name): 1 to 15 lower-case letters, digits and single `-` between
/// them, at least one letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(Box<str>);

impl PortName {
    /// The name; `None` if it is none.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_name = (1..=15).contains(&text.len())
            && text.bytes().all(plain)
            && text.bytes().any(|b| b.is_ascii_lowercase())
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        is_name.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests;
