//! The command as a program: what it accepts, prints and returns. No test here needs a virtual machine.

mod command;
mod completion;
mod configuration;
mod documents;
mod endings;
mod output;
mod refusals;
mod terminal;
mod workspaces;
