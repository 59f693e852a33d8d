//! The node's `GPUNode` object: written on material change alone, and at most once a minute.

mod publication;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use weir_crds::GPUNodeStatus;

use super::latest::Latest;
use super::metrics::Metrics;
use super::sampler::Sampler;
pub use publication::{MIN_WRITE_INTERVAL, Publication};
pub use writer::{ApiWriter, WriteError};

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The object is read this often, in case somebody deleted or changed it.
const READ_INTERVAL: Duration = Duration::from_secs(300);

/// Looks at the samples and writes when there is something to say.
pub struct NodeObject {
    writer: ApiWriter,
    sampler: Sampler,
    metrics: Arc<Metrics>,
    publication: Publication,
    read_at: Option<Instant>,
}

impl NodeObject {
    /// Nothing is written before [`NodeObject::run`].
    pub fn new(writer: ApiWriter, sampler: Sampler, metrics: Arc<Metrics>) -> Self {
        Self {
            writer,
            sampler,
            metrics,
            publication: Publication::default(),
            read_at: None,
        }
    }

    /// Writes until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looks.tick() => {}
            }
            let latest = self.sampler.latest();
            self.look(&latest).await;
        }
    }

    async fn look(&mut self, latest: &Latest) {
        self.publication.observe(latest, Instant::now());
        let now = Instant::now();
        let first = self.read_at.is_none() && self.publication.due(now).is_some();
        let again = self.read_at.is_some_and(|at| now >= at + READ_INTERVAL);
        if first || again {
            self.read_at = Some(now);
            if let Err(error) = self.adopt(latest).await {
                self.read_at = self.read_at.filter(|_| again);
                self.failed(&error);
                return;
            }
        }
        let Some(status) = self.publication.due(Instant::now()) else {
            return;
        };
        let body = GPUNodeStatus {
            updated: Some(Time(Timestamp::now())),
            ..status.clone()
        };
        match self.writer.write(&body).await {
            Ok(()) => {
                self.metrics.object_written(true);
                self.publication.written(status, Instant::now());
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Takes the object as it is for what was written, so that a restart alone changes nothing.
    async fn adopt(&mut self, latest: &Latest) -> Result<(), WriteError> {
        let status = self.writer.read().await?;
        self.publication
            .adopt(status, Timestamp::now(), Instant::now());
        self.publication.observe(latest, Instant::now());
        Ok(())
    }

    fn failed(&mut self, error: &WriteError) {
        let source = std::error::Error::source(error);
        tracing::warn!(%error, source = source.map(tracing::field::display), "gpunode not written");
        self.metrics.object_written(false);
        self.publication.failed(error, Instant::now());
    }
}

#[cfg(test)]
mod tests;
