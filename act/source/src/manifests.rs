//! From the texts of manifests to a cluster, the last good state of each object in force.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use selvedge_model::policy::{Mode, PolicyKey};
use selvedge_model::{Cluster, Listing, Node, NodeName, PodKey};

use self::merged::{Changes, Merged};
use crate::keys::Keys;
use crate::networks::Networks;
use crate::object::{self, Manifest, Object, ObjectKey, Read, Refusal, Type};
use crate::problem::{Cause, InForce, Place, Problem};
use crate::yaml::{self, Field, Position};

/// What a reading of all manifests came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The cluster in force.
    pub cluster: Cluster,
    /// What is wrong, file by file.
    pub problems: Vec<Problem>,
}

impl Snapshot {
    /// True if what isn't in the cluster is not in force: nothing was broken already when it was first read, or all
    /// that was has been read since ([`InForce::Unknown`]).
    ///
    /// When it is false, nothing should be pruned because the cluster lacks it.
    pub fn is_whole(&self) -> bool {
        is_whole(&self.problems)
    }
}

/// What a file has now.
#[derive(Debug)]
pub enum Text {
    /// This, unless it can't be read.
    Now(io::Result<Vec<u8>>),
    /// What it had when it was last read, if it ever was.
    AsBefore,
}

/// The manifests as they were last read.
///
/// A file that can't be read keeps its objects. An object with a bad field keeps its last good form; a NetworkPolicy
/// that never had one closes the pods that it selects. While a file has a document that doesn't say which object it is,
/// because it is no YAML or lacks a name, every object of that file that no other document of it declares stays.
/// Deleting the file removes its objects.
#[derive(Debug, Default)]
pub struct Manifests {
    files: BTreeMap<PathBuf, File>,
    unlisted: Option<Problem>,
    keys: Keys,
    /// What all of it came to, as long as nothing was wrong with it.
    merged: Option<Merged>,
    /// False until the first update is done.
    begun: bool,
}

/// A file as it was last read.
#[derive(Debug, Default)]
struct File {
    /// Of the text that `objects` and `problems` come from; none if the last reading failed.
    digest: Option<u64>,
    /// True if all that may be in force on the file's account is among `objects`.
    known: bool,
    objects: Vec<Declared>,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Declared {
    /// None if the present text doesn't have it in a good form.
    at: Option<Position>,
    object: Object,
}

impl Manifests {
    /// Takes the texts of all files that the directory has now, and gives the cluster that is in force.
    ///
    /// Only texts that differ from the last ones are read again.
    pub fn update(&mut self, files: BTreeMap<PathBuf, io::Result<Vec<u8>>>) -> Snapshot {
        self.update_changed(files.into_iter().map(|(path, text)| (path, Text::Now(text))).collect())
    }

    /// The same where the texts of some files are known to be as before.
    pub fn update_changed(&mut self, files: BTreeMap<PathBuf, Text>) -> Snapshot {
        self.unlisted = None;
        let mut changes = Changes::default();
        for (_, gone) in self.files.extract_if(.., |path, _| !files.contains_key(path)) {
            changes.note(gone.nodes(), Some(Vec::new()));
        }
        for (path, text) in files {
            let Text::Now(text) = text else { continue };
            // A file that comes later had nothing in force before.
            let new = || File { known: self.begun, ..File::default() };
            let file = self.files.entry(path.clone()).or_insert_with(new);
            let (digest, before) = (file.digest, file.nodes());
            match text {
                Ok(text) => file.read(&path, &text),
                Err(error) => file.fail(path, Cause::Unreadable(error.to_string())),
            }
            if file.digest.is_none() || file.digest != digest {
                changes.note(before, file.nodes());
            }
        }
        self.begun = true;
        self.merged = self.merged.take().and_then(|merged| merged.after(changes, &self.keys));
        self.snapshot()
    }

    /// The directory can't be listed: everything stays as it is, and that is a problem.
    pub fn unlisted(&mut self, directory: &Path, error: &io::Error) -> Snapshot {
        self.unlisted = Some(Problem {
            place: Place { file: directory.to_owned(), at: None },
            object: None,
            cause: Cause::Unreadable(error.to_string()),
            in_force: InForce::LastGood,
        });
        self.snapshot()
    }

    /// Takes what all files of the directory of keys hold, each named by its node; the hidden ones are not among them.
    /// What such a file says goes before an annotation of the Node.
    pub fn update_keys(&mut self, files: BTreeMap<PathBuf, io::Result<Vec<u8>>>) {
        self.merged = None;
        self.keys.update(files);
    }

    /// The directory of keys can't be listed: everything stays as it is, and that is a problem.
    pub fn keys_unlisted(&mut self, directory: &Path, error: &io::Error) {
        self.merged = None;
        self.keys.unlisted(directory, error);
    }

