//! The gateway over real sockets on loopback, against targets that do what a test tells them.
#![forbid(unsafe_code)]

mod access;
mod cancel;
mod drain;
mod endpoints;
mod engine_keys;
mod engines;
#[cfg(feature = "cloud")]
mod failover;
#[cfg(feature = "cloud")]
mod flip;
#[cfg(feature = "cloud")]
mod gates;
mod index;
mod local;
mod plane;
#[cfg(feature = "cloud")]
mod provider;
mod report;
mod streaming;
mod substitutes;
mod support;
#[cfg(feature = "cloud")]
mod unheard;
mod upstream;
mod watch;
