//! Random request sequences against two API servers, whose answers must be the same.
//!
//! One is the simulated server of `weir-simapi`, the other a real one: that is what makes tests on the first believable.

mod normalize;
mod sequence;
mod subjects;

pub use normalize::Normalizer;
pub use sequence::{Body, Dice, Sequence, Step};

use anyhow::{Context, Result};
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One server under comparison: its client and what it answered so far.
pub struct Side {
    client: Client,
    normalizer: Normalizer,
    /// Last and last but one state of each object, by path.
    seen: BTreeMap<String, Vec<Value>>,
}

/// An answer that can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// HTTP status.
    pub code: u16,
    /// Body, without what no two servers share.
    pub body: Value,
}

impl Side {
    /// A server that has answered nothing yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            normalizer: Normalizer::default(),
            seen: BTreeMap::new(),
        }
    }

    /// Sends a step, with what it refers to taken from this server's own answers.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn send(&mut self, step: &Step) -> Result<Compared> {
        let body = self.resolve(step);
        let (code, answer) = self.exchange(step, &body).await?;
        if code < 300 && answer["metadata"]["uid"].is_string() && !step.is_dry_run() {
            self.seen
                .entry(step.object.clone())
                .or_default()
                .push(answer.clone());
        }
        let mut answer = answer;
        if let (true, Some(metadata)) = (step.is_dry_run(), answer["metadata"].as_object_mut()) {
            metadata.remove("resourceVersion");
            metadata.remove("uid");
        }
        Ok(Compared {
            code,
            body: self.normalizer.normalize(answer),
        })
    }

    async fn exchange(&self, step: &Step, body: &Value) -> Result<(u16, Value)> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        let request = Request::builder()
            .method(step.method)
            .uri(&step.uri)
            .header(http::header::CONTENT_TYPE, step.content_type)
            .header(http::header::ACCEPT, step.accept)
            .header(http::header::USER_AGENT, "conformance")
            .body(kube::client::Body::from(body))?;
        let response = self
            .client
            .send(request)
            .await
            .with_context(|| step.describe())?;
        let code = response.status().as_u16();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("{}: {error}", step.describe()))?
            .to_bytes();
        if step.is_watch() {
            let lines = bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            let events = lines
                .map(serde_json::from_slice)
                .collect::<Result<Vec<Value>, _>>()?;
            return Ok((code, json!({"events": events})));
        }
        Ok((
            code,
            serde_json::from_slice(&bytes)
                .with_context(|| format!("{}: {bytes:?}", step.describe()))?,
        ))
    }

    fn resolve(&self, step: &Step) -> Value {
        let states = self.seen.get(&step.object).map_or(&[][..], Vec::as_slice);
        let mut body = match &step.body {
            Body::Literal(body) => body.clone(),
            Body::Edit { age, changes } => {
                let mut object = states
                    .iter()
                    .rev()
                    .nth(*age)
                    .or(states.last())
                    .cloned()
                    .unwrap_or_else(|| json!({}));
                json_merge(&mut object, changes);
                object
            }
        };
        fill(&mut body, states);
        body
    }
}

/// Puts this server's own values in place of `$uid`, `$rv` and `$oldrv`.
fn fill(value: &mut Value, states: &[Value]) {
    match value {
        Value::String(text) => {
            let of = |state: Option<&Value>, field: &str| {
                state.map_or(json!("0"), |state| state["metadata"][field].clone())
            };
            let new = match text.as_str() {
                "$uid" => of(states.last(), "uid"),
                "$rv" => of(states.last(), "resourceVersion"),
                "$oldrv" => of(states.first(), "resourceVersion"),
                _ => return,
            };
            *value = new;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, states)),
        Value::Object(object) => object.values_mut().for_each(|item| fill(item, states)),
        _ => {}
    }
}

fn json_merge(target: &mut Value, changes: &Value) {
    let Value::Object(changes) = changes else {
        *target = changes.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in changes {
        match change {
            Value::Null => drop(
                target
                    .as_object_mut()
                    .and_then(|target| target.remove(name)),
            ),
            change => json_merge(&mut target[name], change),
        }
    }
}
