//! Random sequences of requests, the same for the same seed.

use super::subjects::{SUBJECTS, Subject};
use serde_json::{Value, json};

/// Random numbers that a seed repeats (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A request's body.
#[derive(Clone, Debug)]
pub enum Body {
    /// As it stands, with `$uid`, `$rv` and `$oldrv` of the server's own answers.
    Literal(Value),
    /// The object as the server last answered it, or `age` answers before, with these changes.
    Edit {
        /// How many answers ago.
        age: usize,
        /// A merge patch.
        changes: Value,
    },
}

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    /// HTTP method.
    pub method: &'static str,
    /// Path and query.
    pub uri: String,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Accept`.
    pub accept: &'static str,
    /// Body.
    pub body: Body,
    /// The object that it is about, by path.
    pub object: String,
}

const JSON: &str = "application/json";

impl Step {
    fn new(method: &'static str, uri: String, object: &str) -> Self {
        Self {
            method,
            uri,
            content_type: JSON,
            accept: JSON,
            body: Body::Literal(Value::Null),
            object: object.to_owned(),
        }
    }

    fn with(mut self, content_type: &'static str, body: Value) -> Self {
        self.content_type = content_type;
        self.body = Body::Literal(body);
        self
    }

    fn with_edit(mut self, age: usize, changes: Value) -> Self {
        self.body = Body::Edit { age, changes };
        self
    }

    /// Method and URI, for messages.
    pub fn describe(&self) -> String {
        format!("{} {} {:?}", self.method, self.uri, self.body)
    }

    /// Whether nothing is kept of it.
    pub fn is_dry_run(&self) -> bool {
        self.uri.contains("dryRun")
    }

    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        self.uri.contains("watch=true")
    }
}

/// Requests about one or two objects of one kind in one namespace.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// What was rolled.
    pub steps: Vec<Step>,
}

const MANAGERS: [&str; 4] = [
    "weir-operator",
    "weir-operator-status",
    "weir-operator-placement",
    "someone-else",
];

impl Sequence {
    /// The sequence of a seed in a namespace that is there.
    pub fn random(seed: u64, namespace: &str) -> Self {
        let mut dice = Dice::new(seed);
        let subject = dice.pick(SUBJECTS);
        // Objects without a namespace share the server with those of other sequences.
        let names = [format!("{namespace}-a"), format!("{namespace}-b")];
        let collection = subject.collection(namespace);
        let mut steps = Vec::new();
        for _ in 0..8 + dice.below(12) {
            let name = if dice.once_in(4) {
                &names[1]
            } else {
                &names[0]
            };
            steps.push(roll(&mut dice, subject, &collection, name));
        }
        if subject.namespaced && dice.once_in(8) {
            let watch = format!("{collection}?watch=true&timeoutSeconds=1&resourceVersion=0");
            steps.push(Step::new("GET", watch, &collection));
        }
        Self { steps }
    }
}

fn roll(dice: &mut Dice, subject: &Subject, collection: &str, name: &str) -> Step {
    let path = format!("{collection}/{name}");
    let object = || subject.object(name);
    match dice.below(24) {
        0 | 1 => Step::new("POST", format!("{collection}?fieldManager=creator"), &path)
            .with(JSON, variant(dice, subject, object())),
        2 => Step::new("GET", path.clone(), &path),
        3 => list(dice, subject, collection),
        4..=10 => apply(dice, subject, &path, object()),
        11 | 12 => {
            let changes = edit(dice, subject);
            Step::new("PUT", format!("{path}?fieldManager=editor"), &path)
                .with_edit(age(dice), changes)
        }
        13 | 14 => merge_patch(dice, subject, &path),
        15 => json_patch(dice, &path),
        16..=19 if subject.status.is_some() => status(dice, subject, &path, object()),
        20 | 21 => delete(dice, &path),
        22 => finalizers(dice, &path),
        _ => apply(dice, subject, &path, object()),
    }
}

/// Mostly the newest state, sometimes one that is stale.
fn age(dice: &mut Dice) -> usize {
    if dice.once_in(4) {
        1 + dice.below(2)
    } else {
        0
    }
}

fn merge_all(base: &mut Value, changes: &Value) {
    super::json_merge(base, changes);
}

/// The object with one or two of the kind's changes.
fn variant(dice: &mut Dice, subject: &Subject, mut object: Value) -> Value {
    for _ in 0..dice.below(3) {
        merge_all(&mut object, &(dice.pick(subject.changes))());
    }
    object
}

fn edit(dice: &mut Dice, subject: &Subject) -> Value {
    let mut changes = (dice.pick(subject.changes))();
    match dice.below(8) {
        0 => changes["metadata"]["resourceVersion"] = Value::Null,
        1 => changes["metadata"]["labels"] = json!({"tier": "edited"}),
        2 => changes["metadata"]["managedFields"] = Value::Null,
        3 => changes["status"] = json!({}),
        _ => {}
    }
    changes
}

fn apply(dice: &mut Dice, subject: &Subject, path: &str, object: Value) -> Step {
    let mut config = variant(dice, subject, object);
    let manager = if dice.once_in(3) {
        *dice.pick(&MANAGERS)
    } else {
        MANAGERS[0]
    };
    if manager != MANAGERS[0] && dice.once_in(2) {
        config = (dice.pick(subject.partial))(config);
    }
    match dice.below(12) {
        0 => {
            config["metadata"]["resourceVersion"] =
                json!(if dice.once_in(2) { "$rv" } else { "$oldrv" })
        }
        1 => config["metadata"]["uid"] = json!("$uid"),
        _ => {}
    }
    let force = if dice.once_in(2) { "&force=true" } else { "" };
    let dry = if dice.once_in(12) { "&dryRun=All" } else { "" };
    let uri = format!("{path}?fieldManager={manager}{force}{dry}");
    let mut step = Step::new("PATCH", uri, path).with("application/apply-patch+yaml", config);
    if dice.once_in(10) {
        step.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    }
    step
}

fn merge_patch(dice: &mut Dice, subject: &Subject, path: &str) -> Step {
    let mut patch = (dice.pick(subject.changes))();
    match dice.below(5) {
        0 => patch["metadata"]["resourceVersion"] = json!("$oldrv"),
        1 => {
            patch = json!({"metadata": {"annotations": {"note": null, "seen": format!("{}", dice.below(3))}}})
        }
        2 => patch = json!({"metadata": {"labels": null}}),
        _ => {}
    }
    Step::new("PATCH", format!("{path}?fieldManager=patcher"), path)
        .with("application/merge-patch+json", patch)
}

fn json_patch(dice: &mut Dice, path: &str) -> Step {
    let replace = json!({"op": "add", "path": "/metadata/labels", "value": {"via": "json-patch"}});
    let test = match dice.below(3) {
        0 => json!({"op": "test", "path": "/metadata/resourceVersion", "value": "$rv"}),
        1 => json!({"op": "test", "path": "/metadata/resourceVersion", "value": "$oldrv"}),
        _ => json!({"op": "test", "path": "/metadata/uid", "value": "another"}),
    };
    Step::new("PATCH", format!("{path}?fieldManager=patcher"), path)
        .with("application/json-patch+json", json!([test, replace]))
}

fn status(dice: &mut Dice, subject: &Subject, path: &str, object: Value) -> Step {
    let Some(states) = subject.status else {
        return Step::new("GET", path.to_owned(), path);
    };
    let status = (dice.pick(states))();
    let manager = *dice.pick(&MANAGERS);
    let uri = format!("{path}/status?fieldManager={manager}");
    match dice.below(4) {
        0 => Step::new("PUT", uri, path).with_edit(
            age(dice),
            json!({"status": status, "metadata": {"labels": {"ignored": "yes"}}}),
        ),
        1 => Step::new("PATCH", uri, path)
            .with("application/merge-patch+json", json!({"status": status})),
        _ => {
            let config = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": object["metadata"]["name"]}, "status": status});
            let force = if dice.once_in(2) { "&force=true" } else { "" };
            Step::new("PATCH", format!("{uri}{force}"), path)
                .with("application/apply-patch+yaml", config)
        }
    }
}

fn delete(dice: &mut Dice, path: &str) -> Step {
    let options = match dice.below(6) {
        0 => json!({"preconditions": {"uid": "$uid"}}),
        1 => json!({"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}}),
        2 => json!({"preconditions": {"resourceVersion": "$oldrv"}}),
        3 => json!({"propagationPolicy": "Foreground"}),
        4 => json!({"propagationPolicy": "Background"}),
        _ => Value::Null,
    };
    Step::new("DELETE", path.to_owned(), path).with(JSON, options)
}

fn finalizers(dice: &mut Dice, path: &str) -> Step {
    let finalizers = if dice.once_in(3) {
        json!(["example.com/hold"])
    } else {
        json!([])
    };
    let patch = json!({"metadata": {"finalizers": finalizers}});
    Step::new("PATCH", format!("{path}?fieldManager=patcher"), path)
        .with("application/merge-patch+json", patch)
}

fn list(dice: &mut Dice, subject: &Subject, collection: &str) -> Step {
    // A kind without namespaces is listed with the objects of other sequences.
    let choices = if subject.namespaced { 4 } else { 1 };
    let query = match 3 - dice.below(choices) {
        0 => "?labelSelector=tier%3Dedited",
        1 => "?labelSelector=%21via",
        2 => "?limit=1",
        _ => "?fieldSelector=metadata.name%3Dnone",
    };
    let mut step = Step::new("GET", format!("{collection}{query}"), collection);
    if dice.once_in(3) {
        step.accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    }
    step
}
