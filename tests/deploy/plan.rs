//! What Terraform would make of the files of a folder: each resource with its values.

use std::collections::BTreeMap;
use std::fs;

use hcl::eval::{Context, Error, Evaluate};
use hcl::{Attribute, Block, Body, Expression, Value};

use crate::functions;
use crate::site::{deploy, text};

/// What only the cloud knows of resources and data, for each type: such an attribute is worth its own name.
const COMPUTED: [(&str, &[&str]); 10] = [
    ("aws_ami", &["id"]),
    ("aws_instance", &["id", "primary_network_interface_id", "public_ip"]),
    ("aws_internet_gateway", &["id"]),
    ("aws_route_table", &["id"]),
    ("aws_security_group", &["id"]),
    ("aws_subnet", &["id"]),
    ("aws_vpc", &["id"]),
    ("google_compute_instance", &["network_interface/0/access_config/0/nat_ip"]),
    ("google_compute_network", &["id"]),
    ("google_compute_subnetwork", &["id"]),
];

/// A folder's files, read.
#[derive(Debug)]
pub(crate) struct Files(Vec<Block>);

/// What comes of them with certain values of the variables.
#[derive(Debug)]
pub(crate) struct Plan {
    resources: Resources,
    outputs: BTreeMap<String, Value>,
}

/// By type and name.
type Resources = BTreeMap<String, BTreeMap<String, Resource>>;

/// A resource's values.
#[derive(Debug, Clone)]
enum Resource {
    One(Value),
    /// With `for_each`, by its keys.
    Each(BTreeMap<String, Value>),
}

impl Files {
    /// Those of `deploy/terraform/CLOUD`.
    pub(crate) fn of(cloud: &str) -> Self {
        let folder = deploy().join("terraform").join(cloud);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {folder:?}: {error}"));
        let mut blocks = Vec::new();
        for file in files {
            let path = file.expect("the folder is readable").path();
            if path.extension().is_some_and(|extension| extension == "tf") {
                let body = hcl::parse(&text(&path)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
                blocks.extend(body.into_blocks());
            }
        }
        Self(blocks)
    }

    pub(crate) fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        self.0.iter().filter(move |block| block.identifier() == kind)
    }

    /// What variables have against these values.
    pub(crate) fn refusals(&self, given: &[(&str, Value)]) -> Vec<String> {
        let context = self.context(given);
        let variables = self.blocks("variable").flat_map(|variable| variable.body().blocks());
        let validations = variables.filter(|block| block.identifier() == "validation");
        // What can't be evaluated is an error, which refuses too.
        let holds = |block: &Block| {
            let condition =
                attribute(block, "condition").map(|condition| condition.expr().evaluate(&context));
            matches!(condition, Some(Ok(Value::Bool(true))))
        };
        let refused = validations.filter(|block| !holds(block));
        refused.map(|block| string(&value(block, "error_message", &context))).collect()
    }

    pub(crate) fn plan(&self, given: &[(&str, Value)]) -> Plan {
        assert_eq!(self.refusals(given), Vec::<String>::new());
        let mut context = self.context(given);
        let locals = self.blocks("locals").flat_map(|block| block.body().attributes());
        let locals: Value = locals.map(|local| (local.key(), evaluated(local.expr(), &context))).collect();
        context.declare_var("local", locals);
        let mut data = Resources::new();
        for block in self.blocks("data") {
            let (kind, name) = (label(block, 0), label(block, 1));
            let one = computed(kind, &format!("data.{kind}.{name}"), Value::Object(hcl::Map::new()));
            let values = Resource::One(vec![one].into());
            data.entry(kind.to_owned()).or_default().insert(name.to_owned(), values);
        }
        context
            .declare_var("data", data.iter().map(|(kind, named)| (kind, values(named))).collect::<Value>());
        let resources = self.resources(&mut context);
        let outputs = self.blocks("output");
        let outputs = outputs.map(|block| (label(block, 0).to_owned(), value(block, "value", &context)));
        Plan { outputs: outputs.collect(), resources }
    }

    /// The functions, and the variables: what is given for them, or else their defaults.
    fn context(&self, given: &[(&str, Value)]) -> Context<'static> {
        let mut context = Context::new();
        functions::declare(&mut context);
        let variables = self.blocks("variable").map(|variable| {
            let name = label(variable, 0);
            let given = given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone());
            (name, given.unwrap_or_else(|| value(variable, "default", &context)))
        });
        let variables: Value = variables.collect();
        context.declare_var("var", variables);
        context
    }

    /// Each after those that it names, which the context has then.
    fn resources(&self, context: &mut Context<'_>) -> Resources {
        let mut done = Resources::new();
        let mut ahead: Vec<_> = self.blocks("resource").collect();
        while !ahead.is_empty() {
            let (before, mut faults) = (ahead.len(), Vec::new());
            ahead.retain(|block| {
                let (kind, name) = (label(block, 0), label(block, 1));
                match resource(block, context) {
                    Ok(values) => {
                        done.entry(kind.to_owned()).or_default().insert(name.to_owned(), values);
                        false
                    }
                    Err(error) => {
                        faults.push(format!("{kind}.{name}: {error}"));
                        true
                    }
                }
            });
            assert!(ahead.len() < before, "{}", faults.join("\n"));
            for (kind, named) in &done {
                context.declare_var(kind.as_str(), values(named));
            }
        }
        done
    }
}

