//! The two directions of a stream: a command's pipe on one side, credit and frames on the other.

use crate::outbox::{OUTPUT_LIMIT, Outbox};
use crate::pending::Pending;
use crate::terminal;
use microagent_protocol::frame::MAX_DATA;
use microagent_protocol::{CreditExceeded, Frame, Kind, ReceiveWindow, SendWindow};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// Bytes a command writes, on their way to the host.
#[derive(Debug)]
pub(crate) struct Output {
    id: u32,
    pipe: Option<OwnedFd>,
    window: SendWindow,
    /// Set when the command has ended: bytes it had written by then and that are still in the pipe.
    owed: Option<u64>,
    terminal: bool,
}

impl Output {
    /// Carries what is written to the other end of `pipe`, which is non-blocking.
    pub(crate) fn new(id: u32, pipe: OwnedFd) -> Output {
        Output { id, pipe: Some(pipe), window: SendWindow::default(), owed: None, terminal: false }
    }

    /// Carries what is printed on a terminal, of which this is the master, non-blocking.
    pub(crate) fn of_terminal(id: u32, master: OwnedFd) -> Output {
        Output { terminal: true, ..Output::new(id, master) }
    }

    /// The stream's id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The pipe, if it is worth waiting for: it is open and the host takes more.
    pub(crate) fn readable_when(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.window.available() > 0).map(AsFd::as_fd)
    }

    /// Takes in the host's grant.
    pub(crate) fn grant(&mut self, bytes: u32) {
        self.window.grant(bytes);
    }

    /// Moves at most one frame's worth from the pipe to the outbox.
    pub(crate) fn pump(&mut self, outbox: &mut Outbox) {
        let Some(pipe) = &self.pipe else { return };
        let room = self.window.available().min(MAX_DATA);
        if room == 0 || outbox.unsent().len() >= OUTPUT_LIMIT {
            return;
        }
        match outbox.push_data(self.id, room, |space| rustix::io::read(pipe, space)) {
            Ok(0) => self.end(outbox),
            Ok(count) => {
                self.window.spend(count);
                self.owed = self.owed.map(|owed| owed.saturating_sub(count as u64));
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.end(outbox),
        }
    }

    /// The command has ended. What is in the pipe now was written while it ran and will be sent, whatever else happens.
    pub(crate) fn writer_ended(&mut self) {
        // What a terminal holds cannot be counted: part of it is on its way from one end to the other. The kernel hangs it up now, so its end
        // follows what was printed.
        if self.terminal {
            return;
        }
        let pending = self.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok());
        self.owed = Some(pending.unwrap_or(0));
    }

    /// Whether all that the command itself wrote has been sent. Its children may still write more.
    pub(crate) fn is_settled(&self) -> bool {
        match self.owed {
            _ if self.pipe.is_none() => true,
            // It could have been read to its end.
            None => self.terminal && self.window.available() > 0,
            Some(owed) => owed == 0,
        }
    }

    /// Whether the stream is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// Ends the stream. A process that still writes to it gets `SIGPIPE`.
    pub(crate) fn end(&mut self, outbox: &mut Outbox) {
        if self.pipe.take().is_some() {
            outbox.push_empty(Kind::End, self.id);
        }
    }

    /// Goes on under another id, for a host that knows nothing of the one before.
    pub(crate) fn adopt(&mut self, id: u32, outbox: &mut Outbox) {
        (self.id, self.window) = (id, SendWindow::default());
        if self.is_closed() {
            outbox.push_empty(Kind::End, id);
        }
    }

    /// The host wants no more of it, so nobody does: writers get `SIGPIPE`, as from a pipe whose reader has left.
    pub(crate) fn reset(&mut self) {
        self.pipe = None;
    }
}

/// Bytes from the host, on their way to a command's standard input.
#[derive(Debug)]
pub(crate) struct Input {
    id: u32,
    pipe: Option<OwnedFd>,
    window: ReceiveWindow,
    pending: Pending,
    /// How many of those are of a host before this one: they are not counted in the window.
    inherited: usize,
    ended: bool,
    /// Where it is a terminal: whether what was typed last has not been ended as a line.
    terminal: Option<bool>,
    /// It is a connection, of which the other direction may go on.
    connection: bool,
}

impl Input {
    /// Feeds the other end of `pipe`, which is non-blocking.
    pub(crate) fn new(id: u32, pipe: OwnedFd) -> Input {
        Input {
            id,
            pipe: Some(pipe),
            window: ReceiveWindow::default(),
            pending: Pending::default(),
            inherited: 0,
            ended: false,
            terminal: None,
            connection: false,
        }
    }

