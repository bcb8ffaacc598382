//! Whatever a request says of itself, it is passed on to the host of its connection or not at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_intercept::fuzzing::request;

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fuzz_target!(|input: (&[u8], &[u8], Option<&[u8]>, Fields, bool)| {
    let (method, uri, host, mut fields, http2) = input;
    fields.truncate(64);
    // Most of what is made up would not get further than that.
    fields.push((b"host", host.unwrap_or(b"api.example")));
    request(if method.is_empty() { b"GET" } else { method }, uri, &fields, http2);
});