    /// The cluster that is in force.
    pub fn snapshot(&mut self) -> Snapshot {
        if let Some(merged) = self.merged.as_ref().filter(|_| self.unlisted.is_none()) {
            return Snapshot { cluster: merged.cluster.clone(), problems: Vec::new() };
        }
        let snapshot = self.merge();
        self.merged = snapshot.problems.is_empty().then(|| Merged::of(&snapshot.cluster));
        snapshot
    }

    fn merge(&self) -> Snapshot {
        let mut merge = Merge::new(&self.keys);
        merge.problems.extend(self.unlisted.clone());
        merge.problems.extend(self.keys.problems().cloned());
        for (path, file) in &self.files {
            merge.problems.extend(file.problems.iter().cloned());
            for declared in &file.objects {
                merge.add(declared, (path, declared.at));
            }
        }
        let Merge { mut listing, problems, .. } = merge;
        // What nothing declares may have been declared where nothing could be read yet, with labels.
        if is_whole(&problems) {
            listing.imply_namespaces();
        }
        Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
        let cluster = listing.finish().expect("every kind has just been declared complete");
        Snapshot { cluster, problems }
    }
}

impl File {
    /// Its nodes, if there is nothing else in it and nothing wrong with it.
    fn nodes(&self) -> Option<Vec<Node>> {
        let node = |declared: &Declared| match &declared.object {
            Object::Node(node) => Some(node.clone()),
            Object::Pod(_) | Object::Policy(_) | Object::Namespace(..) => None,
        };
        if self.problems.is_empty() { self.objects.iter().map(node).collect() } else { None }
    }

    fn read(&mut self, path: &Path, text: &[u8]) {
        let digest = Some(digest(text));
        if digest == self.digest {
            return;
        }
        if text.trim_ascii().is_empty() && !self.objects.is_empty() {
            self.fail(path.to_owned(), Cause::Emptied);
            return;
        }
        let mut reading = Reading::new(path, mem::take(self));
        for document in yaml::documents(text, object::UNREAD) {
            match document {
                Ok(document) => reading.document(&Field::root(&document)),
                Err(fault) => reading.unclear(fault.at, Cause::Fault(fault)),
            }
        }
        *self = Self { digest, ..reading.finish() };
    }

    /// Everything stays, and that is a problem.
    fn fail(&mut self, file: PathBuf, cause: Cause) {
        let in_force = in_force(self.known, !self.objects.is_empty());
        self.problems = vec![Problem { place: Place { file, at: None }, object: None, cause, in_force }];
        self.digest = None;
    }
}

/// A file's new text while it is read.
struct Reading<'a> {
    file: &'a Path,
    previous: BTreeMap<ObjectKey, Object>,
    was_known: bool,
    now: File,
    /// True once something in the text doesn't say which object it is.
    unclear: bool,
}

impl<'a> Reading<'a> {
    fn new(file: &'a Path, previous: File) -> Self {
        let was_known = previous.known;
        // Of two objects with one key the first is in force, so it is put in last.
        let previous = previous.objects.into_iter().rev().map(|d| (d.object.key(), d.object)).collect();
        Self { file, previous, was_known, now: File::default(), unclear: false }
    }

    fn document(&mut self, document: &Field<'_>) {
        match object::read(document, None) {
            Ok(Manifest::List { items, kind }) => items.iter().for_each(|item| self.item(item, kind)),
            Ok(Manifest::Object { key, object }) => self.object(document.at(), key, object),
            Ok(Manifest::Other) => {}
            Err(fault) => self.unclear(fault.at, Cause::Fault(fault)),
        }
    }

    fn item(&mut self, item: &Field<'_>, kind: Option<Type>) {
        match object::read(item, kind) {
            Ok(Manifest::List { .. }) => self.unclear(item.at(), Cause::ListInList),
            Ok(Manifest::Object { key, object }) => self.object(item.at(), key, object),
            Ok(Manifest::Other) => {}
            Err(fault) => self.unclear(fault.at, Cause::Fault(fault)),
        }
    }

    fn object(&mut self, at: Position, key: ObjectKey, object: Result<Read, Refusal>) {
        match object {
            Ok(Read { object, without }) => {
                self.now.objects.push(Declared { at: Some(at), object });
                self.now.problems.extend(without.into_iter().map(|fault| Problem {
                    place: Place { file: self.file.to_owned(), at: Some(fault.at) },
                    object: Some(key.clone()),
                    cause: Cause::Fault(fault),
                    in_force: InForce::Rest,
                }));
            }
            Err(Refusal { fault, closed }) => {
                let kept = self.previous.get(&key).filter(|kept| !kept.is_stand_in()).cloned();
                let in_force = match (&kept, &closed) {
                    (None, Some(closed)) if closed.mode == Mode::Enforced => InForce::Closed,
                    (None, Some(_shadow)) => InForce::Nothing,
                    _ => in_force(self.was_known || kept.is_some(), kept.is_some()),
                };
                let kept = kept.or_else(|| closed.map(Object::Policy));
                self.now.objects.extend(kept.map(|object| Declared { at: None, object }));
                let place = Place { file: self.file.to_owned(), at: Some(fault.at) };
                let cause = Cause::Fault(fault);
                self.now.problems.push(Problem { place, object: Some(key), cause, in_force });
            }
        }
    }

