//! What a process said last, and who else is listening.

use microagent_machine::channel::{HangUp, Input, Output};
use microagent_machine::log::BoundedLog;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most bytes of each output that are kept for whoever comes later.
const KEPT: usize = 1 << 20;

/// Where one output of a process goes: to a client, if one has attached, and into memory.
///
/// Nothing is locked while a client is written to: one that takes nothing in holds up the process, as a full pipe does, and nobody else.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Arc<Vec<u8>>>,
    /// How many chunks came before those that are kept.
    forgotten: usize,
    bytes: usize,
    client: Option<Input>,
    /// Ends what goes to the client that was attached last, even while it is being written to.
    hang_up: Option<HangUp>,
    log: Option<BoundedLog>,
    over: bool,
}

impl Tail {
    /// One that also goes to a client, or into a log.
    pub(super) fn new(client: Option<Input>, log: Option<BoundedLog>) -> Tail {
        let hang_up = client.as_ref().map(Input::hang_up);
        let state = State { client, hang_up, log, ..State::default() };
        Tail(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Takes in `output` until it ends. A client that wants no more is forgotten; then the output is closed, and the process learns of it as
    /// in a pipeline, unless it `outlives` its clients.
    pub(super) fn follow(&self, mut output: Output, outlives: impl Fn() -> bool) {
        while let Ok(Some(chunk)) = output.next_chunk() {
            let chunk = Arc::new(chunk);
            let Some(mut client) = self.lock().keep(&chunk) else { continue };
            if client.write_all(&chunk).is_ok() {
                // Unless somebody else has attached meanwhile, who has this chunk from what is kept.
                self.lock().client.get_or_insert(client);
            } else if self.lock().client.is_none() && !outlives() {
                break;
            }
        }
        let mut state = self.lock();
        state.over = true;
        // The end of the stream, for a client that is there.
        state.client = None;
        self.0.changed.notify_all();
    }

    /// Sends what was said last to `client`, and everything from now on; whoever was attached before is not any more.
    pub(super) fn attach(&self, mut client: Input) {
        let before = self.lock().hang_up.replace(client.hang_up());
        if let Some(before) = before {
            before.now();
        }
        let mut next = 0;
        loop {
            let chunk = {
                let mut state = self.lock();
                next = next.max(state.forgotten);
                let Some(chunk) = state.chunks.get(next - state.forgotten) else {
                    state.client = (!state.over).then_some(client);
                    return;
                };
                Arc::clone(chunk)
            };
            if client.write_all(&chunk).is_err() {
                return;
            }
            next += 1;
        }
    }

    /// What was said last, when all of it is here; or what is here by `deadline`. With it, whether more was said before.
    pub(super) fn last(&self, deadline: Instant) -> (Vec<u8>, bool) {
        let mut state = self.lock();
        while !state.over {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (state.chunks.iter().flat_map(|chunk| chunk.iter()).copied().collect(), state.forgotten > 0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a chunk, and hands out the client that is to get it.
    fn keep(&mut self, chunk: &Arc<Vec<u8>>) -> Option<Input> {
        if let Some(log) = &mut self.log {
            // A log that cannot be written must not hold up the process.
            let _ = log.append(chunk);
        }
        self.bytes += chunk.len();
        self.chunks.push_back(Arc::clone(chunk));
        while self.bytes > KEPT
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.len();
            self.forgotten += 1;
        }
        self.client.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept() {
        let tail = Tail::default();
        for index in 0..64_u8 {
            tail.lock().keep(&Arc::new(vec![index; 64 << 10]));
        }
        let (last, truncated) = tail.last(Instant::now());
        assert_eq!((last.len(), last[0], last[KEPT - 1], truncated), (KEPT, 48, 63, true));
    }
}
