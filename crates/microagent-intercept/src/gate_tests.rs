use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What stands for a refusal.
const SUBSTITUTE: &str = "GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\nmicroagent-refusal: 1\r\n\r\n";

/// What comes out of a gate when `pieces` go in, and what it refused.
fn through(pieces: &[&[u8]]) -> (Vec<u8>, Option<Refusal>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (mut guest, stream) = tokio::io::duplex(1 << 20);
        let signals = Arc::<Signals>::default();
        let mut gate = Gate::new(stream, Arc::clone(&signals));
        let mut all = Vec::new();
        let read = async |gate: &mut Gate<_>, all: &mut Vec<u8>| {
            let mut space = [0; 100];
            // With time paused, this ends as soon as nothing else can happen.
            while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_millis(1), gate.read(&mut space)).await
            {
                all.extend_from_slice(&space[..count]);
            }
        };
        for piece in pieces {
            guest.write_all(piece).await.unwrap();
            read(&mut gate, &mut all).await;
        }
        drop(guest);
        read(&mut gate, &mut all).await;
        (all, signals.refusal())
    })
}

fn refusal(text: &str) -> Option<Refusal> {
    through(&[text.as_bytes()]).1
}

const SOUND: [&str; 6] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n00A;x=y\r\n0123456789\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\n",
    "POST / HTTP/1.0\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 27\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
];

