//! The thread that takes in what the other end sends.

use super::call::CallState;
use super::{Closed, Shared};
use microagent_protocol::{Decoder, Frame, Kind};
use std::io::Read;
use std::os::unix::net::UnixStream;

/// Read size: one largest data frame and its header fit, so bulk output costs one system call a frame.
const READ_BYTES: usize = 80 << 10;

/// Takes in calls: their id, and what they ask.
pub(super) type OnCall<'a> = &'a mut dyn FnMut(u32, &[u8]);

/// Reads until the conversation is over. Calls go to `on_call`, where this side takes any.
pub(super) fn run(shared: &Shared, mut stream: UnixStream, mut on_call: Option<OnCall<'_>>) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    let why = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Closed::Lost,
            Ok(count) => {
                decoder.extend(&buffer[..count]);
                if let Err(what) = take_frames(shared, &mut decoder, &mut on_call) {
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

fn take_frames(shared: &Shared, decoder: &mut Decoder, on_call: &mut Option<OnCall<'_>>) -> Result<(), String> {
    while let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
        match (frame.kind, on_call.as_mut()) {
            // At once and on this thread: the bytes of the streams it names may be next.
            (Kind::Call, Some(on_call)) => on_call(frame.id, &frame.payload),
            (Kind::Hello | Kind::Reply, Some(_)) => return Err(format!("{:?} frame from a client", frame.kind)),
            _ => take(shared, frame)?,
        }
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
            check_json(&frame)?;
            state.hello = Some(frame.payload);
        }
        Kind::Reply => {
            if let Some(slot) = state.calls.get_mut(&frame.id) {
                if matches!(slot, CallState::Answered(_)) {
                    return Err(format!("second reply to call {}", frame.id));
                }
                check_json(&frame)?;
                *slot = CallState::Answered(frame.payload);
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

/// What a message says is its reader's business; that it is a message is everybody's.
fn check_json(frame: &Frame) -> Result<(), String> {
    let checked = serde_json::from_slice::<serde::de::IgnoredAny>(&frame.payload);
    checked.map(drop).map_err(|error| format!("{:?} that cannot be read: {error}", frame.kind))
}