    fn unclear(&mut self, at: Position, cause: Cause) {
        self.unclear = true;
        let place = Place { file: self.file.to_owned(), at: Some(at) };
        let in_force = in_force(self.was_known, !self.previous.is_empty());
        self.now.problems.push(Problem { place, object: None, cause, in_force });
    }

    fn finish(self) -> File {
        let mut file = self.now;
        if self.unclear {
            let declared: BTreeSet<ObjectKey> = file.objects.iter().map(|d| d.object.key()).collect();
            let kept = self.previous.into_iter().filter(|(key, _)| !declared.contains(key));
            let kept = kept.map(|(_, object)| Declared { at: None, object });
            // In front, since what was in force comes before what is new.
            file.objects.splice(0..0, kept);
        }
        file.known = is_whole(&file.problems);
        file
    }
}

/// The objects of all files on their way into one cluster. There may be thousands, so names and places are copied only
/// where something is wrong.
struct Merge<'a> {
    listing: Listing,
    problems: Vec<Problem>,
    places: BTreeMap<Name<'a>, At<'a>>,
    networks: Networks<&'a Node>,
    keys: &'a Keys,
}

/// A file, and where in it.
type At<'a> = (&'a Path, Option<Position>);

/// An object's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name<'a> {
    Node(&'a NodeName),
    Pod(&'a PodKey),
    Namespace(&'a str),
    Policy(&'a PolicyKey),
}

impl<'a> Merge<'a> {
    fn new(keys: &'a Keys) -> Self {
        let (listing, networks) = (Listing::default(), Networks::default());
        Self { listing, problems: Vec::new(), places: BTreeMap::new(), networks, keys }
    }

    fn add(&mut self, declared: &'a Declared, at: At<'a>) {
        let name = Name::of(&declared.object);
        if let Some(first) = self.places.get(&name) {
            let (object, cause) = (Some(declared.object.key()), Cause::Duplicate { first: place(*first) });
            self.problems.push(Problem { place: place(at), object, cause, in_force: InForce::Nothing });
            return;
        }
        self.places.insert(name, at);
        match &declared.object {
            Object::Pod(pod) => self.listing.pod(Arc::clone(pod)),
            Object::Policy(policy) => self.listing.policy(Arc::clone(policy)),
            Object::Namespace(name, namespace) => self.listing.namespace(name, namespace.clone()),
            Object::Node(declared) => {
                let mut node = declared.clone();
                node.pod_cidrs.retain(|cidr| self.claim(*cidr, declared, at));
                node.wireguard = self.keys.of(&node.name).or(node.wireguard);
                self.listing.node(node);
            }
        }
    }

    /// True if a Node may have the network, which is then taken.
    fn claim(&mut self, cidr: IpNet, node: &'a Node, at: At<'a>) -> bool {
        let Err((other, owner)) = self.networks.claim(cidr, node) else { return true };
        let first = place(self.places[&Name::Node(&owner.name)]);
        let owner = ObjectKey::Node(owner.name.clone());
        let cause = Cause::Overlap { cidr, other: *other, owner, first };
        let object = Some(ObjectKey::Node(node.name.clone()));
        self.problems.push(Problem { place: place(at), object, cause, in_force: InForce::Nothing });
        false
    }
}

impl<'a> Name<'a> {
    fn of(object: &'a Object) -> Self {
        match object {
            Object::Node(node) => Self::Node(&node.name),
            Object::Pod(pod) => Self::Pod(&pod.key),
            Object::Namespace(name, _) => Self::Namespace(name),
            Object::Policy(policy) => Self::Policy(&policy.key),
        }
    }
}

fn place((file, at): At<'_>) -> Place {
    Place { file: file.to_owned(), at }
}

/// True if none of the problems hides what may have been in force before our first reading.
fn is_whole(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| problem.in_force != InForce::Unknown)
}

/// What is in force where something can't be read, given whether all that may be in force is known and whether
/// something of it was kept.
fn in_force(known: bool, kept: bool) -> InForce {
    match (known, kept) {
        (false, _) => InForce::Unknown,
        (true, true) => InForce::LastGood,
        (true, false) => InForce::Nothing,
    }
}

fn digest(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

mod merged;

#[cfg(test)]
mod tests;