impl Plan {
    /// Those of a resource with `for_each`, by its keys.
    pub(crate) fn each(&self, kind: &str, name: &str) -> &BTreeMap<String, Value> {
        match &self.resources[kind][name] {
            Resource::Each(each) => each,
            Resource::One(_) => panic!("{kind}.{name} has no for_each"),
        }
    }

    /// A resource without.
    pub(crate) fn the(&self, kind: &str, name: &str) -> &Value {
        match &self.resources[kind][name] {
            Resource::One(value) => value,
            Resource::Each(_) => panic!("{kind}.{name} has for_each"),
        }
    }

    pub(crate) fn output(&self, name: &str) -> &Value {
        &self.outputs[name]
    }
}

/// A value's field, or what is at an index; null if there is none.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(value, |value, step| match value {
        Value::Object(object) => object.get(step).unwrap_or(&Value::Null),
        Value::Array(array) => {
            step.parse().ok().and_then(|index: usize| array.get(index)).unwrap_or(&Value::Null)
        }
        _ => &Value::Null,
    })
}

/// A text.
pub(crate) fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text is expected: {value}")).to_owned()
}

pub(crate) fn label(block: &Block, place: usize) -> &str {
    block.labels()[place].as_str()
}

/// What a block says of an attribute; null if it doesn't.
pub(crate) fn value(block: &Block, name: &str, context: &Context<'_>) -> Value {
    attribute(block, name).map_or(Value::Null, |attribute| evaluated(attribute.expr(), context))
}

fn attribute<'a>(block: &'a Block, name: &str) -> Option<&'a Attribute> {
    block.body().attributes().find(|attribute| attribute.key() == name)
}

fn evaluated(expression: &Expression, context: &Context<'_>) -> Value {
    expression.evaluate(context).unwrap_or_else(|error| panic!("{error}"))
}

fn values(named: &BTreeMap<String, Resource>) -> Value {
    let value = |resource: &Resource| match resource {
        Resource::One(value) => value.clone(),
        Resource::Each(each) => each.clone().into_iter().collect(),
    };
    named.iter().map(|(name, resource)| (name, value(resource))).collect()
}

fn resource(block: &Block, context: &Context<'_>) -> Result<Resource, Error> {
    let (kind, name) = (label(block, 0), label(block, 1));
    let Some(for_each) = attribute(block, "for_each") else {
        return Ok(Resource::One(computed(kind, &format!("{kind}.{name}"), body(block.body(), context)?)));
    };
    let each = match for_each.expr().evaluate(context)? {
        Value::Object(each) => each.into_iter().collect(),
        Value::Array(set) => set.into_iter().map(|key| (string(&key), key)).collect(),
        other => panic!("{kind}.{name}: for_each is {other}"),
    };
    let each: Vec<(String, Value)> = each;
    let of = |(key, value): (String, Value)| {
        let mut context = context.clone();
        context.declare_var("each", Value::from_iter([("key", Value::from(key.as_str())), ("value", value)]));
        let values = computed(kind, &format!("{kind}.{name}[{key}]"), body(block.body(), &context)?);
        Ok((key, values))
    };
    each.into_iter().map(of).collect::<Result<_, _>>().map(Resource::Each)
}

/// The attributes, and a list of the blocks of each kind.
fn body(body: &Body, context: &Context<'_>) -> Result<Value, Error> {
    let mut object = hcl::Map::new();
    for attribute in body.attributes().filter(|attribute| attribute.key() != "for_each") {
        object.insert(attribute.key().to_owned(), attribute.expr().evaluate(context)?);
    }
    // What Terraform itself is told.
    for block in body.blocks().filter(|block| block.identifier() != "lifecycle") {
        let list = object.entry(block.identifier().to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        let value = self::body(block.body(), context)?;
        list.as_array_mut().expect("no attribute is called as a block").push(value);
    }
    Ok(Value::Object(object))
}

/// With what only the cloud knows.
fn computed(kind: &str, address: &str, mut value: Value) -> Value {
    for path in COMPUTED.iter().filter(|(of, _)| *of == kind).flat_map(|(_, paths)| paths.iter()) {
        let mut steps: Vec<_> = path.split('/').collect();
        let last = steps.pop().expect("no path is empty");
        let place = steps.iter().fold(&mut value, |value, step| match value {
            Value::Array(array) => &mut array[step.parse::<usize>().expect("a list has numbers")],
            Value::Object(object) => object.get_mut(*step).expect("it is on the path"),
            other => panic!("{path} leads through {other}"),
        });
        let object = place.as_object_mut().expect("values are in an object");
        object.insert(last.to_owned(), format!("{address}.{last}").into());
    }
    value
}
