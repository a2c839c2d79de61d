//! A call disturbed at each of its points in turn, and judged after each.

use std::thread;
use std::time::Instant;

use selvedge_tests::Call;

use crate::judge::Harm;
use crate::scene::{Mode, Scene};
use crate::strace::{Ended, Inject, Point, Recording};
use crate::tally::{Tally, report, write};

/// How often a point is tried that a call doesn't come to.
const TRIES: usize = 3;

/// How many undisturbed runs the points are taken from.
const RECORDINGS: usize = 4;

/// How many points of a sweep are tried at the same time, each on a node of its own: most of a trial is spent waiting
/// for the kernel, which takes its time to let go of devices.
const AT_ONCE: usize = 4;

/// How many points in a hundred may be out of reach: polling loops turn once more or less.
const OUT_OF_REACH: usize = 4;

/// The sweeps whose sum is printed at the end.
const ALL: &[&str] = &[
    "kills in ADD, bridge, then DEL",
    "kills in ADD, bridge, then ADD and GC",
    "kills in ADD, routed, agent away, then DEL",
    "kills in ADD, routed, agent away, then ADD and GC",
    "kills in ADD, agent, then DEL",
    "kills in ADD, agent, then its sweep",
    "kills in DEL, bridge, then DEL",
    "kills in DEL, bridge, then ADD and GC",
    "kills in DEL, bridge, no netns, then DEL",
    "kills in DEL, routed, agent away, then DEL",
    "kills in DEL, routed, netns gone, then ADD and GC",
    "kills in DEL, agent, then DEL",
    "kills in DEL with compaction, routed, then ADD and GC",
    "kills in ADD with ports, bridge, then DEL",
    "kills in ADD with ports, agent, then its sweep",
    "kills in DEL with ports, routed, netns gone, then ADD and GC",
    "kills in ADD of a further interface, bridge, then DEL",
    "kills in DEL of a further interface, bridge, then DEL",
    "kills in GC, bridge, then GC",
    "kills in GC, bridge, then DEL",
    "file faults in ADD, bridge",
    "netlink faults in ADD, bridge",
    "file faults in ADD, routed, agent away",
    "netlink faults in ADD, routed, agent away",
    "file faults in DEL, bridge",
    "netlink faults in DEL, bridge",
    "netlink faults in DEL, routed, agent away",
    "file faults in DEL with compaction, routed, agent away",
    "file faults in GC, bridge",
    "netlink faults in GC, bridge",
    "signals in ADD, bridge",
    "signals in DEL, bridge",
];

/// The system calls that a signal may interrupt (their manual pages list EINTR): they are made again.
pub(crate) const INTERRUPTIBLE: &[&str] = &[
    "connect",
    "fdatasync",
    "flock",
    "fsync",
    "ftruncate",
    "open",
    "openat",
    "read",
    "recvfrom",
    "sendto",
    "write",
];

/// Which of several injections a point is tried with.
#[derive(Debug, Clone, Copy)]
enum Each {
    All,
    InTurn,
}

/// How a call comes about, and what must be so after it was disturbed.
pub(crate) struct Sweep {
    /// Its name in what is printed.
    pub(crate) name: &'static str,
    /// The network.
    pub(crate) mode: Mode,
    /// Makes the node ready for the call.
    pub(crate) prepare: fn(&Scene),
    /// The call.
    pub(crate) call: fn(&Scene) -> Call,
    /// A system call that it makes if it does what it is here for.
    pub(crate) shows: &'static str,
    /// Removes what an undisturbed call leaves, after it was recorded.
    pub(crate) tidy: fn(&Scene),
    /// Judges what a disturbed call has left, and leaves the node as it was. True if the call succeeded.
    pub(crate) judge: fn(&Scene, &Ended) -> Result<bool, Harm>,
}

impl Sweep {
    /// Kills the call at every system call that a recording shows.
    pub(crate) fn kill(&self) {
        self.kill_at(|_| true);
    }

    /// Kills the call at those of its system calls that are chosen.
    pub(crate) fn kill_at(&self, chosen: fn(&Point) -> bool) {
        self.run(&[Inject::Kill], chosen, Each::All);
    }

