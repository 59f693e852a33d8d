//! One client's request, in the order in which it is answered.
//!
//! `handle` asks `route`, `auth` and `headers` what it is, `receive` takes its body, `dispatch` chooses a target and makes
//! an `attempt`, which `send`s it through the `upstreams` and waits for the `commit` point. From there on `body` passes
//! the answer on, `relay` reads it, and the `exchange` counts it. A `failure` is a fact; only `answer` and `dispatch` put
//! it into words.
//!
//! May import routing, external, metering, upstream and the leaves. Only the server imports it.

pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod commit;
pub(crate) mod dispatch;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod handle;
pub(crate) mod headers;
pub(crate) mod receive;
pub(crate) mod relay;
pub(crate) mod route;
pub(crate) mod send;
pub(crate) mod upstreams;

pub use handle::Gateway;
