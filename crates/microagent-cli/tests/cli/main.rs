//! The command as a program: what it accepts, prints and returns. No test here needs a virtual machine.

mod command;
mod completion;
mod configuration;
mod declared;
mod documents;
mod endings;
mod images;
mod output;
mod refusals;
mod seen;
mod snapshots;
mod terminal;
mod volumes;
mod workspaces;
