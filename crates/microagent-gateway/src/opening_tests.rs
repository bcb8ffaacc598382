use super::*;
use proptest::prelude::*;

fn vector(length: usize, body: &[u8]) -> Vec<u8> {
    let prefix = &(body.len() as u64).to_be_bytes()[8 - length..];
    [prefix, body].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector(2, body)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[vec![0], vector(2, name)].concat()))
}

/// A `ClientHello`, without the record around it.
fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(vector(1, &[9; 32]));
    body.extend(vector(2, &[0x13, 0x01, 0x13, 0x02]));
    body.extend(vector(1, &[0]));
    body.extend(vector(2, &extensions.concat()));
    [vec![1], vector(3, &body)].concat()
}

fn record(body: &[u8]) -> Vec<u8> {
    [vec![22, 3, 1], vector(2, body)].concat()
}

fn tls(name: Option<&str>, encrypted: bool) -> Sniffed {
    Sniffed::Tls { name: name.map(str::to_owned), encrypted }
}

fn http(host: Option<&str>) -> Sniffed {
    Sniffed::Http { host: host.map(str::to_owned) }
}

#[test]
fn a_hello_names_its_server() {
    let bytes = record(&hello(&[extension(16, b"\0\x03\x02h2"), server_name(b"API.example.com")]));
    assert_eq!(sniff(&bytes), tls(Some("api.example.com"), false));
    assert_eq!(sniff(&record(&hello(&[]))), tls(None, false));
    let encrypted = record(&hello(&[server_name(b"public.example"), extension(0xfe0d, &[0; 50])]));
    assert_eq!(sniff(&encrypted), tls(Some("public.example"), true));
}

#[test]
fn a_hello_may_come_in_any_pieces_and_records() {
    let message = hello(&[server_name(b"a.example"), extension(21, &[0; 600])]);
    let bytes: Vec<u8> = message.chunks(7).flat_map(record).collect();
    for count in 0..bytes.len() {
        assert_eq!(sniff(&bytes[..count]), Sniffed::More, "{count}");
    }
    assert_eq!(sniff(&bytes), tls(Some("a.example"), false));
    // What the client sends without waiting is no business of ours.
    let early = [bytes, vec![20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 9]].concat();
    assert_eq!(sniff(&early), tls(Some("a.example"), false));
}

#[test]
fn a_hello_that_could_be_read_in_two_ways_names_nobody() {
    let twice = hello(&[server_name(b"a.example"), server_name(b"b.example")]);
    let listed = vector(2, &[vec![0], vector(2, b"a.example"), vec![0], vector(2, b"b.example")].concat());
    let none = [
        record(&twice),
        record(&hello(&[extension(0, &listed)])),
        record(&hello(&[extension(0, &vector(2, &[vec![1], vector(2, b"a.example")].concat()))])),
        record(&hello(&[extension(0, b"\0\x05\0\0")])),
        record(&hello(&[server_name(b"")])),
        record(&hello(&[server_name(b"a.example\0.b.example")])),
        record(&hello(&[server_name("ä.example".as_bytes())])),
        record(&[hello(&[server_name(b"a.example")])[..60].to_vec(), vec![0xff; 400]].concat()),
    ];
    for (number, bytes) in none.iter().enumerate() {
        assert_eq!(sniff(bytes), tls(None, false), "{number}");
    }
}

