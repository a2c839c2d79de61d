//! Which attachments are in force: what an ADD waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use selvedge_model::IfName;

/// An attachment whose addresses and policy the kernel has, or is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Its owner record.
    pub owner: String,
    /// What is known of its Pod.
    pub standing: Standing,
}

/// What is known of an attachment's Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its policies are in force.
    Known,
    /// No source has shown it, and no policy can be about it.
    Free,
    /// No source has shown it, and it is isolated.
    Isolated,
}

/// How long an ADD waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For its Pod to be shown, where no policy can be about it: only others' policies would mean it.
    pub free: Duration,
    /// The same where it is isolated until then.
    pub isolated: Duration,
    /// At a time; then it asks again.
    pub at_a_time: Duration,
}

/// The attachments in force, for those who wait for one of them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Admissions(Arc<(Mutex<BTreeMap<IfName, Admission>>, Condvar)>);

impl Admissions {
    /// Tells everybody what is in force now.
    pub fn publish(&self, admitted: BTreeMap<IfName, Admission>) {
        let (current, changed) = &*self.0;
        *current.lock().unwrap_or_else(PoisonError::into_inner) = admitted;
        changed.notify_all();
    }

    /// Waits until the attachment at a host end is in force, and for its Pod as long as there is patience, of which
    /// `waited` is spent. How its Pod stands then; `None` if it is to be asked for again.
    pub fn wait(
        &self,
        (host, owner): (&IfName, &str),
        waited: Duration,
        patience: Patience,
    ) -> Option<Standing> {
        let began = Instant::now();
        let (current, changed) = &*self.0;
        let mut admitted = current.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = admitted.get(host).filter(|admission| admission.owner == owner);
            let standing = found.map(|admission| admission.standing);
            let most = match standing {
                Some(Standing::Known) => return standing,
                Some(Standing::Free) => patience.free.saturating_sub(waited),
                Some(Standing::Isolated) => patience.isolated.saturating_sub(waited),
                None => Duration::MAX,
            };
            if began.elapsed() >= most {
                return standing;
            }
            let left = most.min(patience.at_a_time).saturating_sub(began.elapsed());
            if left.is_zero() {
                return None;
            }
            (admitted, _) = changed.wait_timeout(admitted, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn publish(admissions: &Admissions, owner: &str, standing: Standing) {
        let admission = Admission { owner: owner.to_owned(), standing };
        admissions.publish(BTreeMap::from([("slv1".parse().unwrap(), admission)]));
    }

    fn wait(admissions: &Admissions, patience: Patience) -> Option<Standing> {
        admissions.wait((&"slv1".parse().unwrap(), "one"), Duration::ZERO, patience)
    }

    #[test]
    fn an_attachment_is_waited_for_and_then_its_pod() {
        let admissions = Admissions::default();
        let waiting = std::thread::spawn({
            let admissions = admissions.clone();
            move || wait(&admissions, Patience { free: LONG, isolated: LONG, at_a_time: LONG })
        });
        publish(&admissions, "another", Standing::Known);
        publish(&admissions, "one", Standing::Isolated);
        publish(&admissions, "one", Standing::Free);
        publish(&admissions, "one", Standing::Known);
        assert_eq!(waiting.join().unwrap(), Some(Standing::Known));
    }

    #[test]
    fn patience_ends() {
        let admissions = Admissions::default();
        let at_once = Patience { free: Duration::ZERO, isolated: Duration::ZERO, at_a_time: Duration::ZERO };
        assert_eq!(wait(&admissions, at_once), None);
        publish(&admissions, "another", Standing::Known);
        assert_eq!(wait(&admissions, at_once), None);
        publish(&admissions, "one", Standing::Isolated);
        assert_eq!(wait(&admissions, at_once), Some(Standing::Isolated));
        // Who has waited before has less patience left.
        let patient = Patience { isolated: LONG, ..at_once };
        assert_eq!(wait(&admissions, patient), None);
        let host = "slv1".parse().unwrap();
        assert_eq!(admissions.wait((&host, "one"), LONG, patient), Some(Standing::Isolated));
    }
}
