//! The thread that takes in what the guest sends.

use super::call::CallState;
use super::{Closed, Shared};
use microagent_protocol::{Decoder, Frame, Kind};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::os::unix::net::UnixStream;

/// Read size: one largest data frame and its header fit, so bulk output costs one system call a frame.
const READ_BYTES: usize = 80 << 10;

pub(super) fn run(shared: &Shared, mut stream: UnixStream) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    let why = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Closed::Lost,
            Ok(count) => {
                decoder.extend(&buffer[..count]);
                if let Err(what) = take_frames(shared, &mut decoder) {
                    break Closed::Violation(what);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break Closed::Lost,
        }
    };
    shared.close(why);
    // Either side may still be writing; after this neither waits for the other.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn take_frames(shared: &Shared, decoder: &mut Decoder) -> Result<(), String> {
    while let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
        take(shared, frame)?;
        shared.changed.notify_all();
    }
    Ok(())
}

/// Books one frame. Frames for calls and streams the host has let go of are dropped: the guest may not know yet.
fn take(shared: &Shared, frame: Frame) -> Result<(), String> {
    let mut state = shared.lock();
    match frame.kind {
        Kind::Hello => {
            if state.hello.is_some() {
                return Err("second hello".to_owned());
            }
            state.hello = Some(parse(&frame)?);
        }
        Kind::Reply => {
            if let Some(slot) = state.calls.get_mut(&frame.id) {
                if matches!(slot, CallState::Answered(_)) {
                    return Err(format!("second reply to call {}", frame.id));
                }
                *slot = CallState::Answered(parse(&frame)?);
            }
        }
        Kind::Data => {
            if let Some(output) = state.outputs.get_mut(&frame.id) {
                if output.ended {
                    return Err(format!("data after the end of stream {}", frame.id));
                }
                output.window.receive(frame.payload.len()).map_err(|error| error.to_string())?;
                // An empty chunk would read as the end of the stream, and empty chunks cost no credit: without this a guest could queue
                // them without bound.
                if !frame.payload.is_empty() {
                    output.chunks.push_back(frame.payload);
                }
            }
        }
        Kind::End => {
            if let Some(output) = state.outputs.get_mut(&frame.id) {
                output.ended = true;
            }
        }
        Kind::Credit => {
            let bytes = frame.credit_granted().ok_or("credit frame without a number")?;
            if let Some(input) = state.inputs.get_mut(&frame.id) {
                input.window.grant(bytes);
            }
        }
        Kind::Reset => {
            if let Some(input) = state.inputs.get_mut(&frame.id) {
                input.refused = true;
            }
        }
        Kind::Call => return Err("a guest does not call".to_owned()),
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(frame: &Frame) -> Result<T, String> {
    serde_json::from_slice(&frame.payload).map_err(|error| format!("{:?} that cannot be read: {error}", frame.kind))
}
