//! Bytes between a connection of the host and one of the guest.

use microagent_machine::channel::{Input, Output};
use rustix::net::sockopt::set_socket_linger;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Bytes that are read at once: what the channel carries in one frame.
const CHUNK: usize = 64 << 10;

/// The guest's connection, as the channel has it.
pub(super) struct Ends {
    /// To the guest.
    pub(super) input: Input,
    /// From the guest.
    pub(super) output: Output,
}

/// Passes bytes on until both directions have ended. Each ends on its own, and one that fails ends both.
pub(super) fn relay(stream: TcpStream, ends: Ends) {
    let Ends { mut input, mut output } = ends;
    // What is typed at one end is wanted at the other.
    let _ = stream.set_nodelay(true);
    let Ok(mut reading) = stream.try_clone() else { return };
    let hang_up = input.hang_up();
    let to_guest = std::thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            match reading.read(&mut buffer) {
                Ok(0) | Err(_) => return input.finish(),
                Ok(count) if input.write_all(&buffer[..count]).is_err() => {
                    // The guest wants no more; whoever sends is told as the kernel tells it.
                    let _ = reading.shutdown(Shutdown::Read);
                    return;
                }
                Ok(_) => {}
            }
        }
    });
    let Ok(to_guest) = to_guest else { return reset(&stream) };
    let mut writing = stream;
    loop {
        match output.next_chunk() {
            Ok(Some(chunk)) => {
                if writing.write_all(&chunk).is_err() {
                    break;
                }
            }
            Ok(None) => {
                let _ = writing.shutdown(Shutdown::Write);
                let _ = to_guest.join();
                return;
            }
            Err(_) => break,
        }
    }
    hang_up.now();
    let _ = writing.shutdown(Shutdown::Both);
    let _ = to_guest.join();
}

/// Ends a connection so that the other end sees that it was refused.
pub(super) fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
