//! What the sampler tells its readers.

use std::sync::Arc;

use super::sanitize::Sample;

/// What is known of the node now.
#[derive(Clone, Debug, PartialEq)]
pub enum Latest {
    /// The first sample is not there yet, and not overdue either.
    Starting,
    /// A sample taken within the deadline.
    Fresh(Arc<Sample>),
    /// No sample within the deadline: nothing is known but what the last one showed the node to have.
    Stuck(Option<Arc<Sample>>),
}
