//! Whatever a guest says in HTTP/1: it passes in the same way however it is cut, what has passed passes again, and it is what the parser of
//! the library behind the gate takes it for, message by message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_intercept::fuzzing::gate;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let (passed, refused) = gate(&[bytes]);
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for cut in cuts {
        let (piece, after) = rest.split_at(rest.len().min(cut.into()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let in_pieces = gate(&pieces);
    assert_eq!(in_pieces.1, refused);
    if refused {
        // How much of a body passes before its chunks turn out to be none is by the cuts.
        return;
    }
    assert_eq!(in_pieces.0, passed);
    // Empty lines before a request are no part of it, and what is left behind is not looked for.
    assert!(passed.len() <= bytes.len());
    assert_eq!(gate(&[&passed]), (passed.clone(), false));
    let mut rest = passed.as_slice();
    while !rest.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut request = httparse::Request::new(&mut fields);
        let head = request.parse(rest).expect("a head that has passed is one").unwrap();
        let of = |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
        assert!(of("content-length") + of("transfer-encoding") <= 1);
        let length = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        if of("transfer-encoding") > 0 {
            return;
        }
        let length = length.map_or(0, |field| std::str::from_utf8(field.value).unwrap().parse::<usize>().unwrap());
        rest = rest.get(head.saturating_add(length)..).unwrap_or_default();
    }
});