#[test]
fn what_begins_as_tls_is_never_something_else() {
    let message = hello(&[server_name(b"a.example")]);
    let (first, second) = message.split_at(20);
    for bytes in [
        [record(first), vec![21, 3, 3, 0, 2, 1, 0], record(second)].concat(),
        [record(first), record(b""), record(second)].concat(),
        [record(first), vec![22, 3, 1, 0xff, 0xff], second.to_vec()].concat(),
        record(&[2, 0, 0, 0]),
        record(&[1, 0xff, 0xff, 0xff]),
        vec![22; 2].into_iter().map(|_| 22).collect::<Vec<u8>>().splice(1.., [3, 3, 0, 0]).collect(),
    ] {
        assert!(matches!(sniff(&bytes), Sniffed::Tls { name: None, .. } | Sniffed::More), "{bytes:?}");
        assert_eq!(settle(&bytes), tls(None, false), "{bytes:?}");
    }
    // However long it takes to come to its point.
    let long = record(&[vec![1, 0, 0x3f, 0xff], vec![0; 100]].concat());
    assert_eq!(sniff(&long), Sniffed::More);
    assert_eq!(settle(&long), tls(None, false));
    let endless = [long, record(&[0; 16000]), record(&[0; 1000])].concat();
    assert_eq!(sniff(&endless), tls(None, false));
}

#[test]
fn a_request_names_its_host() {
    for (request, host) in [
        ("GET / HTTP/1.1\r\nHost: API.example.com\r\n\r\n", "api.example.com"),
        ("GET / HTTP/1.1\r\nAccept: */*\r\nhOST:\t a.example:8080 \r\n\r\nbody", "a.example"),
        ("POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example"),
        ("GET HTTPS://a.example:80?q HTTP/1.0\r\n\r\n", "a.example"),
        ("OPTIONS * HTTP/1.1\r\nHost: a.example.\r\n\r\n", "a.example."),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example"),
        ("get / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example"),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", "192.0.2.1"),
        ("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "2001:db8::1"),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example"),
    ] {
        assert_eq!(sniff(request.as_bytes()), http(Some(host)), "{request:?}");
    }
}

#[test]
fn a_request_that_could_be_read_in_two_ways_names_nobody() {
    for request in [
        "GET / HTTP/1.1\r\nAccept: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
        "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET b.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: b.example\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n folded\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\rHost: b.example\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nX: y\r\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\nHost: b.example\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\nHost: a.example\n\n",
        "GET / HTTP/1.1\r\nHost: a.example\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example:80:90\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nnonsense\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/3.9\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [a.example]\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(sniff(request.as_bytes()), http(None), "{request:?}");
    }
}

#[test]
fn a_request_is_read_to_the_end_of_its_head() {
    let request = b"GET /a HTTP/1.1\r\nHost: a.example\r\nX: y\r\n\r\n";
    for count in 0..request.len() {
        assert_eq!(sniff(&request[..count]), Sniffed::More, "{count}");
        let settled = if count == 0 { Sniffed::Other } else { http(None) };
        assert_eq!(settle(&request[..count]), settled, "{count}");
    }
    let long = [b"GET / HTTP/1.1\r\nHost: a.example\r\nCookie: ".as_slice(), &[b'x'; MAX_OPENING]].concat();
    assert_eq!(sniff(&long), http(None));
}

#[test]
fn other_protocols_are_told_apart_early() {
    for bytes in [
        b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(),
        b"EHLO mail.example\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x01",
        b"PING\r\n",
        &[b'x'; 40],
    ] {
        assert_eq!(sniff(bytes), Sniffed::Other, "{bytes:?}");
        assert_eq!(settle(bytes), Sniffed::Other, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_something_and_more_of_them_do_not_change_it(
        start in prop_oneof![
            Just(Vec::new()),
            Just(b"GET / HTTP/1.1\r\nHost: a.example\r\n".to_vec()),
            Just(b"GET http://".to_vec()),
            Just(record(&hello(&[server_name(b"a.example"), extension(9, b"x")]))),
        ],
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':')], 0..80),
    ) {
        let mut bytes = [start, end].concat();
        for (at, byte) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let mut decided = Sniffed::More;
        for count in 0..=bytes.len() {
            let sniffed = sniff(&bytes[..count]);
            prop_assert!(settle(&bytes[..count]) != Sniffed::More);
            if decided == Sniffed::More {
                decided = sniffed;
            } else {
                prop_assert_eq!(&sniffed, &decided, "{}", count);
            }
        }
    }
}
