//! PID 1 of the guest: boots the machine as far as can be done for any workspace, then does what the host asks.
//!
//! The agent lives in the initramfs and stays there. The root file system of the workspace is mounted in a namespace of its
//! own, which commands enter and the agent does not, so an image needs nothing in it for the agent's sake and nothing done in
//! a workspace can remove the agent.
//!
//! The parts, in the order in which they come into play:
//!
//! 1. [`boot`] mounts what the kernel needs, loads [`modules`], brings up the other [`processors`], and opens the [`port`] to
//!    the host.
//! 2. [`agent`] greets the host and waits. A machine in this state can be frozen and copied: it is nobody's yet.
//! 3. [`requests`] answers the host. The first, `boot`, makes the machine a workspace's: its [`identity`], its [`disks`], its
//!    [`layer`], and the [`workspace`] itself.
//! 4. A [`process`] is a command as the agent sees it, with its [`streams`], its [`terminal`] and its [`session`]; [`command`] is what
//!    happens on the other side of the fork, with [`users`] and [`lookup`].
//! 5. A [`task`] is a process too, of the agent's own: it works on files. What a workspace [`changes`] is one of them.
//! 6. The [`network`] interface is a workspace's, and so is what it [`trust`]s and each [`secret`] it is given. A [`forward`] is a
//!    connection that leads through the channel.
//! 7. A machine that is [`quiet`] can be written down, when it has got rid of its secrets ([`purge`]), and go on as another: with a
//!    [`boot_id`] of its own.
//! 8. A [`rehearsal`] is this program once more, as a command that does a little of everything.
//!
//! There is one thread and one loop. Nothing a command or the host does can block it.

mod agent;
mod boot;
mod boot_id;
mod changes;
mod command;
mod console;
mod disks;
mod ext4;
mod forward;
mod identity;
mod layer;
mod lookup;
mod modules;
mod mounts;
mod network;
mod outbox;
mod pending;
mod port;
mod private;
mod process;
mod processors;
mod purge;
mod quiet;
mod refusal;
mod rehearsal;
mod requests;
mod secret;
mod session;
mod stats;
mod streams;
#[allow(unsafe_code)]
mod sys;
mod task;
mod terminal;
mod trust;
mod users;
mod vmstat;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    if rehearsal::is_called_for() {
        return rehearsal::perform();
    }
    if !rustix::process::getpid().is_init() {
        eprintln!("microagent-guest: this program is the first process of a microVM and runs nowhere else");
        return ExitCode::from(2);
    }
    console::end_machine_on_panic();
    match boot::boot() {
        Ok(mut agent) => console::say(agent.serve()),
        Err(error) => console::say(error),
    }
    console::end_machine()
}
