//! Each statement of the protocol, once, as a check that any plugin can be put to.
//!
//! A [`Statement`] is asked of ours as a test of its own, named by its id (`statements::io::ours::io_1_…`), and of
//! the reference plugins by `document`, which writes down what they did: `docs/conformance.md`. A check sees only what
//! a runtime and an administrator see. What it says of the one it says of the other.
#![expect(
    clippy::unwrap_in_result,
    reason = "an error says what a plugin does; a test without its ground has failed"
)]

mod add;
mod capabilities;
mod check;
mod configuration;
pub(crate) mod del;
mod delegation;
mod document;
mod environment;
mod errors;
mod gc;
mod io;
mod list;
mod packets;
mod reply;
mod results;
mod state;
mod status;
mod subject;

use std::sync::OnceLock;

use crate::statements::reply::Unmet;
use crate::statements::subject::Subject;

/// What a plugin must do, or had better do.
pub(crate) struct Statement {
    /// As in [`list::IDS`].
    id: &'static str,
    level: Level,
    /// One sentence.
    text: &'static str,
    /// The check's name, which begins with the id.
    name: &'static str,
    check: fn(&Subject) -> Verdict,
    /// What ours did, in this run.
    ours: &'static OnceLock<Option<Outcome>>,
}

/// Who demands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The specification: MUST.
    Must,
    /// The specification: SHOULD.
    Should,
    /// The conventions beside the specification.
    Convention,
    /// Nobody on paper; a runtime that is in use relies on it.
    Runtimes,
}

/// Success, or why the check could not go on; smaller things are put down with [`Subject::must`].
type Verdict = Result<(), Unmet>;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Holds,
    /// What is different, in words that are the same in each run.
    Differs(String),
    /// Why the question makes no sense.
    NotApplicable(&'static str),
}

/// The statements of a group, each with its test of ours.
macro_rules! statements {
    ($($id:literal $level:ident $check:ident $text:literal)+) => {
        pub(super) static STATEMENTS: &[crate::statements::Statement] = &[$(crate::statements::Statement {
            id: $id,
            level: crate::statements::Level::$level,
            text: $text,
            name: stringify!($check),
            check: $check,
            ours: {
                static OURS: std::sync::OnceLock<Option<crate::statements::Outcome>> = std::sync::OnceLock::new();
                &OURS
            },
        }),+];

        mod ours {
            $(#[test]
            fn $check() {
                crate::statements::ours_must_hold(stringify!($check));
            })+
        }
    };
}
use statements;

/// All groups, in the order of the protocol.
static GROUPS: [(&str, &[Statement]); 13] = [
    ("Process, input and output", io::STATEMENTS),
    ("Environment", environment::STATEMENTS),
    ("Configuration", configuration::STATEMENTS),
    ("ADD", add::STATEMENTS),
    ("DEL", del::STATEMENTS),
    ("CHECK", check::STATEMENTS),
    ("GC", gc::STATEMENTS),
    ("STATUS", status::STATEMENTS),
    ("VERSION and results", results::STATEMENTS),
    ("Delegation", delegation::STATEMENTS),
    ("Capabilities", capabilities::STATEMENTS),
    ("Capabilities, as packets show them", packets::STATEMENTS),
    ("Errors", errors::STATEMENTS),
];

fn all() -> impl Iterator<Item = &'static Statement> {
    GROUPS.iter().flat_map(|(_, group)| group.iter())
}

fn ours_must_hold(name: &str) {
    let statement = all().find(|statement| statement.name == name).expect("a test is made of a statement");
    if let Some(Outcome::Differs(why)) = statement.of_ours() {
        panic!("{}: {}\n{why}", statement.id, statement.text);
    }
}

impl Statement {
    /// What ours does, asked once a run. `None` where nobody can be asked, which has been said.
    fn of_ours(&self) -> Option<&Outcome> {
        let ask = || {
            let subject = Subject::ours()?;
            let outcome = self.put_to(&subject);
            // Only here: this goes to a person, not into a document.
            let said = subject.transcript();
            Some(match outcome {
                Outcome::Differs(why) => Outcome::Differs(format!("{why}\n{said}")),
                other => other,
            })
        };
        self.ours.get_or_init(ask).as_ref()
    }

    fn put_to(&self, subject: &Subject) -> Outcome {
        let verdict = (self.check)(subject);
        let mut found = subject.found();
        match verdict {
            Err(Unmet::NotApplicable(why)) => return Outcome::NotApplicable(why),
            Err(Unmet::Differs(why)) => found.push(why),
            Ok(()) => {}
        }
        if found.is_empty() { Outcome::Holds } else { Outcome::Differs(found.join("; ")) }
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Should => "should",
            Self::Convention => "convention",
            Self::Runtimes => "runtimes",
        }
    }
}
