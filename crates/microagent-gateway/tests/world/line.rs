//! A bad line between the host and everything else: what `tc qdisc add netem delay loss` makes of one, where the kernel has that.
//!
//! Many kernels have not, those of small machines among them, and a test that is skipped there says nothing. So the line is a thread
//! between two devices, which takes the place of the cable that [`Internet`] lays.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use microagent_testing::Internet;
use rustix::event::{PollFd, PollFlags, poll};

use super::tap;

/// Longer than any frame on it.
const MOST: usize = 2048;

/// Frames that wait in one direction, at the most: what comes on top is lost, as on any line.
const QUEUE: usize = 10_000;

/// The host's line to the internet, as bad as it was asked to be, until this is dropped.
pub(crate) struct Line {
    lost: Arc<AtomicU64>,
    end: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// How bad a line is, in each direction.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    /// Of a thousand frames, so many are lost.
    pub(crate) loss: u64,
    /// How long the others take.
    pub(crate) delay: Duration,
}

impl Line {
    /// Lays it in the place of the good one.
    pub(crate) fn lay(internet: &Internet, weather: Weather) -> Line {
        let host = internet.host().enter(|| tap::open("bad0")).expect("making the host's device");
        let net = internet.net().enter(|| tap::open("bad0")).expect("making the other device");
        let gateway = "203.0.113.254";
        let move_to_bad = |from: &str, address: &str| {
            format!("address del {address}/24 dev {from}\naddress add {address}/24 dev bad0\nlink set bad0 up\n")
        };
        internet.net().ip(&move_to_bad("host0", gateway));
        let route = format!("route add default via {gateway}\n");
        internet.host().ip(&(move_to_bad("net0", &Internet::HOST.to_string()) + &route));
        let (end, over) = UnixStream::pair().expect("making a pair of sockets");
        let lost = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&lost);
        let thread = thread::spawn(move || carry([&host, &net], weather, &over, &count));
        Line { lost, end, thread: Some(thread) }
    }

    /// How many frames were lost until now.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.end.shutdown(Shutdown::Both);
        // What the thread panicked of, it has said.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Carries frames from each to the other until somebody hangs up.
fn carry(devices: [&File; 2], weather: Weather, over: &UnixStream, lost: &AtomicU64) {
    let mut queues: [VecDeque<(Instant, Vec<u8>)>; 2] = Default::default();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    loop {
        for (mut from, queue) in devices.into_iter().zip(&mut queues) {
            let mut frame = [0; MOST];
            while let Ok(length @ 1..) = from.read(&mut frame) {
                if queue.len() == QUEUE || chance.of_a_thousand() < weather.loss {
                    lost.fetch_add(1, Ordering::Relaxed);
                } else {
                    queue.push_back((Instant::now() + weather.delay, frame[..length].to_vec()));
                }
            }
        }
        let now = Instant::now();
        for (mut to, queue) in devices.into_iter().rev().zip(&mut queues) {
            while queue.front().is_some_and(|(due, _)| *due <= now) {
                let (_, frame) = queue.pop_front().expect("it has a first one");
                // A device that is down takes nothing.
                let _ = to.write(&frame);
            }
        }
        let next =
            queues.iter().filter_map(|queue| queue.front()).map(|(due, _)| due.saturating_duration_since(now)).min();
        let next = next.map(|wait| wait.try_into().expect("far less than a century"));
        let [host, net] = devices.map(|device| PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN));
        let mut ready = [host, net, PollFd::new(over, PollFlags::IN)];
        poll(&mut ready, next.as_ref()).expect("waiting for frames");
        if !ready[2].revents().is_empty() {
            return;
        }
    }
}

/// The same in every run: xorshift64, by Marsaglia.
struct Chance(u64);

impl Chance {
    fn of_a_thousand(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 1000
    }
}