    /// Feeds a pipe with a secret, of which nothing stays in memory.
    pub(crate) fn of_secret(id: u32, pipe: OwnedFd) -> Input {
        Input { pending: Pending::secret(), ..Input::new(id, pipe) }
    }

    /// Types at a terminal, of which this is the master, non-blocking.
    pub(crate) fn of_terminal(id: u32, master: OwnedFd) -> Input {
        Input { terminal: Some(false), ..Input::new(id, master) }
    }

    /// Feeds a connection, non-blocking: with secrets, of which nothing stays in memory, or with whatever there is.
    pub(crate) fn of_connection(id: u32, socket: OwnedFd, secret: bool) -> Input {
        let feed = if secret { Input::of_secret } else { Input::new };
        Input { connection: true, ..feed(id, socket) }
    }

    /// Whether what it takes may be a secret.
    pub(crate) fn is_secret(&self) -> bool {
        self.pending.is_secret()
    }

    /// The stream's id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Whether the stream is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    /// The pipe, while open, and whether there is something to write to it. Even when there is not, it must be watched: the
    /// command may close its end, and then the host is told to stop sending.
    pub(crate) fn writable_when(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.pipe.as_ref().map(|pipe| (pipe.as_fd(), !self.pending.is_empty()))
    }

    /// Takes in bytes from the host.
    pub(crate) fn receive(&mut self, bytes: &[u8], outbox: &mut Outbox) -> Result<(), CreditExceeded> {
        if self.pipe.is_none() || self.ended {
            return Ok(());
        }
        self.window.receive(bytes.len())?;
        self.pending.extend(bytes);
        self.pump(outbox);
        Ok(())
    }

    /// The host has sent all.
    pub(crate) fn end(&mut self, outbox: &mut Outbox) {
        if !self.ended
            && let (Some(line_open), Some(master)) = (self.terminal, &self.pipe)
        {
            let line_open = self.pending.last().map_or(line_open, |byte| byte != b'\n');
            self.pending.extend(&terminal::end_of_input(master, line_open));
        }
        self.ended = true;
        self.pump(outbox);
    }