proptest! {
    #[test]
    fn sound_messages_pass_however_they_are_cut(
        which in proptest::collection::vec(0..SOUND.len(), 1..8),
        cuts in proptest::collection::vec(0..600usize, 0..30),
    ) {
        let text: String = which.into_iter().map(|index| SOUND[index]).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let mut from = 0;
        let mut pieces = Vec::new();
        for cut in cuts {
            pieces.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        let (all, refusal) = through(&pieces);
        prop_assert_eq!(String::from_utf8(all).unwrap(), text);
        prop_assert_eq!(refusal, None);
    }

    #[test]
    fn whatever_comes_is_passed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..400usize) {
        let (begin, end) = bytes.split_at(cut.min(bytes.len()));
        through(&[begin, end]);
        let text = [b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", begin, end].concat();
        through(&[&text]);
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n0\r\n\r\n");
    for (fields, reason) in [
        ("transfer-encoding: chunked\r\ncontent-length: 3\r\n", "both"),
        ("content-length: 3\r\ntransfer-encoding: chunked\r\n", "both"),
        ("content-length: 3\r\ncontent-length: 3\r\n", "one number"),
        ("content-length: 3, 3\r\n", "one number"),
        ("content-length: +3\r\n", "one number"),
        ("content-length: -1\r\n", "one number"),
        ("content-length:\r\n", "one number"),
        ("content-length: 99999999999999999999\r\n", "one number"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "Transfer-Encoding"),
        ("transfer-encoding: gzip, chunked\r\n", "Transfer-Encoding"),
        ("transfer-encoding: chunked, identity\r\n", "Transfer-Encoding"),
        ("transfer-encoding: xchunked\r\n", "Transfer-Encoding"),
        ("transfer-encoding: \x0bchunked\r\n", ""),
        ("transfer-encoding : chunked\r\n", "not a request"),
        ("x: 1\r\n folded\r\n", "not a request"),
        ("x: 1\r\n\tfolded\r\n", "not a request"),
        (" x: 1\r\n", "not a request"),
        ("x\r\n", "not a request"),
        ("x: a\0b\r\n", "not a request"),
        ("x: 1\ny: 2\r\n", "CR LF"),
        ("x: 1\r\r\n", ""),
    ] {
        match refusal(&with(fields)) {
            Some(Refusal::Malformed(told)) => assert!(told.contains(reason), "{fields:?}: {told}"),
            other => panic!("{fields:?}: {other:?}"),
        }
    }
    assert!(refusal("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").is_some());
    for text in
        ["GET /\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "\x16\x03\x01\r\n\r\n", "GET / HTTP/1.1\nhost: a\n\n", "GET / HT"]
    {
        assert!(matches!(refusal(text), Some(Refusal::Malformed(_))), "{text:?}");
    }
}

#[test]
fn nothing_is_read_after_a_refusal_and_all_before_it_is() {
    let text = format!("{}GET / HTTP/1.1\r\n x: 1\r\n\r\n{}", SOUND[1], SOUND[0]);
    let (all, _) = through(&[text.as_bytes()]);
    assert_eq!(String::from_utf8(all).unwrap(), format!("{}{SUBSTITUTE}", SOUND[1]));
}

#[test]
fn chunks_that_are_none_end_the_body() {
    for chunks in
        ["5\r\nhelloX\r\n", "g\r\n", "\r\n", "5\nhello", "5 5\n", "10000000000000000\r\n", "0\r\nx: 1\n\r\n", "-1\r\n"]
    {
        let text = format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET / HTTP/1.1\r\n\r\n");
        let (all, refusal) = through(&[text.as_bytes()]);
        assert_eq!(refusal, Some(Refusal::Broken), "{chunks:?}");
        assert!(!String::from_utf8(all).unwrap().contains("GET"), "{chunks:?}");
    }
}

#[test]
fn a_head_has_its_bounds() {
    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(refusal(&fields(HEAD_FIELDS)), None);
    assert_eq!(refusal(&fields(HEAD_FIELDS + 1)), Some(Refusal::TooLarge));
    let long = |count: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(count));
    assert_eq!(refusal(&long(HEAD_BYTES - 100)), None);
    assert_eq!(refusal(&long(HEAD_BYTES)), Some(Refusal::TooLarge));
    // One that never ends.
    assert_eq!(refusal(&"a".repeat(HEAD_BYTES + READ)), Some(Refusal::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_and_a_connection_that_idles_has_not() {
    let (mut guest, stream) = tokio::io::duplex(1 << 10);
    let signals = Arc::<Signals>::default();
    let mut gate = Gate::new(stream, Arc::clone(&signals));
    guest.write_all(SOUND[0].as_bytes()).await.unwrap();
    let mut space = [0; 200];
    assert_eq!(gate.read(&mut space).await.unwrap(), SOUND[0].len());
    // It idles for an hour, and then a head begins.
    let an_hour = Duration::from_hours(1);
    assert!(tokio::time::timeout(an_hour, gate.read(&mut space)).await.is_err());
    guest.write_all(b"GET /").await.unwrap();
    let began = Instant::now();
    let count = gate.read(&mut space).await.unwrap();
    assert_eq!(std::str::from_utf8(&space[..count]).unwrap(), SUBSTITUTE);
    assert_eq!(began.elapsed().as_secs(), HEAD_TIME.as_secs());
    assert_eq!(signals.refusal(), Some(Refusal::TooSlow));
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_ever_asked_ends() {
    let (_guest, stream) = tokio::io::duplex(1 << 10);
    let mut gate = Gate::new(stream, Arc::default());
    assert_eq!(gate.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn after_an_upgrade_everything_passes_and_what_had_come_early_is_not_lost() {
    let (mut guest, stream) = tokio::io::duplex(1 << 10);
    let signals = Arc::<Signals>::default();
    let mut gate = Gate::new(stream, Arc::clone(&signals));
    guest.write_all(format!("{}\x01\x05he", SOUND[0]).as_bytes()).await.unwrap();
    let mut space = [0; 200];
    assert_eq!(gate.read(&mut space).await.unwrap(), SOUND[0].len());
    signals.upgrade();
    guest.write_all(b"llo").await.unwrap();
    let mut all = Vec::new();
    while all.len() < 7 {
        let count = gate.read(&mut space).await.unwrap();
        all.extend_from_slice(&space[..count]);
    }
    assert_eq!(all, b"\x01\x05hello"[..7].to_vec());
}
