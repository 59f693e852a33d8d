//! What the fakes share: prices, failure modes, counters and the bodies that they were sent.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// Most bodies that are remembered.
const MOST_BODIES: usize = 20_000;

/// How the fake provider treats requests for a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureMode {
    /// Answers.
    #[default]
    None,
    /// 500 before anything.
    ServerError,
    /// A whole 503 with Retry-After.
    Unavailable,
    /// A whole 429 with Retry-After.
    RateLimited,
    /// Accepts and never answers.
    Hang,
    /// Streams two chunks and cuts the connection.
    Cut,
    /// 200 with an error event as its first.
    ErrorEvent,
}

/// A model's prices, in USD per token as LiteLLM has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenPrices {
    /// Prompt tokens.
    pub input_cost_per_token: f64,
    /// Answer tokens.
    pub output_cost_per_token: f64,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests by model, refused ones among them.
    pub requests: BTreeMap<String, u64>,
    /// Requests without the right key.
    pub unauthorized: u64,
    /// Reads of the price feed that got a document, and that got 304.
    pub price_reads: (u64, u64),
    /// Streams whose client went away before their end.
    pub aborted: u64,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub prices: BTreeMap<String, TokenPrices>,
    pub prices_fail: bool,
    pub modes: BTreeMap<String, FailureMode>,
    pub counters: Counters,
    pub bodies: VecDeque<Vec<u8>>,
}

/// State of the fakes; clones share it.
#[derive(Debug, Clone)]
pub struct Fakes {
    inner: Arc<Mutex<Inner>>,
    /// The bearer token that the provider wants.
    pub(super) api_key: Arc<str>,
}

impl Fakes {
    /// Fakes that want this key and start with these prices.
    pub fn new(api_key: &str, prices: BTreeMap<String, TokenPrices>) -> Self {
        let inner = Inner {
            prices,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            api_key: Arc::from(api_key),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes a request, and says how to treat it.
    pub(super) fn admit(&self, model: &str, body: &[u8]) -> FailureMode {
        let mut inner = self.lock();
        *inner.counters.requests.entry(model.to_owned()).or_default() += 1;
        if inner.bodies.len() == MOST_BODIES {
            inner.bodies.pop_front();
        }
        inner.bodies.push_back(body.to_vec());
        let mode = inner.modes.get(model).or_else(|| inner.modes.get("*"));
        mode.copied().unwrap_or_default()
    }

    /// How many remembered bodies hold the text.
    pub fn bodies_with(&self, text: &str) -> usize {
        let inner = self.lock();
        let holds = |body: &&Vec<u8>| {
            body.windows(text.len().max(1))
                .any(|window| window == text.as_bytes())
        };
        inner.bodies.iter().filter(holds).count()
    }
}
