//! One connection, from its first segment to its last.
//!
//! It is in one [`Stage`] at a time. A stage is advanced when something came that may matter to it, does what can be
//! done, and says what it waits for, or which stage is next.

use super::answering::Answering;
use super::connecting::Connecting;
use super::guest::Guest;
use super::opening::Opening;
use super::refusal::Refusal;
use super::relay::{Broken, Bytes, relay};
use super::upstream::Upstream;
use crate::edge::Edge;
use crate::poll::Token;
use microagent_egress::Protocol;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// How long the guest has to take what came before a connection broke.
const BREAKING: Duration = Duration::from_secs(10);
/// How long the guest has to close a connection that ends here.
pub(crate) const PARTING: Duration = Duration::from_secs(10);
/// The stack's timers are not looked at more often.
const TICK: Duration = Duration::from_millis(1);

/// One connection.
pub(crate) struct Flow {
    pub ends: Ends,
    pub stage: Stage,
}

/// What it connects.
pub(crate) struct Ends {
    pub id: Token,
    /// Where the guest wants to.
    pub to: SocketAddrV4,
    /// The names that address had then. They are kept: the connection outlives what a resolver says.
    pub names: Vec<String>,
    /// The one it is known by.
    pub host: Option<String>,
    pub guest: Option<Guest>,
    pub upstream: Option<Upstream>,
    pub bytes: Bytes,
    /// Whether the record knows of it.
    pub announced: bool,
}

/// What becomes of it next.
pub(crate) enum Stage {
    /// The other end is being connected with. The guest has no answer yet, so that it sees what comes of that.
    Connecting(Connecting),
    /// Both are there, and what the guest says first decides where that goes.
    Opening(Opening),
    /// Bytes go both ways.
    Relaying,
    /// The other end is lost. The guest gets what there still is.
    Breaking(Instant),
    /// There is no other end. The guest is told why.
    Refusing(Refusal),
    /// There is no other end: the guest asks our resolver.
    Answering(Answering),
    /// All is said. The guest has until then to say so, too.
    Parting(Instant),
}

/// What a stage came to.
pub(crate) enum Step {
    /// It waits, at most until then.
    Wait(Option<Instant>),
    /// The next one.
    To(Stage),
    /// The end.
    Gone,
}

/// When a flow wants to be advanced again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something comes, and then at the latest.
    Wait(Option<Instant>),
    /// As soon as the link has room.
    Again,
    /// Never.
    Gone,
}

impl Flow {
    /// Does what can be done.
    pub(crate) fn advance(&mut self, edge: &mut Edge) -> Next {
        loop {
            if self.ends.guest.as_ref().is_some_and(Guest::is_reset) {
                if let Some(upstream) = self.ends.upstream.take() {
                    upstream.reset();
                }
                return Next::Gone;
            }
            match self.step(edge) {
                Step::To(stage) => self.stage = stage,
                Step::Gone => return Next::Gone,
                Step::Wait(until) => return self.send(edge, until),
            }
        }
    }

    fn step(&mut self, edge: &mut Edge) -> Step {
        match &mut self.stage {
            Stage::Connecting(connecting) => connecting.advance(&mut self.ends, edge),
            Stage::Opening(opening) => opening.advance(&mut self.ends, edge),
            Stage::Relaying => self.ends.relay(edge),
            Stage::Breaking(until) => self.ends.finish(*until, edge),
            Stage::Refusing(refusal) => refusal.advance(&mut self.ends, edge),
            Stage::Answering(answering) => answering.advance(&mut self.ends, edge),
            Stage::Parting(until) => self.ends.part(*until, edge),
        }
    }

    /// Sends what has come of it.
    fn send(&mut self, edge: &mut Edge, until: Option<Instant>) -> Next {
        let Some(guest) = &mut self.ends.guest else { return Next::Wait(until) };
        if !guest.send(edge) {
            return Next::Again;
        }
        if guest.is_over() {
            return Next::Gone;
        }
        let own = guest.deadline(edge).map(|at| at.max(edge.now + TICK));
        Next::Wait(match (until, own) {
            (Some(until), Some(own)) => Some(until.min(own)),
            (until, own) => until.or(own),
        })
    }
}

impl Ends {
    fn relay(&mut self, edge: &mut Edge) -> Step {
        let (Some(guest), Some(upstream)) = (&mut self.guest, &mut self.upstream) else { return Step::Gone };
        if let Err(Broken) = relay(guest, upstream, &mut self.bytes) {
            self.upstream = None;
            return Step::To(Stage::Breaking(edge.now + BREAKING));
        }
        Step::Wait(None)
    }

    fn finish(&mut self, until: Instant, edge: &Edge) -> Step {
        let Some(guest) = &mut self.guest else { return Step::Gone };
        guest.skip(usize::MAX);
        if guest.has_all() || edge.now >= until {
            return self.abort(edge);
        }
        Step::Wait(Some(until))
    }

    fn part(&mut self, until: Instant, edge: &Edge) -> Step {
        let Some(guest) = &mut self.guest else { return Step::Gone };
        guest.skip(usize::MAX);
        if edge.now >= until { Step::Gone } else { Step::Wait(Some(until)) }
    }

    /// Breaks it off, on both sides.
    pub(crate) fn abort(&mut self, edge: &Edge) -> Step {
        self.upstream = None;
        match &mut self.guest {
            Some(guest) => guest.abort(),
            None => return Step::Gone,
        }
        Step::To(Stage::Parting(edge.now + PARTING))
    }

    /// Tells the record that it went out.
    pub(crate) fn announce(&mut self, edge: &Edge, intercepted: Option<bool>) {
        if !std::mem::replace(&mut self.announced, true) {
            edge.record.allow(Protocol::Tcp, self.host.clone(), self.to, intercepted);
        }
    }

    /// Tells the record that it is over.
    pub(crate) fn close(&mut self, edge: &Edge) {
        if self.announced {
            let Bytes { sent, received } = self.bytes;
            edge.record.close(Protocol::Tcp, self.host.clone(), self.to, sent, received);
        }
    }
}
