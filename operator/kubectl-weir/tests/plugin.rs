//! The plugin as a user runs it: arguments in, text and exit status out.

#[path = "plugin/cluster.rs"]
mod cluster;
#[path = "plugin/curve.rs"]
mod curve;
#[path = "plugin/examples.rs"]
mod examples;
#[path = "plugin/feeds.rs"]
mod feeds;
#[path = "plugin/flips.rs"]
mod flips;
#[path = "plugin/support.rs"]
mod support;
