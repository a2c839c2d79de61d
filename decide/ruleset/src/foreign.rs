//! Rules of ours in other people's forward chains: which chains need them, and how they get there and away.

use selvedge_model::NetworkName;
use selvedge_model::mark::FOREIGN_COMMENT;

use crate::listed::Handle;
use crate::name::{ChainName, Family, TableId};
use crate::rule::{Rule, Statement, Verdict};
use crate::table::Policy;
use crate::transaction::{Change, Transaction};

/// A base chain on the forward hook in a table that isn't ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// Its table.
    pub table: TableId,
    /// Its name.
    pub chain: ChainName,
    /// What becomes of a packet at its end.
    pub policy: Policy,
    /// Its rules, in their order.
    pub rules: Vec<ForeignRule>,
}

/// A rule of such a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRule {
    /// By what it is deleted.
    pub handle: Handle,
    /// The rule, as far as it can be read. The comment is the rule's own or, after iptables-save and
    /// iptables-restore, iptables' comment match.
    pub rule: Rule,
}

/// The comment on a network's rules: `selvedge NETWORK`.
pub fn comment_of(network: &NetworkName) -> String {
    format!("{FOREIGN_COMMENT} {network}")
}

impl ForeignRule {
    /// True if the rule bears the mark of that network.
    pub fn belongs_to(&self, network: &NetworkName) -> bool {
        self.rule.comment_text() == Rule::default().comment(comment_of(network)).comment_text()
    }

    fn is_ours(&self) -> bool {
        let word = self.rule.comment_text().and_then(|comment| comment.as_str().split(' ').next());
        word == Some(FOREIGN_COMMENT)
    }

    /// Whether the rule may drop a packet, here or where it leads to.
    fn may_drop(&self) -> bool {
        let leads_on = |verdict: &Verdict| *verdict == Verdict::Drop || verdict.chain().is_some();
        self.rule.statements().iter().any(|statement| match statement {
            Statement::Verdict(verdict) => leads_on(verdict),
            Statement::VerdictMap(..) | Statement::Unknown(_) => true,
            _ => false,
        })
    }

    /// Whether the rule drops whatever gets as far as it.
    fn drops_all(&self) -> bool {
        let mut rest =
            self.rule.statements().iter().filter(|statement| !matches!(statement, Statement::Counter));
        match (rest.next(), rest.next()) {
            (Some(Statement::Verdict(Verdict::Drop)), None) => true,
            (Some(Statement::Unknown(words)), None) => words == "reject",
            _ => false,
        }
    }
}

impl ForeignChain {
    /// Whether forwarded packets may get lost here that none of our own tables drops, and accept rules at the head
    /// can help.
    ///
    /// Its policy is drop, or a rule without a condition drops or rejects, or it is iptables' own FORWARD with any
    /// rule in it that may drop or lead to where it is done (ufw and kube-router do that under the policy ACCEPT).
    /// firewalld's chains are left out: it would throw our rules away at its next reload.
    pub fn needs_accept(&self) -> bool {
        if self.table.name.as_str() == "firewalld" {
            return false;
        }
        let mut foreign = self.rules.iter().filter(|rule| !rule.is_ours());
        let drops = |rule: &ForeignRule| if self.is_iptables() { rule.may_drop() } else { rule.drops_all() };
        self.policy == Policy::Drop || foreign.any(drops)
    }

    fn is_iptables(&self) -> bool {
        matches!(self.table.family, Family::Ip | Family::Ip6)
            && (self.table.name.as_str(), self.chain.as_str()) == ("filter", "FORWARD")
    }

    /// The rules of that network that are in force: at the head, with nobody else's before them, each once.
    pub fn in_force(&self, network: &NetworkName) -> Vec<&Rule> {
        let mut rules = Vec::new();
        for listed in self.rules.iter().take_while(|listed| listed.is_ours()) {
            if listed.belongs_to(network) && !rules.contains(&&listed.rule) {
                rules.push(&listed.rule);
            }
        }
        rules
    }

    /// Whether there is something of that network to tidy up, whatever is wanted: a copy, or a rule that no longer
    /// is at the head.
    pub fn is_untidy(&self, network: &NetworkName) -> bool {
        let ours = self.rules.iter().filter(|listed| listed.belongs_to(network)).count();
        ours != self.in_force(network).len()
    }

    /// What makes the rules of that network exactly these, at the head of the chain; nobody else's are touched.
    ///
    /// `wanted` bear the network's comment.
    pub fn set_accept(&self, network: &NetworkName, wanted: &[Rule]) -> Transaction {
        let mut transaction = Transaction::default();
        let in_force = self.in_force(network);
        let mut kept: Vec<&Rule> = Vec::new();
        let mut at_head = true;
        for listed in &self.rules {
            at_head &= listed.is_ours();
            if !listed.belongs_to(network) {
                continue;
            }
            if at_head && wanted.contains(&listed.rule) && !kept.contains(&&listed.rule) {
                kept.push(&listed.rule);
            } else {
                transaction.push(&self.table, Change::DeleteRule(self.chain.clone(), listed.handle));
            }
        }
        // Before the first rule that stays: one that the transaction deletes is no place to go by.
        let before = self.rules.iter().find(|listed| {
            !listed.belongs_to(network) || (in_force.contains(&&listed.rule) && wanted.contains(&listed.rule))
        });
        let before = before.map(|listed| listed.handle);
        for rule in wanted.iter().filter(|rule| !kept.contains(rule)) {
            let (chain, rule) = (self.chain.clone(), rule.clone());
            transaction.push(&self.table, Change::AddRule { chain, before, rule });
        }
        transaction
    }
}

#[cfg(test)]
mod tests;
