//! The real command against real virtual machines.
//!
//! Every test has a state directory of its own, filled with a kernel and two images by hard links from a seed that is made once per
//! build of the command. Machines are emulated where there is no KVM, and tests run side by side: nothing here is timed, and deadlines
//! are far beyond what any host needs.

mod cloned;
mod declared;
mod exit;
mod failures;
mod followed;
mod host;
mod inside;
mod kept;
mod killed;
mod leftovers;
mod library;
mod lifecycle;
mod network;
mod output;
mod perf;
mod rehearsal;
mod resources;
mod secrets;
mod snapshots;
mod supervised;
mod switches;
mod templates;
mod tour;
mod tree;
mod user;
