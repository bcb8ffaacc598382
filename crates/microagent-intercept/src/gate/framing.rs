//! Where a message of HTTP/1 ends (RFC 9112, 6 and 7), and that there is only one answer.

use super::{HEAD_FIELDS, Refusal};
use memchr::memmem;

/// Longest line of a chunk's size, with its extensions, and longest trailer section.
const MAX_LINES: u32 = 16 << 10;

/// What is known of a head.
#[derive(Debug, PartialEq)]
pub(super) enum Head {
    /// It goes on.
    Partial,
    /// It is this long, and followed by such a body.
    Whole { length: usize, framing: Framing },
}

impl Head {
    /// Looks at `bytes`, which begin with one.
    pub(super) fn read(bytes: &[u8]) -> Result<Head, Refusal> {
        let Some(end) = memmem::find(bytes, b"\n\r\n") else {
            // Nobody sends lines that end otherwise, and a head that goes by them would be waited for in vain.
            if memmem::find(bytes, b"\n\n").is_some() {
                return Err(Refusal::Malformed("its lines do not end with CR LF"));
            }
            return Ok(Head::Partial);
        };
        let length = end + 3;
        let head = &bytes[..length];
        if memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r') {
            return Err(Refusal::Malformed("its lines do not end with CR LF"));
        }
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
            Ok(_) => return Err(Refusal::Malformed("its end is not clear")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
            Err(httparse::Error::Version) => return Err(Refusal::Malformed("its version is not HTTP/1")),
            Err(_) => return Err(Refusal::Malformed("it is not a request of HTTP/1")),
        }
        let framing = Framing::of(request.version, request.headers)?;
        Ok(Head::Whole { length, framing })
    }
}

/// How the end of a body is told, and what is left of it.
#[derive(Debug, PartialEq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// By chunks.
    Chunks(Chunk),
}

/// Where in a chunked body it is.
#[derive(Debug, PartialEq)]
pub(super) enum Chunk {
    /// In the line that tells its size: the size so far, and the line's length.
    Size { size: Option<u64>, length: u32 },
    /// In what follows the size.
    Extension { size: u64, length: u32 },
    /// Before the LF of that line.
    SizeEnd { size: u64 },
    /// In its data, with so much left.
    Data(u64),
    /// Before the CR LF after them, with so many bytes left of it.
    DataEnd(u8),
    /// In the trailer section: the lengths of it and of the line so far, and whether CR was last.
    Trailer { length: u32, line: u32, cr: bool },
}

const FIRST: Chunk = Chunk::Size { size: None, length: 0 };

impl Framing {
    fn of(version: Option<u8>, fields: &[httparse::Header<'_>]) -> Result<Framing, Refusal> {
        let values = |name: &'static str| {
            fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        let mut lengths = values("content-length");
        let mut codings = values("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (Some(_), Some(_)) => Err(Refusal::Malformed("it has both `Content-Length` and `Transfer-Encoding`")),
            (None, None) => Ok(Framing::Length(0)),
            (Some(length), None) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let number = std::str::from_utf8(length).ok().filter(|_| digits).and_then(|text| text.parse().ok());
                match number {
                    Some(number) if lengths.next().is_none() => Ok(Framing::Length(number)),
                    _ => Err(Refusal::Malformed("its `Content-Length` is not one number")),
                }
            }
            (None, Some(coding)) => {
                if version == Some(1) && coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() {
                    Ok(Framing::Chunks(FIRST))
                } else {
                    Err(Refusal::Malformed("its `Transfer-Encoding` is not `chunked`"))
                }
            }
        }
    }

    /// How many of `bytes` belong to the body, and whether it is over with them. Fails where the chunks are none.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), ()> {
        match self {
            Framing::Length(left) => {
                let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= count as u64;
                Ok((count, *left == 0))
            }
            Framing::Chunks(chunk) => {
                let mut at = 0;
                while at < bytes.len() {
                    if let Chunk::Data(left) = chunk {
                        let count = usize::try_from(*left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                        *left -= count as u64;
                        at += count;
                        if *left == 0 {
                            *chunk = Chunk::DataEnd(2);
                        }
                        continue;
                    }
                    let is_over = chunk.step(bytes[at])?;
                    at += 1;
                    if is_over {
                        return Ok((at, true));
                    }
                }
                Ok((at, false))
            }
        }
    }
}

impl Chunk {
    /// Goes on by a byte that is not of the data. Whether the body is over.
    fn step(&mut self, byte: u8) -> Result<bool, ()> {
        *self = match *self {
            Chunk::Size { size, length } => match (byte, size) {
                (b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _) if length < MAX_LINES => {
                    let digit = u64::from((byte as char).to_digit(16).ok_or(())?);
                    let size = size.unwrap_or(0).checked_mul(16).ok_or(())? + digit;
                    Chunk::Size { size: Some(size), length: length + 1 }
                }
                (b';' | b' ' | b'\t', Some(size)) => Chunk::Extension { size, length },
                (b'\r', Some(size)) => Chunk::SizeEnd { size },
                _ => return Err(()),
            },
            Chunk::Extension { size, .. } if byte == b'\r' => Chunk::SizeEnd { size },
            Chunk::Extension { size, length } if byte != b'\n' && length < MAX_LINES => {
                Chunk::Extension { size, length: length + 1 }
            }
            Chunk::SizeEnd { size: 0 } if byte == b'\n' => Chunk::Trailer { length: 0, line: 0, cr: false },
            Chunk::SizeEnd { size } if byte == b'\n' => Chunk::Data(size),
            Chunk::DataEnd(2) if byte == b'\r' => Chunk::DataEnd(1),
            Chunk::DataEnd(1) if byte == b'\n' => FIRST,
            Chunk::Trailer { line: 0, cr: true, .. } if byte == b'\n' => return Ok(true),
            Chunk::Trailer { length, cr: true, .. } if byte == b'\n' => Chunk::Trailer { length, line: 0, cr: false },
            Chunk::Trailer { length, line, cr: false } if byte == b'\r' => Chunk::Trailer { length, line, cr: true },
            Chunk::Trailer { length, line, cr: false } if byte != b'\n' && length < MAX_LINES => {
                Chunk::Trailer { length: length + 1, line: line + 1, cr: false }
            }
            _ => return Err(()),
        };
        Ok(false)
    }
}
