//! From parser events to [`Node`] trees.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::rc::Rc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use super::{Entry, Fault, Located, Node, Position, Value};

/// The documents of a text, in order; one that is broken is a fault in its place, and the next one is read again.
///
/// A text that is not UTF-8 is a single fault. Empty documents come as [`Value::Null`]. Lists and mappings under the
/// keys `unread` are checked for syntax and left out, wherever they are, so that they take no room; in their place is
/// [`Value::Unread`], which nobody takes for nothing.
pub fn documents<'a>(text: &'a [u8], unread: &'static [&'static str]) -> Documents<'a> {
    match str::from_utf8(text) {
        Ok(text) => Documents { parser: Some(Parser::new_from_str(text)), not_utf8: None, unread },
        Err(error) => {
            let good = str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default();
            let line = good.matches('\n').count() + 1;
            let column = good.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let fault =
                Located { at: Position { line, column }, path: String::new(), fault: Fault::Encoding };
            Documents { parser: None, not_utf8: Some(fault), unread }
        }
    }
}

/// See [`documents`].
pub struct Documents<'a> {
    /// Nothing once the text is read through.
    parser: Option<Parser<'a, StrInput<'a>>>,
    not_utf8: Option<Located>,
    unread: &'static [&'static str],
}

impl Iterator for Documents<'_> {
    type Item = Result<Rc<Node>, Located>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fault) = self.not_utf8.take() {
            return Some(Err(fault));
        }
        let parser = self.parser.as_mut()?;
        let mut tree = Tree { unread: self.unread, ..Tree::default() };
        loop {
            match parser.next() {
                Some(Ok((Event::DocumentEnd, _))) => return Some(tree.finish()),
                Some(Ok((event, span))) => tree.take(event, position(&span.start)),
                Some(Err(error)) => {
                    if !matches!(parser.proceed_next_document(), Ok(true)) {
                        self.parser = None;
                    }
                    let fault = Fault::Syntax(error.info());
                    return Some(Err(Located { at: position(error.marker()), path: String::new(), fault }));
                }
                None => {
                    self.parser = None;
                    return None;
                }
            }
        }
    }
}

fn position(mark: &Marker) -> Position {
    Position { line: mark.line(), column: mark.col() + 1 }
}

/// How deep a tree may be. The parser holds what is written to fewer levels, but aliases of aliases have no such
/// limit, and a tree is dropped level by level on the stack.
const MAX_DEPTH: usize = 512;

/// The tree of one document while its events come in.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    /// The anchored nodes and the depth of each.
    anchors: BTreeMap<usize, (Rc<Node>, usize)>,
    root: Option<Rc<Node>>,
    /// The first fault that is ours rather than the parser's; the events are read on to the document's end.
    fault: Option<Located>,
    unread: &'static [&'static str],
}

/// A collection whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    /// The levels below this one, so far.
    depth: usize,
    items: Items,
}

enum Items {
    List(Vec<Rc<Node>>),
    Map { entries: BTreeMap<String, Entry>, key: Option<(String, Position)> },
}

impl Tree {
    fn take(&mut self, event: Event<'_>, at: Position) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                // A key is its text, whatever type a value so written would have.
                let value =
                    if self.wants_key() { Value::Text(text.into_owned()) } else { scalar(text, style, tag) };
                self.place(Rc::new(Node { at, value }), 0, anchor);
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { at, anchor, depth: 0, items: Items::List(Vec::new()) });
            }
            Event::MappingStart(_, anchor, _) => {
                let items = Items::Map { entries: BTreeMap::new(), key: None };
                self.open.push(Open { at, anchor, depth: 0, items });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { at, anchor, depth, items }) = self.open.pop() {
                    let value = match items {
                        Items::List(list) => Value::List(list),
                        Items::Map { entries, .. } => Value::Map(entries),
                    };
                    self.place(Rc::new(Node { at, value }), depth + 1, anchor);
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((node, depth)) => self.place(node, depth, 0),
                None => self.fail(at, Fault::Syntax("an alias within its own anchor".to_owned())),
            },
            // Neither comments nor unresolved aliases are asked for; the rest says where documents begin and end.
            _ => {}
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { items: Items::Map { key: None, .. }, .. }))
    }

    /// Puts a whole node where it belongs: the document itself, an item, a key or a key's value.
    fn place(&mut self, node: Rc<Node>, depth: usize, anchor: usize) {
        if depth > MAX_DEPTH {
            self.fail(node.at, Fault::Syntax(format!("aliases nest more than {MAX_DEPTH} levels deep")));
            return self.place(Rc::new(Node { at: node.at, value: Value::Null }), 0, anchor);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), depth));
        }
        let parent = self.open.last_mut().map(|open| {
            open.depth = open.depth.max(depth);
            &mut open.items
        });
        match parent {
            None => self.root = Some(node),
            Some(Items::List(list)) => list.push(node),
            Some(Items::Map { entries, key }) => match key.take() {
                None => {
                    let (at, (text, fault)) = (node.at, as_key(&node));
                    *key = Some((text, at));
                    fault.into_iter().for_each(|fault| self.fail(at, fault));
                }
                Some((key, at)) => match entries.entry(key) {
                    Slot::Vacant(slot) => {
                        let left_out = node.value.is_collection() && self.unread.contains(&&**slot.key());
                        let unread = || Rc::new(Node { at: node.at, value: Value::Unread });
                        slot.insert(Entry { at, node: if left_out { unread() } else { node } });
                    }
                    Slot::Occupied(slot) => {
                        let key = slot.key().clone();
                        self.fail(at, Fault::KeyTwice { key });
                    }
                },
            },
        }
    }

    fn fail(&mut self, at: Position, fault: Fault) {
        self.fault.get_or_insert(Located { at, path: String::new(), fault });
    }

    fn finish(self) -> Result<Rc<Node>, Located> {
        let nothing = || Rc::new(Node { at: Position { line: 1, column: 1 }, value: Value::Null });
        self.fault.map_or_else(|| Ok(self.root.unwrap_or_else(nothing)), Err)
    }
}

/// A key's text, and what is wrong with it as a key.
fn as_key(node: &Node) -> (String, Option<Fault>) {
    match &node.value {
        Value::Text(text) => (text.clone(), (text == "<<").then_some(Fault::MergeKey)),
        _ => (String::new(), Some(Fault::NoKey)),
    }
}

/// Types a scalar by YAML 1.2's core schema (specification, section 10.3.2).
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<Cow<'_, Tag>>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if style != ScalarStyle::Plain || is_text {
        return Value::Text(text.into_owned());
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        number if is_number(number) => Value::Number(text.into_owned()),
        _ => Value::Text(text.into_owned()),
    }
}

fn is_number(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).is_ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).is_ok();
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    // Rust reads words such as "inf" and "nan" as numbers, YAML doesn't.
    unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit()) && text.parse::<f64>().is_ok()
        || matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
}
