//! Rules: what is looked for, and what is done.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::field::{Field, Needs};
use crate::logging::{Limit, Log, LogPrefix};
use crate::matching::{Match, Test, named};
use crate::name::{ChainName, SetName};
use crate::value::IpVersion;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes this hook's chain; chains of other tables still see it.
    Accept,
    /// It is thrown away.
    Drop,
    /// The next rule sees it (in a map: as if nothing had been found).
    Continue,
    /// Back to the chain that jumped here; at the end of a base chain, its policy.
    Return,
    /// On in that chain, and back here afterwards.
    Jump(ChainName),
    /// On in that chain, and not back here.
    Goto(ChainName),
}

impl Verdict {
    /// The chain that it leads to.
    pub fn chain(&self) -> Option<&ChainName> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Continue | Self::Return => None,
        }
    }
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Goes on only if the packet matches.
    Match(Match),
    /// Counts packets and bytes. The counts are no part of the rule.
    Counter,
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Takes the verdict from a verdict map, if it has the key: `FIELD . FIELD vmap @MAP`.
    VerdictMap(Vec<Field>, SetName),
    /// Rewrites the source to the address of the interface that the packet leaves by.
    Masquerade {
        /// Chooses the source port at random throughout.
        fully_random: bool,
    },
    /// Rewrites the destination to the address and port that a map has for the key:
    /// `dnat ip to FIELD . FIELD map @MAP`.
    DnatMap(IpVersion, Vec<Field>, SetName),
    /// Sets bits of the packet mark: `meta mark set meta mark | BITS`.
    MarkOr(u32),
    /// Tells of the packet: `log prefix "…" group N snaplen BYTES`.
    Log(Log),
    /// Goes on only as long as packets come no faster: `limit rate N/second burst N packets`.
    Limit(Limit),
    /// Goes on with one packet in so many, whichever chance takes: `numgen random mod N 0`.
    OneIn(NonZeroU32),
    /// Has the element of that key in a set last so long from now on: `update @SET { FIELD . FIELD timeout TIME }`.
    Update {
        /// The element's key.
        key: Vec<Field>,
        /// The set, a dynamic one.
        set: SetName,
        /// How long it lasts.
        timeout: Duration,
        /// Goes on only as long as packets of that key come no faster: each element counts its own.
        limit: Option<Limit>,
    },
    /// Something in the kernel that this program has no type for, in words. Never equal to anything desired.
    Unknown(String),
}

impl From<Match> for Statement {
    fn from(test: Match) -> Self {
        Self::Match(test)
    }
}

impl From<Test> for Statement {
    fn from(test: Test) -> Self {
        Self::Match(test.into())
    }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

/// A rule's comment: at most [`Comment::MAX`] bytes, without control characters and double quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(String);

impl Comment {
    /// What nft takes, in bytes.
    pub const MAX: usize = 128;

    /// The text, double quotes turned into single ones, control characters into spaces, and its end cut off where it
    /// is too long.
    pub fn new(text: &str) -> Self {
        let plain = |c: char| match c {
            '"' => '\'',
            c if c.is_control() => ' ',
            c => c,
        };
        let mut text: String = text.chars().map(plain).collect();
        text.truncate(text.floor_char_boundary(Self::MAX));
        Self(text)
    }

    /// The comment as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule out of matches and statements, in their order: `rule![iifname(&name), counter(), drop()]`.
#[macro_export]
macro_rules! rule {
    ($($statement:expr),+ $(,)?) => {
        $crate::Rule::default()$(.then($statement))+
    };
}

/// A rule.
///
/// ```
/// use selvedge_ruleset::matching::{IfPrefix, fib_saddr_missing, iifname_prefix};
/// use selvedge_ruleset::rule::drop;
///
/// const PODS: IfPrefix = IfPrefix::literal("slv");
/// let rule = selvedge_ruleset::rule![iifname_prefix(&PODS), fib_saddr_missing(), drop()].comment("spoofed source");
/// assert_eq!(rule.to_string(), r#"iifname "slv*" fib saddr . iif oif missing drop comment "spoofed source""#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    statements: Vec<Statement>,
    comment: Option<Comment>,
}

impl Rule {
    /// A rule of these statements; `rule!` takes matches and statements side by side.
    pub fn new(statements: impl IntoIterator<Item = impl Into<Statement>>) -> Self {
        statements.into_iter().fold(Self::default(), Self::then)
    }

    /// The rule with a statement added at its end.
    ///
    /// As nft does when it lists rules, a protocol test just before a statement that implies it is left out, and a
    /// port has its protocol's name where that is known. What nft would spell out is added.
    #[must_use]
    pub fn then(mut self, statement: impl Into<Statement>) -> Self {
        let known = self.statements.iter().fold(Needs::NOTHING, |known, earlier| earlier.proves().and(known));
        let statement = statement.into().named(known);
        let needs = statement.implies();
        while let Some(Statement::Match(Match { negated: false, test })) = self.statements.last() {
            let implied = match *test {
                Test::NfProto(version) => needs.network == Some(version.ether_type()),
                Test::EtherType(kind) => needs.network == Some(kind),
                Test::L4Proto(proto) => needs.transport == Some(proto),
                _ => false,
            };
            if !implied {
                break;
            }
            self.statements.pop();
        }
        // nft doesn't imply the family to which an address is rewritten: it spells it out.
        if let Statement::DnatMap(version, ..) = &statement {
            let known = self.statements.iter().fold(needs, |known, earlier| earlier.proves().and(known));
            if known.network != Some(version.ether_type()) {
                self.statements.push(Test::NfProto(*version).into());
            }
        }
        self.statements.push(statement);
        self
    }

