//! One client's request, in the order in which it is answered: `handle` asks `route`, `auth` and `headers` what it is,
//! `receive` takes its body, `dispatch` chooses a target and makes an `attempt`, which `send`s it and waits for `commit`.
//! From there on `body` passes the answer on, `relay` reads it, and the `exchange` counts it. A `failure` is a fact; only
//! `answer` and `dispatch` put it into words.
//!
//! Imports routing, external, metering and upstream; nothing but the server imports it.

pub mod answer;
pub mod attempt;
pub mod auth;
pub mod body;
pub mod commit;
pub mod dispatch;
pub mod exchange;
pub mod failure;
pub mod handle;
pub mod headers;
pub mod receive;
pub mod relay;
pub mod route;
pub mod send;
pub mod upstreams;
