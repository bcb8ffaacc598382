//! Standing still, so that the machine can be written down, and going on: as itself, or as a copy of itself.
//!
//! While the machine stands still nothing of a command or a connection is looked at, so nothing of them reaches the host; what they have
//! written waits in their pipes. The end of a command or a flush is taken in, and told afterwards.

use crate::agent::{Agent, Life};
use crate::forward::Forwards;
use crate::identity;
use crate::process::{Process, push_reply};
use crate::purge::purge;
use crate::refusal::refusal;
use crate::requests::{MAX_COMMANDS, not_ready};
use microagent_protocol::{Adopt, Kind, Refusal, RefusalCode, Reply, Wake};

/// Replies that wait for the machine to go on, each with its call.
pub(crate) type Kept = Vec<(u32, Result<Reply, Refusal>)>;

impl Agent {
    /// Whether the machine stands still.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.is_some()
    }

    /// Queues a reply, when the machine does not stand still.
    pub(super) fn reply_later(&mut self, call: u32, result: Result<Reply, Refusal>) {
        match &mut self.quiet {
            Some(kept) => kept.push((call, result)),
            None => self.reply(call, result),
        }
    }

    /// Stands still. What was queued before goes out before the reply.
    pub(super) fn quiesce(&mut self, purges: bool) -> Result<Reply, Refusal> {
        let Life::Ready(workspace) = &self.life else { return Err(not_ready()) };
        if purges {
            if self.processes.values().any(Process::is_secret) {
                let what = "a secret is on its way to its file, and would be written after the others were removed";
                return Err(refusal(RefusalCode::WrongState, what));
            }
            workspace.private.secrets.as_ref().map_or(Ok(()), purge)?;
        }
        self.quiet = Some(Kept::new());
        Ok(Reply::Quiet { monotonic_ns: identity::monotonic_ns() })
    }

    /// Goes on.
    pub(super) fn proceed(&mut self, call: u32, epoch_ns: u64) -> Result<(), Refusal> {
        if !self.is_quiet() {
            return Err(not_quiet());
        }
        identity::set_clock(epoch_ns)?;
        self.reply(call, Ok(Reply::Done));
        for (call, result) in self.quiet.take().into_iter().flatten() {
            self.reply(call, result);
        }
        Ok(())
    }

    /// Goes on as somebody else.
    pub(super) fn wake(&mut self, call: u32, wake: &Wake) -> Result<(), Refusal> {
        let Life::Ready(workspace) = &mut self.life else { return Err(not_ready()) };
        if self.quiet.is_none() {
            return Err(not_quiet());
        }
        identity::check_entropy(&wake.entropy)?;
        identity::reseed(&wake.entropy)?;
        identity::check(&wake.hostname, &wake.machine_id)?;
        identity::check_boot_id(&wake.boot_id)?;
        check_ids(call, &wake.adopt)?;
        workspace.rename(wake)?;
        self.quiet = None;
        self.forwards = Forwards::default();
        self.flushes.clear();
        self.reply(call, Ok(Reply::Done));
        self.adopt(&wake.adopt);
        Ok(())
    }

    /// Keeps the commands that are adopted, and nothing else. What runs on all the same is reaped like any orphan.
    fn adopt(&mut self, adopt: &[Adopt]) {
        self.streams.clear();
        let mut former = std::mem::take(&mut self.processes);
        for adopt in adopt {
            match former.remove(&adopt.was) {
                Some(mut process) if process.is_command() => {
                    let streams = process.adopt(adopt, &mut self.outbox);
                    self.streams.extend(streams.into_iter().map(|stream| (stream, adopt.call)));
                    self.processes.insert(adopt.call, process);
                }
                other => {
                    other.into_iter().for_each(Process::give_away);
                    self.disown(adopt);
                }
            }
        }
        former.into_values().for_each(Process::give_away);
    }

    /// Answers for a command that there is not.
    fn disown(&mut self, adopt: &Adopt) {
        self.outbox.push_empty(Kind::End, adopt.stdout);
        self.outbox.push_empty(Kind::End, adopt.stderr);
        if let Some(stdin) = adopt.stdin {
            self.outbox.push_empty(Kind::Reset, stdin);
        }
        let gone = refusal(RefusalCode::NoSuchProcess, format!("call {} ran no command any more", adopt.was));
        push_reply(&mut self.outbox, adopt.call, &Reply::Refused(gone));
    }
}

/// Refuses ids that would not tell one from the other.
fn check_ids(call: u32, adopt: &[Adopt]) -> Result<(), Refusal> {
    if adopt.len() > MAX_COMMANDS {
        return Err(refusal(RefusalCode::BadRequest, format!("{} commands are more than {MAX_COMMANDS}", adopt.len())));
    }
    let mut ids: [Vec<u32>; 3] = [Vec::new(), vec![call], Vec::new()];
    for adopt in adopt {
        let streams = [Some(adopt.stdout), Some(adopt.stderr), adopt.stdin];
        let more = [&[Some(adopt.was)][..], &[Some(adopt.call)], &streams];
        for (ids, more) in ids.iter_mut().zip(more) {
            for id in more.iter().flatten() {
                if ids.contains(id) {
                    let what = format!("id {id} is used twice for what is adopted");
                    return Err(refusal(RefusalCode::BadRequest, what));
                }
                ids.push(*id);
            }
        }
    }
    Ok(())
}

fn not_quiet() -> Refusal {
    refusal(RefusalCode::WrongState, "the machine does not stand still")
}

/// What is refused meanwhile.
pub(super) fn is_quiet() -> Refusal {
    refusal(RefusalCode::WrongState, "the machine stands still")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_used_twice_are_refused() {
        let adopt = |was, call, stdin, stdout, stderr| Adopt { was, call, stdin, stdout, stderr };
        let good = adopt(1, 2, Some(3), 4, 5);
        // Calls and streams are told apart, and what was is over.
        assert_eq!(check_ids(9, &[good, adopt(2, 1, None, 6, 7)]), Ok(()));
        for bad in [
            &[good, adopt(1, 6, None, 7, 8)][..],
            &[good, adopt(6, 2, None, 7, 8)],
            &[good, adopt(6, 7, Some(4), 8, 10)],
            &[adopt(1, 2, None, 4, 4)],
            &[adopt(1, 9, None, 4, 5)],
        ] {
            assert_eq!(check_ids(9, bad).unwrap_err().code, RefusalCode::BadRequest, "{bad:?}");
        }
    }
}
