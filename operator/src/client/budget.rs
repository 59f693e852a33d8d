//! The budget of writes: as many as the API server takes, shared by the namespaces that want to write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::rate::{Answer, Rate};
use crate::fair::Fair;
use crate::metrics::Metrics;

/// What writes are counted against. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    tickets: mpsc::UnboundedSender<Ticket>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

struct State {
    rate: Rate,
    waiting: usize,
    /// Writes that do not wait here would be sent, were there room.
    more_wanted: bool,
}

/// A write that waits for its turn.
struct Ticket {
    namespace: String,
    turn: oneshot::Sender<()>,
}

impl Budget {
    /// Begins with this many writes a second and never allows more than `most`. Ends with its last clone.
    pub fn start(per_second: u32, most: u32, metrics: Arc<Metrics>) -> Self {
        let (tickets, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                rate: Rate::new(per_second, most, Instant::now()),
                waiting: 0,
                more_wanted: false,
            }),
            metrics,
        });
        tokio::spawn(hand_out(receiver, Arc::clone(&shared)));
        Self { tickets, shared }
    }

    /// Returns when a write in this namespace may be sent, and how long that took.
    pub(super) async fn take(&self, namespace: &str) -> Duration {
        let began = Instant::now();
        let (turn, granted) = oneshot::channel();
        let ticket = Ticket {
            namespace: namespace.to_owned(),
            turn,
        };
        if self.tickets.send(ticket).is_ok() {
            // Nobody hands out only when the runtime ends.
            granted.await.ok();
        }
        began.elapsed()
    }

    /// Learns from the answer to a request.
    pub(super) fn answered(&self, answer: Answer) {
        let mut state = self.shared.state();
        let waited_for = state.waiting > 0 || state.more_wanted;
        state.rate.learn(answer, waited_for, Instant::now());
        let rate = state.rate.per_second();
        self.shared.metrics.write_budget.set(rate);
    }

    /// Whether no write waits and more could pass at once than is kept for what is urgent: what is not goes then.
    pub fn has_room(&self) -> bool {
        let mut state = self.shared.state();
        state.waiting == 0 && state.rate.has_spare(Instant::now())
    }

    /// Notes whether writes that are not urgent wait elsewhere until there is room.
    pub fn want_more(&self, wanted: bool) {
        self.shared.state().more_wanted = wanted;
    }

    /// A turn that nothing is sent in.
    #[cfg(test)]
    pub(crate) async fn spend(&self) {
        self.take("").await;
    }

    /// The pause from one write to the next at the present rate.
    pub fn pace(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.shared.state().rate.per_second())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets one after the other pass, as the rate allows, each namespace in its turn.
async fn hand_out(mut tickets: mpsc::UnboundedReceiver<Ticket>, shared: Arc<Shared>) {
    let mut lines: Fair<Ticket> = Fair::default();
    loop {
        if lines.len() == 0 {
            match tickets.recv().await {
                Some(ticket) => lines.push(&ticket.namespace.clone(), ticket),
                None => return,
            }
        }
        while let Ok(ticket) = tickets.try_recv() {
            lines.push(&ticket.namespace.clone(), ticket);
        }
        let taken = {
            let mut state = shared.state();
            let taken = state.rate.take(Instant::now());
            state.waiting = match taken {
                Ok(()) => lines.len() - 1,
                Err(_) => lines.len(),
            };
            taken
        };
        match taken {
            // A write that is not waited for any more leaves its turn to the next.
            Ok(()) => {
                while lines
                    .pop()
                    .is_some_and(|ticket| ticket.turn.send(()).is_err())
                {}
            }
            Err(later) => tokio::select! {
                () = sleep_until(later) => {}
                Some(ticket) = tickets.recv() => lines.push(&ticket.namespace.clone(), ticket),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_namespace_cannot_take_the_budget_of_another() {
        let budget = Budget::start(10, 10, Arc::new(Metrics::new()));
        let many = join_all((0..1_000).map(|_| budget.take("many")));
        let few = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(!budget.has_room());
            let took = [budget.take("few").await, budget.take("few").await];
            assert!(
                took.iter().all(|took| *took < Duration::from_millis(500)),
                "{took:?}"
            );
        };
        let began = Instant::now();
        tokio::join!(many, few);
        let took = began.elapsed().as_secs_f64();
        assert!((93.0..=95.5).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_given_up_costs_no_turn() {
        let budget = Budget::start(1, 1, Arc::new(Metrics::new()));
        for _ in 0..6 {
            budget.take("a").await;
        }
        let given_up = budget.take("a");
        assert!(
            tokio::time::timeout(Duration::from_millis(10), given_up)
                .await
                .is_err()
        );
        let began = Instant::now();
        budget.take("a").await;
        assert!(
            began.elapsed() <= Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
}
