//! The certificate of a server has to hold, and the guest is told when it does not.

use crate::bed::{BOTH, Bed, Ca, Kind, Server};
use microagent_egress::{Happened, Reason};
use microagent_intercept::Swaps;
use microagent_testing::{run, tool};

#[tokio::test]
async fn a_server_with_a_certificate_that_does_not_hold_is_not_spoken_to() {
    for (kind, detail) in [(Kind::Expired, "expired"), (Kind::OfAnotherName, "not valid for"), (Kind::SelfSigned, "")] {
        let bed = Bed::with("api.example", kind, &BOTH, Swaps::none());
        bed.http1().await.get("/").await.unwrap().is_denial(502, "(certificate)");
        bed.http2().await.get("/").await.unwrap().is_denial(502, "(certificate)");
        assert!(bed.denied(Reason::Certificate).contains(detail), "{kind:?}: {}", bed.record());
        assert!(bed.server.seen().is_empty());
    }
}

#[tokio::test]
async fn an_authority_that_the_host_does_not_trust_is_not_trusted() {
    let (theirs, ours) = (Ca::new(), Ca::new());
    let server = Server::start(Some(theirs.server("api.example", Kind::Valid, &BOTH)));
    let bed = Bed::between("api.example", server, true, &ours, Swaps::none());
    bed.http1().await.get("/").await.unwrap().is_denial(502, "(certificate)");
    bed.denied(Reason::Certificate);
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told_of() {
    let bed = Bed::between("api.example", Server::start(None), true, &Ca::new(), Swaps::none());
    bed.http1().await.get("/").await.unwrap().is_denial(502, "did not complete TLS");
    bed.event(|event| event.event == Happened::Error);
}

#[tokio::test]
async fn the_guest_has_a_certificate_that_it_can_check() {
    let bed = Bed::speaking(&BOTH);
    let stream = bed.tls(&BOTH).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(chain.len(), 2);
    // The one in front is the host's, and the one behind it the guest's own authority.
    let text = |index: usize| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &chain[index]).unwrap();
        let arguments = ["x509", "-inform", "DER", "-noout", "-text", "-in"];
        String::from_utf8(run(tool("openssl").args(arguments).arg(file.path()))).unwrap()
    };
    let leaf = text(0);
    for part in ["DNS:api.example", "Authority Key Identifier", "TLS Web Server Authentication", "ecdsa-with-SHA256"] {
        assert!(leaf.contains(part), "{part}: {leaf}");
    }
    let authority = text(1);
    for part in ["CN = microagent test", "CA:TRUE, pathlen:0", "Certificate Sign", "Subject Key Identifier"] {
        assert!(authority.contains(part), "{part}: {authority}");
    }
}
