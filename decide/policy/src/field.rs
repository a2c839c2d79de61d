//! Reading the fields of a JSON object, each with its path.

use serde_json::Value;

/// A value and the path that led to it.
pub(crate) struct Field<'a> {
    path: String,
    value: &'a Value,
}

/// What is wrong with a field.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) what: String,
}

impl<'a> Field<'a> {
    pub(crate) fn root(path: &str, value: &'a Value) -> Self {
        Self { path: path.to_owned(), value }
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The field of that name; one that is null is as good as none. Fails unless this is an object, or null itself.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Field<'a>>, Fault> {
        match self.value {
            Value::Null => Ok(None),
            Value::Object(fields) => {
                let value = fields.get(key).filter(|value| !value.is_null());
                Ok(value.map(|value| Field { path: self.path_of(key), value }))
            }
            _ => Err(self.must_be("a mapping")),
        }
    }

    /// The field of that name, which must be there.
    pub(crate) fn require(&self, key: &str) -> Result<Field<'a>, Fault> {
        let missing = || Fault { path: self.path_of(key), what: "is missing".to_owned() };
        self.get(key)?.ok_or_else(missing)
    }

    /// The items of the list under that key; none if it is missing.
    pub(crate) fn list(&self, key: &str) -> Result<Vec<Field<'a>>, Fault> {
        let Some(field) = self.get(key)? else { return Ok(Vec::new()) };
        let Value::Array(items) = field.value else { return Err(field.must_be("a list")) };
        let item = |(i, value)| Field { path: format!("{}[{i}]", field.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The keys and values under that key; none if it is missing.
    pub(crate) fn entries(&self, key: &str) -> Result<Vec<(&'a str, Field<'a>)>, Fault> {
        let Some(field) = self.get(key)? else { return Ok(Vec::new()) };
        let Value::Object(fields) = field.value else { return Err(field.must_be("a mapping")) };
        let entry = |(key, value): (&'a String, _)| (&**key, Field { path: field.path_of(key), value });
        Ok(fields.iter().map(entry).collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, Fault> {
        self.value.as_str().ok_or_else(|| self.must_be("text"))
    }

    /// Fails at a field that is none of `known`: it may narrow what the others say.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let Value::Object(fields) = self.value else { return Ok(()) };
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let what = format!("is not known here; known are {}", known.join(", "));
                Err(Fault { path: self.path_of(key), what })
            }
        }
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { path: self.path.clone(), what: what.into() }
    }

    pub(crate) fn must_be(&self, expected: &str) -> Fault {
        let found = match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        self.fault(format!("must be {expected}, but is {found}"))
    }

    fn path_of(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
        if plain { format!("{}.{key}", self.path) } else { format!("{}[{key:?}]", self.path) }
    }
}
