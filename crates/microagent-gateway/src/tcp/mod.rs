//! Connections. The guest's end of each is ended here, by a stack of our own; the other end is a socket of the host.

mod answering;
mod connecting;
mod flow;
mod guest;
#[cfg(test)]
mod hostile_tests;
mod opening;
mod pages;
mod refusal;
mod relay;
mod segment;
mod table;
mod upstream;

pub(crate) use segment::Segment;
pub(crate) use table::{Tcp, martian};