    /// Writes what the pipe takes, and grants the host as much again.
    pub(crate) fn pump(&mut self, outbox: &mut Outbox) {
        while let Some(pipe) = &self.pipe {
            if self.pending.is_empty() {
                if self.ended {
                    if self.connection {
                        // One that is gone needs no closing.
                        let _ = rustix::net::shutdown(pipe, rustix::net::Shutdown::Write);
                    }
                    self.pipe = None;
                }
                return;
            }
            match rustix::io::write(pipe, self.pending.first()) {
                Ok(count) => {
                    let last = self.pending.remove(count);
                    if let (Some(line_open), Some(last)) = (&mut self.terminal, last) {
                        *line_open = last != b'\n';
                    }
                    let inherited = count.min(self.inherited);
                    self.inherited -= inherited;
                    if let Some(grant) = self.window.consume(count - inherited) {
                        outbox.push(&Frame::credit(self.id, grant));
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.abandon(outbox),
            }
        }
    }

    /// Nobody reads it any more: tells the host, unless it has sent all anyway.
    pub(crate) fn abandon(&mut self, outbox: &mut Outbox) {
        if self.pipe.take().is_some() && !self.ended {
            outbox.push_empty(Kind::Reset, self.id);
        }
        self.pending.clear();
    }

    /// Goes on for nobody: what is there is written, and then it ends.
    pub(crate) fn orphan(&mut self, outbox: &mut Outbox) {
        // Nothing of it is granted again.
        self.inherited = self.pending.len();
        self.end(outbox);
    }

    /// Goes on under another id, for a host that knows nothing of the one before. What is there to be written will be.
    pub(crate) fn adopt(&mut self, id: u32, outbox: &mut Outbox) {
        (self.id, self.window, self.inherited) = (id, ReceiveWindow::default(), self.pending.len());
        if self.is_closed() || self.ended {
            outbox.push_empty(Kind::Reset, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_protocol::Decoder;
    use microagent_protocol::flow::INITIAL_CREDIT;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn frames(outbox: &mut Outbox) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        decoder.extend(outbox.unsent());
        outbox.advance(outbox.unsent().len());
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    #[test]
    fn output_stops_at_the_end_of_its_credit_and_goes_on_with_more() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (mut output, mut outbox) = (Output::new(7, reader), Outbox::default());
        let mut sent = 0;
        while output.readable_when().is_some() {
            rustix::io::write(&writer, &[1; 4096]).unwrap();
            output.pump(&mut outbox);
            sent += frames(&mut outbox).iter().map(|frame| frame.payload.len()).sum::<usize>();
        }
        assert_eq!(sent, INITIAL_CREDIT as usize);
        output.grant(1);
        rustix::io::write(&writer, &[2; 10]).unwrap();
        output.pump(&mut outbox);
        assert_eq!(frames(&mut outbox), [Frame::new(Kind::Data, 7, vec![2])]);
    }

    #[test]
    fn what_a_command_wrote_before_it_ended_is_owed_and_what_others_write_later_is_not() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (mut output, mut outbox) = (Output::new(7, reader), Outbox::default());
        rustix::io::write(&writer, b"last words").unwrap();
        output.writer_ended();
        assert!(!output.is_settled());
        output.pump(&mut outbox);
        assert!(output.is_settled() && !output.is_closed());
    }

    #[test]
    fn input_grants_as_the_command_reads_and_not_before() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (mut input, mut outbox) = (Input::new(3, writer), Outbox::default());
        input.receive(&vec![0; INITIAL_CREDIT as usize], &mut outbox).unwrap();
        assert_eq!(frames(&mut outbox), [], "the pipe holds less than half a window");
        assert!(input.receive(&[0], &mut outbox).is_err(), "the credit is spent");
        let mut taken = 0;
        while taken < INITIAL_CREDIT as usize {
            taken += rustix::io::read(&reader, &mut [0; 8192]).unwrap();
            input.pump(&mut outbox);
        }
        let granted: u32 = frames(&mut outbox).iter().filter_map(Frame::credit_granted).sum();
        assert_eq!(granted, INITIAL_CREDIT);
    }

    #[test]
    fn an_adopted_stream_begins_anew_and_loses_nothing() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (mut input, mut outbox) = (Input::new(3, writer), Outbox::default());
        let window = vec![1; INITIAL_CREDIT as usize];
        input.receive(&window, &mut outbox).unwrap();
        input.adopt(4, &mut outbox);
        input.receive(&window, &mut outbox).unwrap();
        assert!(input.receive(&[0], &mut outbox).is_err(), "the new credit is spent");
        let mut taken = 0;
        while let Ok(count) = rustix::io::read(&reader, &mut [0; 8192]) {
            taken += count;
            input.pump(&mut outbox);
        }
        assert_eq!(taken, 2 * window.len());
        let granted: Vec<(u32, u32)> =
            frames(&mut outbox).iter().map(|frame| (frame.id, frame.credit_granted().unwrap())).collect();
        assert!(granted.iter().all(|(id, _)| *id == 4), "{granted:?}");
        // What the pipe had taken before it was adopted is nobody's to grant, nor is what waited then.
        assert_eq!(granted.iter().map(|(_, bytes)| bytes).sum::<u32>(), INITIAL_CREDIT);
    }

    #[test]
    fn an_adopted_stream_that_has_ended_ends_again() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut outbox = Outbox::default();
        let (mut input, mut output) = (Input::new(3, writer), Output::new(7, reader));
        input.end(&mut outbox);
        output.pump(&mut outbox);
        assert_eq!(frames(&mut outbox), [Frame::new(Kind::End, 7, vec![])]);
        input.adopt(4, &mut outbox);
        output.adopt(8, &mut outbox);
        assert_eq!(frames(&mut outbox), [Frame::new(Kind::Reset, 4, vec![]), Frame::new(Kind::End, 8, vec![])]);
    }

    #[test]
    fn a_command_that_closes_its_input_makes_the_host_stop() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (mut input, mut outbox) = (Input::new(3, writer), Outbox::default());
        drop(reader);
        input.receive(b"unheard", &mut outbox).unwrap();
        assert_eq!(frames(&mut outbox), [Frame::new(Kind::Reset, 3, vec![])]);
        input.receive(b"still on its way", &mut outbox).unwrap();
        assert_eq!(frames(&mut outbox), []);
    }

    #[test]
    fn the_end_of_input_closes_the_pipe_after_the_last_byte() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (mut input, mut outbox) = (Input::new(3, writer), Outbox::default());
        input.receive(b"all", &mut outbox).unwrap();
        input.end(&mut outbox);
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(3));
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(0));
        assert_eq!(frames(&mut outbox), []);
    }
}
