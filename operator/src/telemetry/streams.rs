//! A stream of what telemetry changed, for controllers to be triggered by.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::cli::Plane;

/// Changes that a slow receiver may fall behind before it is told to look at everything.
const CAPACITY: usize = 8192;

/// Something that a controller may act on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TelemetryChange {
    /// Acknowledgements, a wake-up or the end of the last request of a workload, by UID.
    Workload(String),
    /// The circuit of a provider, by name.
    Provider(String),
    /// An agent came or fell silent, or its utilization passed a step of ten, by the node's name.
    Node(String),
    /// The set of gateway pods of a plane, or which of them are connected.
    Gateways(Plane),
    /// Changes were missed: look at everything.
    Missed,
}

/// Changes from the subscription on.
pub struct TelemetryChanges(BroadcastStream<TelemetryChange>);

impl Stream for TelemetryChanges {
    type Item = TelemetryChange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TelemetryChange>> {
        self.0.poll_next_unpin(cx).map(|item| match item? {
            Ok(change) => Some(change),
            Err(BroadcastStreamRecvError::Lagged(_)) => Some(TelemetryChange::Missed),
        })
    }
}

pub(super) struct Sender(broadcast::Sender<TelemetryChange>);

impl Sender {
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    pub fn send(&self, change: TelemetryChange) {
        // Nobody listening is no error.
        let _ = self.0.send(change);
    }

    pub fn subscribe(&self) -> TelemetryChanges {
        TelemetryChanges(BroadcastStream::new(self.0.subscribe()))
    }
}
