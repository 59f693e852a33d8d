//! The controllers that a leader runs.

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::{kinds, workload};

/// A controller by name; it ends when it is told to stop, after what it has begun.
pub type Controller = (&'static str, BoxFuture<'static, ()>);

/// All of them.
pub fn all(context: &Context, stop: &CancellationToken) -> Vec<Controller> {
    vec![
        ("kinds", Box::pin(kinds::run(context.clone(), stop.clone()))),
        (
            "workload",
            Box::pin(workload::controller::run(context.clone(), stop.clone())),
        ),
    ]
}
