//! A stream of what changed in the cluster, for controllers to be triggered by.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Changes that a slow receiver may fall behind before it is told to look at everything.
const CAPACITY: usize = 8192;

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// InferenceWorkload.
    Workload,
    /// InferenceProvider.
    Provider,
    /// InferencePriceBook.
    PriceBook,
    /// GPUTier.
    Tier,
    /// ModelProfile.
    Model,
    /// InferencePlacementPolicy.
    Policy,
    /// GPUNode.
    GpuNode,
    /// InferenceDemand.
    Demand,
    /// A Deployment of ours.
    Deployment,
    /// A Service of ours.
    Service,
    /// A NetworkPolicy of ours.
    NetworkPolicy,
    /// A pod of a Deployment of ours.
    EnginePod,
    /// A gateway or agent pod.
    ComponentPod,
    /// A node.
    Node,
    /// Any pod that has not ended.
    Pod,
    /// A certificate request for our signer.
    SigningRequest,
}

impl Kind {
    /// As metrics and logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "InferenceWorkload",
            Self::Provider => "InferenceProvider",
            Self::PriceBook => "InferencePriceBook",
            Self::Tier => "GPUTier",
            Self::Model => "ModelProfile",
            Self::Policy => "InferencePlacementPolicy",
            Self::GpuNode => "GPUNode",
            Self::Demand => "InferenceDemand",
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::EnginePod => "EnginePod",
            Self::ComponentPod => "ComponentPod",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::SigningRequest => "CertificateSigningRequest",
        }
    }
}

/// One object changed or went away; the store has it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The workload that it is a child of, by its label.
    pub workload_uid: Option<String>,
    /// It is gone.
    pub deleted: bool,
}

/// What a controller should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// One object.
    Changed(Change),
    /// Every object of this kind: it was listed anew.
    Listed(Kind),
    /// Everything: changes were missed.
    Missed,
}

/// Changes of some kinds; ends when the reflectors end.
pub struct Changes {
    stream: BroadcastStream<Trigger>,
    kinds: BTreeSet<Kind>,
}

impl Stream for Changes {
    type Item = Trigger;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Trigger>> {
        loop {
            let trigger = match futures::ready!(self.stream.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(Err(_missed)) => return Poll::Ready(Some(Trigger::Missed)),
                Some(Ok(trigger)) => trigger,
            };
            let wanted = match &trigger {
                Trigger::Changed(change) => self.kinds.contains(&change.kind),
                Trigger::Listed(kind) => self.kinds.contains(kind),
                Trigger::Missed => true,
            };
            if wanted {
                return Poll::Ready(Some(trigger));
            }
        }
    }
}

/// Where reflectors announce changes.
#[derive(Clone)]
pub(super) struct Sender(broadcast::Sender<Trigger>);

impl Sender {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    pub(super) fn send(&self, trigger: Trigger) {
        // Nobody listening is no error.
        let _ = self.0.send(trigger);
    }

    pub(super) fn subscribe(&self, kinds: impl IntoIterator<Item = Kind>) -> Changes {
        Changes {
            stream: BroadcastStream::new(self.0.subscribe()),
            kinds: kinds.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: Kind, name: &str) -> Trigger {
        Trigger::Changed(Change {
            kind,
            namespace: None,
            name: name.into(),
            workload_uid: None,
            deleted: false,
        })
    }

    #[tokio::test]
    async fn only_the_kinds_asked_for_arrive() {
        let sender = Sender::new();
        let mut changes = sender.subscribe([Kind::Tier]);
        sender.send(change(Kind::Pod, "a"));
        sender.send(Trigger::Listed(Kind::Node));
        sender.send(change(Kind::Tier, "b"));
        assert_eq!(changes.next().await, Some(change(Kind::Tier, "b")));
    }

    #[tokio::test]
    async fn a_receiver_that_fell_behind_is_told_to_look_at_everything() {
        let sender = Sender::new();
        let mut changes = sender.subscribe([Kind::Tier]);
        for _ in 0..=CAPACITY {
            sender.send(change(Kind::Tier, "b"));
        }
        assert_eq!(changes.next().await, Some(Trigger::Missed));
    }
}
