//! Figures, for people: `cargo test --release -p microagent-gateway --test speed -- --ignored --nocapture`.

#![allow(clippy::cast_precision_loss, reason = "figures for people are rounded")]

mod world;

use microagent_egress::{Mode, Rules};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;
use world::World;

const BYTES: usize = 4 << 30;
const IDLE: usize = 1000;

fn world() -> Option<World> {
    World::new(Rules { mode: Mode::Guarded, ..Rules::default() })
}

/// Sends as fast as it goes from one end to the other.
fn transfer(mut from: TcpStream, mut to: TcpStream) -> f64 {
    let start = Instant::now();
    let sending = thread::spawn(move || {
        let piece = vec![7; 256 << 10];
        for _ in 0..BYTES / piece.len() {
            from.write_all(&piece).unwrap();
        }
    });
    let (mut place, mut count) = (vec![0; 256 << 10], 0);
    while count < BYTES {
        count += to.read(&mut place).unwrap();
    }
    sending.join().unwrap();
    BYTES as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}

#[test]
#[ignore = "figures, for people"]
fn one_stream() {
    let Some(world) = world() else { return };
    let listener = world.internet().net().enter(|| TcpListener::bind("192.0.2.30:5000").unwrap());
    for direction in ["up", "down"] {
        let guest = world.connect("192.0.2.30:5000").unwrap();
        let (server, _) = listener.accept().unwrap();
        let (from, to) = if direction == "up" { (guest, server) } else { (server, guest) };
        println!("{direction}: {:.2} Gbit/s", transfer(from, to));
    }
}

#[test]
#[ignore = "figures, for people"]
fn idle_connections() {
    let Some(world) = world() else { return };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    let before = resident();
    let mut streams: Vec<TcpStream> = Vec::new();
    let start = Instant::now();
    for _ in 0..IDLE {
        let mut stream = world.connect("192.0.2.10:7").unwrap();
        stream.write_all(&[7; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        streams.push(stream);
    }
    println!("{:.0} us for a connection and an exchange", start.elapsed().as_micros() as f64 / IDLE as f64);
    println!("{} KiB for each idle connection", (resident() - before) as f64 / IDLE as f64);
}
