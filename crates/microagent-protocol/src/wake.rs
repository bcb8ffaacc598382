//! What a copy of a machine has to learn before it goes on as somebody else.
//!
//! A machine that stands still ([`Request::Quiesce`](crate::Request::Quiesce)) can be written down, and read again in other places. The
//! source is told to [`Proceed`](crate::Request::Proceed), each of the others to [`Wake`]: it has another clock, another name, and at the
//! other end of its channel somebody who knows none of the ids that were handed out before.

use serde::{Deserialize, Serialize};

/// All that sets a copy apart from the machine it was, and from its other copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wake {
    /// See [`Boot::epoch_ns`](crate::Boot::epoch_ns).
    pub epoch_ns: u64,
    /// See [`Boot::entropy`](crate::Boot::entropy). It is used first of all, also where the rest is refused.
    pub entropy: Vec<u8>,
    /// See [`Boot::hostname`](crate::Boot::hostname).
    pub hostname: String,
    /// See [`Boot::machine_id`](crate::Boot::machine_id).
    pub machine_id: String,
    /// What the workspace reads in `/proc/sys/kernel/random/boot_id`: a UUID in lower case. The kernel has no way to change its own, so
    /// another file is mounted over it in the workspace. Root in there can take it away, and a mount namespace of a process's own, made
    /// before, has not got it: it is there so that programs do not take two machines for one, and hides nothing.
    pub boot_id: String,
    /// The commands that go on. Those that are not listed are as if the host had wanted no more of their streams, and are not answered
    /// when they end. Connections, calls that work on files and flushes do not go on: the former are closed, the others given up, and none
    /// is answered.
    pub adopt: Vec<Adopt>,
}

/// A command that goes on, and the ids by which it is known from now on.
///
/// Its streams begin anew: each side may send [`INITIAL_CREDIT`](crate::flow::INITIAL_CREDIT) bytes. What had not been sent, or not been
/// written, is not lost. A stream that has ended ends again, so that nobody waits for it. Where there is no such command, because it had
/// been answered before, `call` is refused with [`NoSuchProcess`](crate::RefusalCode::NoSuchProcess) and the streams end.
///
/// On the wire it is an array of the five, in this order: reading an object would make the agent larger by thousands of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Ids", into = "Ids")]
pub struct Adopt {
    /// Id of the [`Request::Exec`](crate::Request::Exec) call in the machine's former life.
    pub was: u32,
    /// Id of the call that is answered when it ends.
    pub call: u32,
    /// Stream with more of its standard input. Without one, its input ends after what the host has sent already.
    pub stdin: Option<u32>,
    /// Stream for its standard output.
    pub stdout: u32,
    /// Stream for its standard error.
    pub stderr: u32,
}

/// An [`Adopt`] on the wire.
type Ids = (u32, u32, Option<u32>, u32, u32);

impl From<Ids> for Adopt {
    fn from((was, call, stdin, stdout, stderr): Ids) -> Adopt {
        Adopt { was, call, stdin, stdout, stderr }
    }
}

impl From<Adopt> for Ids {
    fn from(Adopt { was, call, stdin, stdout, stderr }: Adopt) -> Ids {
        (was, call, stdin, stdout, stderr)
    }
}
