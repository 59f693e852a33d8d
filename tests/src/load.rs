//! A closed-loop load on one endpoint: a few clients that ask, wait for the whole answer, rest and ask again.

use crate::chat::{Ask, Endpoint};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a load has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whole answers.
    pub good: u64,
    /// Whole answers that were streams.
    pub streams: u64,
    /// Streams that ended early.
    pub cut: u64,
    /// Everything else, with the first few explained.
    pub failed: u64,
    /// The first failures.
    pub failures: Vec<String>,
    /// Whole answers by location and reason.
    pub by_route: BTreeMap<(String, String), u64>,
    /// Whole answers by decision.
    pub by_decision: BTreeMap<String, u64>,
    /// Whole answers that lack one of the headers.
    pub unlabelled: u64,
}

/// A running load; it stops when told, or with this value.
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts `clients` clients that rest for `rest` between requests. Every other request streams.
    pub fn start(endpoint: &Endpoint, clients: usize, rest: Duration) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = CancellationToken::new();
        let mut set = JoinSet::new();
        for client in 0..clients {
            let (endpoint, seen, stop) = (endpoint.clone(), Arc::clone(&seen), stop.clone());
            set.spawn(async move {
                let mut number = 0u64;
                while !stop.is_cancelled() {
                    number += 1;
                    let ask = Ask {
                        prompt: format!("Client {client}, question {number}: name a colour."),
                        max_tokens: 8,
                        stream: number.is_multiple_of(2),
                    };
                    note(&seen, &endpoint, &ask).await;
                    tokio::select! {
                        () = tokio::time::sleep(rest) => {}
                        () = stop.cancelled() => {}
                    }
                }
            });
        }
        Self {
            seen,
            stop,
            clients: set,
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Stops after the requests under way.
    pub async fn stop(mut self) -> Seen {
        self.stop.cancel();
        while self.clients.join_next().await.is_some() {}
        self.seen()
    }
}

async fn note(seen: &Mutex<Seen>, endpoint: &Endpoint, ask: &Ask) {
    let outcome = endpoint.chat(ask).await;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let explanation = match outcome {
        Ok(answer) if answer.is_good() => {
            seen.good += 1;
            seen.streams += u64::from(ask.stream);
            let labels = [
                &answer.target,
                &answer.location,
                &answer.reason,
                &answer.decision,
            ];
            seen.unlabelled += u64::from(labels.iter().any(|label| label.is_empty()));
            *seen
                .by_route
                .entry((answer.location, answer.reason))
                .or_default() += 1;
            *seen.by_decision.entry(answer.decision).or_default() += 1;
            return;
        }
        Ok(answer) if answer.status == http::StatusCode::OK => {
            seen.cut += 1;
            format!("cut after {:?} from {}", answer.text, answer.target)
        }
        Ok(answer) => {
            seen.failed += 1;
            format!("{} from {}: {}", answer.status, answer.target, answer.text)
        }
        Err(error) => {
            seen.failed += 1;
            format!("{error:#}")
        }
    };
    if seen.failures.len() < 5 {
        seen.failures.push(explanation);
    }
}
