//! Which labels are meant.

use std::collections::BTreeSet;
use std::fmt;

use crate::labels::Labels;

/// What labels must be like; all requirements have to hold. Without any it selects everything.
///
/// Requirements are in order and none is there twice, so selectors that are written with the same requirements are
/// equal. `matchLabels` are requirements with one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Selector(BTreeSet<Requirement>);

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label is there, with one of these values.
    In(String, Values),
    /// The label isn't there, or has another value than these.
    NotIn(String, Values),
    /// The label is there.
    Exists(String),
    /// The label isn't there.
    DoesNotExist(String),
}

/// Values of a label, at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Values(BTreeSet<String>);

impl Values {
    /// These values; `None` without any.
    pub fn new(values: impl IntoIterator<Item = String>) -> Option<Self> {
        let values = BTreeSet::from_iter(values);
        (!values.is_empty()).then_some(Self(values))
    }

    /// The one value.
    pub fn one(value: impl Into<String>) -> Self {
        Self(BTreeSet::from([value.into()]))
    }
}

impl Requirement {
    /// True if labels are as required.
    pub fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.0.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.0.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

impl Selector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// True if it selects whatever there is.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// True if something with these labels is selected.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// Its requirements, in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Self(requirements.into_iter().collect())
    }
}

impl fmt::Display for Selector {
    /// As `kubectl get --selector` takes it, in braces: `{app=web,tier in (a,b),!old}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, requirement) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            write!(f, "{separator}{requirement}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(key, values) if values.0.len() == 1 => write!(f, "{key}={}", values.listed()),
            Self::In(key, values) => write!(f, "{key} in ({})", values.listed()),
            Self::NotIn(key, values) if values.0.len() == 1 => write!(f, "{key}!={}", values.listed()),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", values.listed()),
            Self::Exists(key) => f.write_str(key),
            Self::DoesNotExist(key) => write!(f, "!{key}"),
        }
    }
}

impl Values {
    /// The values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn listed(&self) -> String {
        self.iter().collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn values(text: &str) -> Values {
        Values::new(text.split(',').map(str::to_owned)).unwrap()
    }

    #[test]
    fn each_operator_holds_where_it_should() {
        let key = || "app".to_owned();
        let table = [
            (Requirement::In(key(), values("web,db")), ["app=web", "app=db,x=y"], ["app=dns", "x=web"]),
            (Requirement::NotIn(key(), values("web,db")), ["app=dns", "x=web"], ["app=web", "app=db"]),
            (Requirement::NotIn(key(), values("web")), ["", "app="], ["app=web", "app=web,x=y"]),
            (Requirement::In(key(), values("")), ["app=", "app=,x=y"], ["", "app=web"]),
            (Requirement::Exists(key()), ["app=web", "app="], ["", "x=y"]),
            (Requirement::DoesNotExist(key()), ["", "x=y"], ["app=web", "app="]),
        ];
        for (requirement, held, broken) in table {
            for text in held {
                assert!(requirement.holds(&labels(text)), "{requirement} holds for {text:?}");
            }
            for text in broken {
                assert!(!requirement.holds(&labels(text)), "{requirement} is broken by {text:?}");
            }
        }
    }

    #[test]
    fn every_requirement_must_hold_and_none_selects_everything() {
        let selector = Selector::from_iter([
            Requirement::DoesNotExist("old".to_owned()),
            Requirement::In("app".to_owned(), values("web")),
            Requirement::NotIn("tier".to_owned(), values("b,a")),
        ]);
        assert_eq!(selector.to_string(), "{app=web,tier notin (a,b),!old}");
        assert!(selector.selects(&labels("app=web,tier=c")));
        assert!(!selector.selects(&labels("app=web,tier=a")));
        assert!(!selector.selects(&labels("app=web,old=")));
        assert!(Selector::everything().selects(&labels("")) && Selector::everything().is_everything());
    }
}
