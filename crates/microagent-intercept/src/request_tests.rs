use super::*;
use hyper::http::Request;

fn connection(tls: bool) -> Connection {
    Connection { name: "api.example".to_owned(), address: "192.0.2.1:8443".parse().unwrap(), tls }
}

fn checked(version: Version, uri: &str, fields: &[(&str, &str)]) -> Result<(), Denial> {
    let mut request = Request::builder().version(version).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    check(&request.body(()).unwrap().into_parts().0, &connection(true))
}

fn reason(result: Result<(), Denial>) -> Option<Reason> {
    match result {
        Ok(()) => None,
        Err(Denial::Denied(reason, _)) => Some(reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_for_the_host_of_its_connection_or_for_none() {
    let elsewhere = Some(Reason::NameMismatch);
    for (host, expected) in [
        ("api.example", None),
        ("API.Example.", None),
        ("api.example:8443", None),
        ("api.example:443", None),
        ("api.example:80", elsewhere),
        ("api.example:", elsewhere),
        ("api.example:+443", elsewhere),
        ("api.example:443:443", elsewhere),
        ("other.example", elsewhere),
        ("api.example.evil.example", elsewhere),
        ("user@api.example", elsewhere),
        ("api.example@evil.example", elsewhere),
        ("api.example,evil.example", elsewhere),
        ("api.example evil.example", elsewhere),
        ("api.example/", elsewhere),
        ("192.0.2.1:8443", elsewhere),
        ("", elsewhere),
    ] {
        assert_eq!(reason(checked(Version::HTTP_11, "/", &[("host", host)])), expected, "{host}");
        assert_eq!(reason(checked(Version::HTTP_2, "/", &[("host", host)])), expected, "{host}");
    }
}

#[test]
fn it_names_one_host_and_says_so_once() {
    let malformed = Some(Reason::Malformed);
    assert_eq!(reason(checked(Version::HTTP_11, "/", &[])), malformed);
    assert_eq!(reason(checked(Version::HTTP_2, "/", &[])), malformed);
    let twice = [("host", "api.example"), ("host", "api.example")];
    assert_eq!(reason(checked(Version::HTTP_11, "/", &twice)), malformed);
    assert_eq!(reason(checked(Version::HTTP_2, "https://api.example/", &twice)), malformed);
    let host = [("host", "api.example")];
    for (uri, in_1, in_2) in [
        ("https://api.example/", None, None),
        ("https://other.example/", malformed, Some(Reason::NameMismatch)),
        ("http://api.example/", malformed, malformed),
        ("https://x@api.example/", malformed, Some(Reason::NameMismatch)),
    ] {
        assert_eq!(reason(checked(Version::HTTP_11, uri, &host)), in_1, "{uri}");
        assert_eq!(reason(checked(Version::HTTP_2, uri, &host)), in_2, "{uri}");
    }
    let other = [("host", "other.example")];
    assert_eq!(reason(checked(Version::HTTP_2, "https://api.example/", &other)), Some(Reason::NameMismatch));
    assert_eq!(reason(checked(Version::HTTP_11, "https://api.example/", &other)), Some(Reason::NameMismatch));
}

#[test]
fn questions_for_addresses_are_known_by_their_path_and_their_type() {
    let host = ("host", "api.example");
    let doh = Some(Reason::DnsOverHttps);
    for (uri, expected) in [
        ("/dns-query?dns=AAAB", doh),
        ("/DNS-query", doh),
        ("/dns%2Dquery/", doh),
        ("/dns-query-log", None),
        ("/a/dns-query", None),
    ] {
        assert_eq!(reason(checked(Version::HTTP_11, uri, &[host])), expected, "{uri}");
    }
    for (name, value) in
        [("accept", "text/html, Application/DNS-Message;q=0.5"), ("content-type", "application/dns-message")]
    {
        assert_eq!(reason(checked(Version::HTTP_11, "/q", &[host, (name, value)])), doh, "{value}");
    }
    assert_eq!(reason(checked(Version::HTTP_11, "/", &[host, ("accept", "application/json")])), None);
}

#[test]
fn a_head_of_http2_has_the_same_bounds() {
    let long = "x".repeat(HEAD_BYTES);
    let result = checked(Version::HTTP_2, "https://api.example/", &[("a", &long)]);
    assert!(matches!(result, Err(Denial::TooLarge)));
    let many = vec![("a", "b"); HEAD_FIELDS + 1];
    assert!(matches!(checked(Version::HTTP_2, "https://api.example/", &many), Err(Denial::TooLarge)));
}

#[test]
fn what_a_guest_names_is_shown_as_text_of_one_line() {
    let Err(Denial::Denied(_, Some(detail))) = checked(Version::HTTP_11, "/", &[("host", "a\tb")]) else { panic!() };
    assert_eq!(detail, "it names `ab`");
}
