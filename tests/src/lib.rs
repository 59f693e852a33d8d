//! weir-tests

pub mod chat;
pub mod cluster;
pub mod conformance;
pub mod demo;
pub mod existing;
pub mod fake_nodes;
pub mod fakes;
pub mod fault_proxy;
pub mod load;
pub mod stack;
pub mod wait;
