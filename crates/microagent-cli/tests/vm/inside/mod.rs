//! What can be done with a workspace that runs: commands, terminals, files, and the protocol under them.
//!
//! A machine takes seconds to start where it is emulated, and a command in it milliseconds. So the cases of a file share one machine, each
//! with names of its own in it, and every case that fails is named.

mod arguments;
mod clients;
mod copies;
mod data;
mod disks;
mod files;
mod hostile;
mod idle;
mod json;
mod many;
mod outputs;
mod protocol;
mod pty;
mod states;
mod status;
mod stdin;
mod terminals;
mod timeouts;
mod workspace;