    /// The rule with a comment.
    #[must_use]
    pub fn comment(mut self, text: impl AsRef<str>) -> Self {
        self.comment = Some(Comment::new(text.as_ref()));
        self
    }

    /// Its statements, in their order.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Its comment, if it has one.
    pub fn comment_text(&self) -> Option<&Comment> {
        self.comment.as_ref()
    }

    /// The sets and maps that it looks into.
    pub fn sets(&self) -> impl Iterator<Item = &SetName> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Match(Match { test: Test::InSet(_, set), .. }) => Some(set),
            Statement::VerdictMap(_, set) | Statement::DnatMap(_, _, set) | Statement::Update { set, .. } => {
                Some(set)
            }
            _ => None,
        })
    }

    /// The chains that it leads to by itself, not by way of a map.
    pub fn chains(&self) -> impl Iterator<Item = &ChainName> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Verdict(verdict) => verdict.chain(),
            _ => None,
        })
    }
}

impl Statement {
    /// What a packet must be for the statement to make sense.
    pub fn needs(&self) -> Needs {
        let of_key = |key: &[Field]| key.iter().fold(Needs::NOTHING, |needs, field| needs.and(field.needs()));
        match self {
            Self::Match(test) => test.needs(),
            Self::VerdictMap(key, _) | Self::Update { key, .. } => of_key(key),
            Self::DnatMap(version, key, _) => Needs::ip(*version).and(of_key(key)),
            _ => Needs::NOTHING,
        }
    }

    /// What nft leaves out before the statement, because what the statement looks at says it.
    fn implies(&self) -> Needs {
        match self {
            Self::DnatMap(_, key, _) => {
                key.iter().fold(Needs::NOTHING, |needs, field| needs.and(field.needs()))
            }
            other => other.needs(),
        }
    }

    /// What a packet is known to be after the statement.
    pub fn proves(&self) -> Needs {
        match self {
            Self::Match(test) => test.proves(),
            other => other.needs(),
        }
    }

    fn named(self, known: Needs) -> Self {
        match self {
            Self::Match(test) => Self::Match(test.named(known)),
            Self::VerdictMap(key, map) => Self::VerdictMap(named(key, known), map),
            Self::DnatMap(version, key, map) => Self::DnatMap(version, named(key, known), map),
            Self::Update { key, set, timeout, limit } => {
                Self::Update { key: named(key, known), set, timeout, limit }
            }
            other => other,
        }
    }
}

/// `accept`
pub fn accept() -> Statement {
    Verdict::Accept.into()
}

/// `drop`
pub fn drop() -> Statement {
    Verdict::Drop.into()
}

/// `return`
pub fn return_() -> Statement {
    Verdict::Return.into()
}

/// `jump CHAIN`
pub fn jump(chain: &ChainName) -> Statement {
    Verdict::Jump(chain.clone()).into()
}

/// `goto CHAIN`
pub fn goto(chain: &ChainName) -> Statement {
    Verdict::Goto(chain.clone()).into()
}

/// `counter`
pub fn counter() -> Statement {
    Statement::Counter
}

/// `masquerade fully-random`
pub fn masquerade() -> Statement {
    Statement::Masquerade { fully_random: true }
}

/// `FIELD . FIELD vmap @MAP`
pub fn vmap(key: impl Into<Vec<Field>>, map: &SetName) -> Statement {
    Statement::VerdictMap(key.into(), map.clone())
}

/// `dnat ip|ip6 to FIELD . FIELD map @MAP`; the map's data are an address and a port.
pub fn dnat_map(version: IpVersion, key: impl Into<Vec<Field>>, map: &SetName) -> Statement {
    Statement::DnatMap(version, key.into(), map.clone())
}

/// `update @SET { FIELD . FIELD timeout TIME }`: the element lasts so long from now on; meant for one that is there.
pub fn update(key: impl Into<Vec<Field>>, set: &SetName, timeout: Duration) -> Statement {
    Statement::Update { key: key.into(), set: set.clone(), timeout, limit: None }
}

/// `update @SET { FIELD . FIELD timeout TIME limit rate … }`: goes on only as long as packets of that key come no faster.
pub fn update_limited(
    key: impl Into<Vec<Field>>,
    set: &SetName,
    (timeout, limit): (Duration, Limit),
) -> Statement {
    Statement::Update { key: key.into(), set: set.clone(), timeout, limit: Some(limit) }
}

/// `log prefix "…" group N`
pub fn log(prefix: LogPrefix, group: u16) -> Statement {
    Statement::Log(Log { prefix, group, snaplen: None })
}

/// `limit rate N/second burst N packets`
pub fn limit(limit: Limit) -> Statement {
    Statement::Limit(limit)
}

/// `numgen random mod N 0`: goes on with one packet in so many.
pub fn one_in(packets: NonZeroU32) -> Statement {
    Statement::OneIn(packets)
}

/// `meta mark set meta mark | BITS`
pub fn mark_or(bits: u32) -> Statement {
    Statement::MarkOr(bits)
}
