//! One client's request, in the order in which it is answered.

pub mod answer;
pub mod attempt;
pub mod auth;
pub mod body;
pub mod exchange;
pub mod failure;
pub mod handle;
pub mod headers;
pub mod relay;
pub mod route;
