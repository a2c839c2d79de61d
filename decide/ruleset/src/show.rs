//! `Display` as `nft list` prints it.

use std::fmt::{self, Display, Formatter};

use crate::name::{Family, TableId};
use crate::table::{Base, Chain, Hook, Kind, Policy, Table, priority};

mod element;
mod statement;

pub use element::Braced;

/// A table under its name, as `nft list table` prints it.
pub struct Listing<'a>(pub &'a TableId, pub &'a Table);

impl Display for Listing<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(id, table) = self;
        writeln!(f, "table {id} {{")?;
        let mut separator = "";
        if table.owned {
            writeln!(f, "\tflags owner,persist")?;
            separator = "\n";
        }
        for (name, set) in &table.sets {
            writeln!(f, "{separator}\t{} {name} {{", set.set_type().word())?;
            set.show(f)?;
            writeln!(f, "\t}}")?;
            separator = "\n";
        }
        for (name, chain) in &table.chains {
            writeln!(f, "{separator}\tchain {name} {{")?;
            chain.show(id.family, f)?;
            writeln!(f, "\t}}")?;
            separator = "\n";
        }
        f.write_str("}\n")
    }
}

impl Chain {
    fn show(&self, family: Family, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(base) = &self.base {
            writeln!(f, "\t\t{}", base.shown_in(family))?;
        }
        self.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{rule}"))
    }
}

impl Base {
    /// The line `type … hook … priority …; policy …;`: what a priority is called depends on the table's family.
    pub fn shown_in(&self, family: Family) -> impl Display {
        fmt::from_fn(move |f| {
            let priority = PriorityName { family, hook: self.hook, value: self.priority };
            write!(f, "type {} hook {} priority {priority}; policy {};", self.kind, self.hook, self.policy)
        })
    }
}

struct PriorityName {
    family: Family,
    hook: Hook,
    value: i32,
}

impl Display for PriorityName {
    /// nft names a priority that is at most 10 away from a named one.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hook_fits = |hook: Option<Hook>| hook.is_none_or(|hook| hook == self.hook);
        let near = names(self.family)
            .iter()
            .find(|&&(value, hook, _)| hook_fits(hook) && (self.value.abs_diff(value)) <= 10);
        let Some(&(value, _, name)) = near else {
            return self.value.fmt(f);
        };
        match self.value - value {
            0 => f.write_str(name),
            more if more > 0 => write!(f, "{name} + {more}"),
            less => write!(f, "{name} - {}", -less),
        }
    }
}

fn names(family: Family) -> &'static [(i32, Option<Hook>, &'static str)] {
    match family {
        Family::Bridge => &[
            (-300, Some(Hook::Prerouting), "dstnat"),
            (priority::BRIDGE_FILTER, None, "filter"),
            (100, Some(Hook::Output), "out"),
            (300, Some(Hook::Postrouting), "srcnat"),
        ],
        Family::Arp | Family::Netdev => &[(priority::FILTER, None, "filter")],
        Family::Ip | Family::Ip6 | Family::Inet => &[
            (priority::RAW, None, "raw"),
            (priority::MANGLE, None, "mangle"),
            (priority::DSTNAT, Some(Hook::Prerouting), "dstnat"),
            (priority::FILTER, None, "filter"),
            (50, None, "security"),
            (priority::SRCNAT, Some(Hook::Postrouting), "srcnat"),
        ],
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        })
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

#[cfg(test)]
mod tests;
