//! Manifests that are not in force: read by the same rules, all or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::object::{self, Manifest, Object, ObjectKey, Read, Type};
use crate::problem::{Cause, InForce, Place, Problem};
use crate::yaml::{self, Field, Position};

/// The objects of texts, each by the name of its file.
///
/// # Errors
/// Everything that is wrong with them, in order: a document or a field that is no good, or an object that is there twice.
pub fn read<'a>(texts: impl IntoIterator<Item = (&'a Path, &'a [u8])>) -> Result<Vec<Object>, Vec<Problem>> {
    let mut reading = Reading::default();
    for (file, text) in texts {
        file.clone_into(&mut reading.file);
        for document in yaml::documents(text, object::UNREAD) {
            match document {
                Ok(document) => reading.manifest(&Field::root(&document), None, Within::Document),
                Err(fault) => reading.problem((fault.at, None), Cause::Fault(fault)),
            }
        }
    }
    if reading.problems.is_empty() { Ok(reading.objects) } else { Err(reading.problems) }
}

#[derive(Default)]
struct Reading {
    /// The file that is read.
    file: PathBuf,
    objects: Vec<Object>,
    keys: BTreeMap<ObjectKey, Place>,
    problems: Vec<Problem>,
}

/// Where a manifest stands.
#[derive(Clone, Copy)]
enum Within {
    Document,
    List,
}

impl Reading {
    fn manifest(&mut self, field: &Field<'_>, given: Option<Type>, within: Within) {
        match (object::read(field, given), within) {
            (Ok(Manifest::List { items, kind }), Within::Document) => {
                items.iter().for_each(|item| self.manifest(item, kind, Within::List));
            }
            (Ok(Manifest::List { .. }), Within::List) => {
                self.problem((field.at(), None), Cause::ListInList);
            }
            (Ok(Manifest::Other), _) => {}
            (Ok(Manifest::Object { key, object: Ok(Read { object, without }) }), _) => {
                for fault in without {
                    self.problem((fault.at, Some(key.clone())), Cause::Fault(fault));
                }
                match self.keys.get(&key).cloned() {
                    Some(first) => self.problem((field.at(), Some(key)), Cause::Duplicate { first }),
                    None => {
                        self.keys.insert(key, self.place(field.at()));
                        self.objects.push(object);
                    }
                }
            }
            (Ok(Manifest::Object { key, object: Err(refusal) }), _) => {
                self.problem((refusal.fault.at, Some(key)), Cause::Fault(refusal.fault));
            }
            (Err(fault), _) => self.problem((fault.at, None), Cause::Fault(fault)),
        }
    }

    fn place(&self, at: Position) -> Place {
        Place { file: self.file.clone(), at: Some(at) }
    }

    fn problem(&mut self, (at, object): (Position, Option<ObjectKey>), cause: Cause) {
        let place = self.place(at);
        self.problems.push(Problem { place, object, cause, in_force: InForce::Nothing });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Vec<String>, Vec<String>> {
        let read = read([(Path::new("a.yaml"), text.as_bytes())]);
        let keys = read.map(|objects| objects.iter().map(|object| object.key().to_string()).collect());
        keys.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    const DENY: &str = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny}";

    #[test]
    fn several_documents_and_lists_are_read_and_other_kinds_passed_over() {
        let text = format!(
            "{DENY}, spec: {{podSelector: {{}}}}}}\n---\n{{apiVersion: apps/v1, kind: Deployment}}\n---\n\
             {{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: Namespace, metadata: {{name: shop}}}}]}}\n"
        );
        let expected = ["NetworkPolicy default/deny", "Namespace shop"].map(str::to_owned).to_vec();
        assert_eq!(told(&text), Ok(expected));
    }

    #[test]
    fn nothing_is_read_of_what_is_wrong_anywhere() {
        let good = format!("{DENY}, spec: {{podSelector: {{}}}}}}");
        let bad = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: bad, namespace: x}, \
                   spec: {ingress: [{ports: [{port: 0}]}]}}";
        let problems = told(&format!("{good}\n---\n{bad}\n---\n{good}\n---\n[\n")).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let starts = [
            "a.yaml:3:127: NetworkPolicy x/bad: spec.ingress[0].ports[0].port: ",
            "a.yaml:5:1: NetworkPolicy default/deny: is already declared at a.yaml:1:1",
            "a.yaml:7:",
        ];
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }
}