    /// Fails each of the call's system calls that are chosen with each error.
    pub(crate) fn fail(&self, errors: &[&'static str], chosen: fn(&Point) -> bool) {
        self.run(&errors.iter().map(|error| Inject::Error(error)).collect::<Vec<_>>(), chosen, Each::All);
    }

    /// Fails each of the call's system calls that are chosen with one of the errors, which take turns.
    pub(crate) fn fail_in_turn(&self, errors: &[&'static str], chosen: fn(&Point) -> bool) {
        self.run(&errors.iter().map(|error| Inject::Error(error)).collect::<Vec<_>>(), chosen, Each::InTurn);
    }

    fn run(&self, injections: &[Inject], chosen: fn(&Point) -> bool, each: Each) {
        let Some(scene) = Scene::new(self.mode) else { return };
        let began = Instant::now();
        let mut tally = Tally::default();
        let points = self.points(&scene, &mut tally).into_iter().filter(chosen);
        drop(scene);
        let plan: Vec<(Point, Inject)> = match each {
            Each::InTurn => points.zip(injections.iter().copied().cycle()).collect(),
            Each::All => {
                points.flat_map(|point| injections.iter().map(move |i| (point.clone(), *i))).collect()
            }
        };
        assert!(!plan.is_empty(), "{}: no point is chosen", self.name);
        let all = &plan;
        let parts = thread::scope(|scope| {
            let begin = |first| scope.spawn(move || self.try_all(all.iter().skip(first).step_by(AT_ONCE)));
            let parts: Vec<_> = (0..AT_ONCE.min(plan.len())).map(begin).collect();
            parts.into_iter().map(|part| part.join().unwrap()).collect::<Vec<_>>()
        });
        let mut wrong = Vec::new();
        for (part, said) in parts {
            tally.add(part);
            wrong.extend(said);
        }
        let tried = tally.killed + tally.failed + tally.not_reached;
        report(self.name, tally, began, ALL);
        assert!(wrong.is_empty(), "{}: {} points:\n{}", self.name, wrong.len(), wrong.join("\n"));
        assert_eq!(tried, plan.len(), "{}: not every point was tried", self.name);
        let allowed = plan.len() * OUT_OF_REACH / 100;
        assert!(tally.not_reached <= allowed, "{}: {} out of reach", self.name, tally.not_reached);
    }

    /// Tries points one after another on a node of their own; what came of it, and what was wrong.
    fn try_all<'a>(&self, points: impl Iterator<Item = &'a (Point, Inject)>) -> (Tally, Vec<String>) {
        let mut scene = Scene::new(self.mode).unwrap();
        let (mut tally, mut wrong) = (Tally::default(), Vec::new());
        for (point, inject) in points {
            let Err(harm) = self.try_at(&scene, (point, *inject), &mut tally) else { continue };
            let what = format!("{inject:?} at {} {}: {harm:?}", point.name, point.number);
            write(&format!("crash: {}: {what}\n", self.name));
            wrong.push(what);
            tally.count(&harm);
            // What is wrong with this node must not be found again.
            scene = Scene::new(self.mode).unwrap();
        }
        (tally, wrong)
    }

    /// The points of two runs: what either shows is tried. Of several runs they are those that show least: a call that
    /// has to wait looks again and again, and the next one may not.
    fn points(&self, scene: &Scene, tally: &mut Tally) -> Vec<Point> {
        let mut recordings: Vec<_> = (0..RECORDINGS).map(|_| self.record(scene)).collect();
        recordings.sort_by_key(|recording| recording.seen);
        let (first, second) = (&recordings[0], &recordings[1]);
        tally.beside = first.beside();
        let mut points = first.points.clone();
        points.extend(second.points.iter().filter(|point| !first.points.contains(point)).cloned());
        let shown = points.iter().any(|point| point.own && point.name == self.shows);
        assert!(shown, "{}: no {} among {} points", self.name, self.shows, points.len());
        points
    }

    fn record(&self, scene: &Scene) -> Recording {
        (self.prepare)(scene);
        let recording = scene.record(&(self.call)(scene));
        (self.tidy)(scene);
        recording
    }

    fn try_at(
        &self,
        scene: &Scene,
        (point, inject): (&Point, Inject),
        tally: &mut Tally,
    ) -> Result<(), Harm> {
        for _ in 0..TRIES {
            (self.prepare)(scene);
            let (ended, reached) = scene.disturb(&(self.call)(scene), point, inject);
            let succeeded = (self.judge)(scene, &ended)?;
            if reached {
                let interrupted =
                    inject == Inject::Error("EINTR") && INTERRUPTIBLE.contains(&point.name.as_str());
                if interrupted && !succeeded {
                    return Err(Harm::Untruth(format!("a signal in between is a failure: {ended:?}")));
                }
                match inject {
                    Inject::Kill => tally.killed += 1,
                    Inject::Error(_) => tally.failed += 1,
                }
                tally.survived += usize::from(succeeded && inject != Inject::Kill);
                return Ok(());
            }
        }
        tally.not_reached += 1;
        Ok(())
    }
}
