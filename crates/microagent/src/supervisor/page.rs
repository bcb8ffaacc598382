//! Asking a server in the workspace for a page: what tells whether it is well.

use crate::Error;
use microagent_machine::Channel;
use microagent_machine::channel::Output;
use microagent_protocol::Request;
use microagent_protocol::supervisor::HttpGet;
use std::io::{ErrorKind, Write};
use std::time::Instant;

/// Most bytes that are read of the answer, of which only the status counts.
const MAX_ANSWER: usize = 64 << 10;
const MAX_FIELDS: usize = 128;

/// The status that a server of the guest answers with, by `deadline`. The connection ends with this, whatever the server still has to say.
pub(super) fn status(channel: &Channel, page: &HttpGet, deadline: Instant) -> Result<u16, Error> {
    let failed = |reason: &str| Error::NoHttpAnswer { port: page.port, reason: reason.to_owned() };
    let (mut input, mut output) = (channel.input(), channel.output());
    let request = Request::Connect { port: page.port, input: input.id(), output: output.id() };
    channel.call(&request)?.wait(Some(deadline))?;
    // A server that ends the connection before it has read everything may have answered all the same.
    let _ = input.write_all(request_of(page).as_bytes());
    let mut answer = Vec::new();
    loop {
        match look(&mut answer) {
            Look::Status(status) => return Ok(status),
            Look::NotHttp => return Err(failed("what it says is not HTTP")),
            Look::More if answer.len() > MAX_ANSWER => return Err(failed("its answer is too long")),
            Look::More => answer.extend(next(&mut output, deadline).map_err(failed)?),
        }
    }
}

fn request_of(page: &HttpGet) -> String {
    let HttpGet { port, path } = page;
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: microagent/{version}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
}

fn next(output: &mut Output, deadline: Instant) -> Result<Vec<u8>, &'static str> {
    match output.next_chunk_until(Some(deadline)) {
        Ok(Some(chunk)) => Ok(chunk),
        Ok(None) => Err("it ended the connection without an answer"),
        Err(error) if error.kind() == ErrorKind::TimedOut => Err("it did not answer in time"),
        Err(_) => Err("the guest is gone"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Status(u16),
    More,
    NotHttp,
}

/// What is to be seen of an answer so far. Those that only come before it (RFC 9110, 15.2) are taken away.
fn look(answer: &mut Vec<u8>) -> Look {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(answer);
        match (response.code, parsed) {
            (Some(100..=199), Ok(httparse::Status::Complete(head))) => drop(answer.drain(..head)),
            (Some(100..=199) | None, Ok(_)) => return Look::More,
            (Some(100..=199) | None, Err(_)) => return Look::NotHttp,
            // Whatever its fields are: it was said.
            (Some(status), _) => return Look::Status(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_counts_as_soon_as_it_was_said() {
        let look = |text: &str| look(&mut text.as_bytes().to_vec());
        assert_eq!(look("HTTP/1.1 204"), Look::Status(204));
        assert_eq!(look("HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n"), Look::Status(302));
        assert_eq!(
            look("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 500 "),
            Look::Status(500)
        );
        for early in ["", "HTTP/1", "HTTP/1.1 20", "HTTP/1.1 100 Continue\r\n"] {
            assert_eq!(look(early), Look::More, "{early:?}");
        }
        for other in ["SSH-2.0-server\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n"] {
            assert_eq!(look(other), Look::NotHttp, "{other:?}");
        }
    }

    #[test]
    fn the_request_is_for_one_page_and_no_more() {
        let request = request_of(&HttpGet { port: 8080, path: "/ready?a=b".to_owned() });
        assert!(request.starts_with("GET /ready?a=b HTTP/1.1\r\nHost: localhost:8080\r\n"), "{request}");
        assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request}");
    }
}
