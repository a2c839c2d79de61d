//! Somebody who follows an API, and what they heard.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use selvedge_netns::Namespace;
use selvedge_source::kubernetes::{Duties, Follower, Reach, Update, follow_on_duty};
use selvedge_tests::within;

/// One who follows it for a node.
pub(crate) struct Following {
    updates: Receiver<Update>,
    last: Option<Update>,
    _follower: Follower,
}

impl Following {
    /// Follows it from a namespace, as a kubeconfig says.
    pub(crate) fn start(place: &Namespace, file: &Path, (node, duties): (&str, Option<Duties>)) -> Self {
        let (sender, updates) = channel();
        let deliver = move |update| match sender.send(update) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let (name, reach) = (node.parse().unwrap(), Reach::Kubeconfig(file.to_owned()));
        let follower = place.run(|| follow_on_duty(&reach, (&name, duties), deliver));
        Self { updates, last: None, _follower: follower.unwrap().unwrap() }
    }

    /// Waits for an update of which something is true, beginning with the last that was looked at. None is passed over.
    pub(crate) fn until(&mut self, seconds: f64, what: &str, is: impl Fn(&Update) -> bool) -> Update {
        within(seconds, what, || {
            loop {
                if let Some(update) = self.last.as_ref().filter(|update| is(update)) {
                    return Ok(update.clone());
                }
                match self.updates.try_recv() {
                    Ok(update) => self.last = Some(update),
                    Err(_) => return Err(format!("{:?}", brief(self.last.as_ref()))),
                }
            }
        })
    }
}

/// Without the cluster, which is long.
pub(crate) fn brief(update: Option<&Update>) -> Option<(Option<usize>, Vec<String>, bool)> {
    update.map(|update| (nodes(update), update.problems.clone(), update.lost.is_some()))
}

/// How many nodes are known, once any list was complete.
pub(crate) fn nodes(update: &Update) -> Option<usize> {
    update.cluster.as_ref().map(|cluster| cluster.nodes().len())
}

/// How many pods are known, once any list was complete.
pub(crate) fn pods(update: &Update) -> Option<usize> {
    update.cluster.as_ref().map(|cluster| cluster.pods().len())
}
