//! What a developer of microagent runs.
//!
//! `cargo xtask --help` lists the tasks; each is a module here with a function that does it, so that tests and other
//! tasks can use it as well. They fall into three groups:
//!
//! - *the host*: [`setup`] installs the [`packages`] of others that the rest uses;
//! - *places to test in*: [`images`] makes images with other people's tools, [`registry`] serves them with the real
//!   registry server, [`kvm_lab`] is a machine with real KVM, and [`ordinary_user`] somebody who is not root;
//! - *what is run*: [`demo`], [`suite`] (tests and lint), [`mod@bench`] and [`fuzz`].
//!
//! Nothing here is part of the product, and nothing of the product depends on it. The product is driven as its users
//! do: the tasks build the `microagent` program and run it.

pub mod bench;
pub mod demo;
pub mod error;
pub mod fuzz;
pub mod images;
pub mod kvm_lab;
pub mod ordinary_user;
pub mod packages;
pub mod product;
pub mod registry;
pub mod setup;
pub mod suite;
pub mod tool;
pub mod workspace;

pub use error::{Error, Result};
