//! Downloading kernels: digests, servers that fail, TLS, proxies.

mod common;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use common::{installed, run, run_again};
use microagent_machine::kernel::{Error, Kernel, KernelStore, Origin, Progress, Source};
use microagent_protocol::Fault;

fn store(directory: &Path) -> KernelStore {
    KernelStore::open(&directory.join("kernels"))
}

fn install(directory: &Path, url: &str, sha256: &str) -> Result<Kernel, Error> {
    let source = Source::Url { url: url.to_owned(), sha256: sha256.to_owned() };
    store(directory).install(&source, &mut |_| {})
}

fn sha256(path: &Path) -> String {
    let output = run(Command::new("sha256sum").arg(path));
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Reads the head of one request.
fn read_request(client: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        request.extend(byte);
    }
    String::from_utf8(request).unwrap()
}

/// Serves `content` to `connections` clients with the given status line, as a server or as a proxy for one; returns its
/// address.
fn serve(content: Vec<u8>, status: &'static str, connections: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for _ in 0..connections {
            let (mut client, _) = listener.accept().unwrap();
            if read_request(&mut client).starts_with("CONNECT ") {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                read_request(&mut client);
            }
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
            client.write_all(head.as_bytes()).unwrap();
            // A client that refuses the status does not read the rest.
            let _ = client.write_all(&content);
        }
    });
    address
}

#[test]
fn a_download_must_have_its_digest() {
    let state = tempfile::tempdir().unwrap();
    let reference = installed();
    let digest = sha256(&reference.image);
    let url = format!("http://{}/vmlinux", serve(fs::read(&reference.image).unwrap(), "200 OK", 2));
    let error = install(state.path(), &url, &"0".repeat(64)).unwrap_err();
    assert_eq!(error.code(), "kernel_digest_mismatch");
    assert!(error.to_string().contains(&digest), "{error}");
    let left: Vec<_> =
        fs::read_dir(store(state.path()).directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);

    let mut received = Vec::new();
    let source = Source::Url { url: url.clone(), sha256: digest.to_uppercase() };
    let kernel = store(state.path())
        .install(&source, &mut |step| {
            if let Progress::Downloading { received: count, total, .. } = step {
                received.push((count, total));
            }
        })
        .unwrap();
    let size = fs::metadata(&reference.image).unwrap().len();
    assert_eq!(received.first(), Some(&(0, Some(size))));
    assert_eq!(received.last(), Some(&(size, Some(size))));
    assert!(received.len() > 10, "progress is reported while it downloads");
    assert_eq!(kernel.origin, Origin::Url { url: url.clone(), sha256: digest.clone() });

    // The server is gone by now: the second install must not need it.
    assert_eq!(install(state.path(), &url, &digest).unwrap(), kernel);
}

#[test]
fn a_server_that_has_no_kernel_is_a_transient_failure_with_its_status() {
    let state = tempfile::tempdir().unwrap();
    let url = format!("http://{}/vmlinux", serve(b"gone".to_vec(), "404 Not Found", 1));
    let error = install(state.path(), &url, &"0".repeat(64)).unwrap_err();
    assert!(error.retryable());
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("404"), "{error:?}");
}

#[test]
fn a_url_or_digest_that_cannot_be_right_is_refused_before_anything_is_fetched() {
    let state = tempfile::tempdir().unwrap();
    for (url, sha256, code) in [
        ("ftp://127.0.0.1/x", "0".repeat(64), "kernel_url_unsupported"),
        ("https://127.0.0.1/x", "123".to_owned(), "kernel_digest_malformed"),
        ("https://127.0.0.1/x", "g".repeat(64), "kernel_digest_malformed"),
    ] {
        assert_eq!(install(state.path(), url, &sha256).unwrap_err().code(), code);
    }
}

#[test]
fn a_file_url_must_have_its_digest_too() {
    let state = tempfile::tempdir().unwrap();
    let reference = installed();
    let url = format!("file://{}", reference.image.display());
    assert_eq!(install(state.path(), &url, &"0".repeat(64)).unwrap_err().code(), "kernel_digest_mismatch");
    let kernel = install(state.path(), &url, &sha256(&reference.image)).unwrap();
    assert_eq!(fs::read(kernel.image).unwrap(), fs::read(reference.image).unwrap());
}

/// A TLS server that serves the files of a folder, with a certificate of an authority nobody knows.
struct TlsServer {
    server: Child,
    address: String,
}

impl TlsServer {
    fn start(folder: &Path) -> TlsServer {
        let openssl = |arguments: &str| {
            run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem");
        openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem");
        fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
        );
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-WWW", "-cert", "cert.pem", "-key", "key.pem"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`openssl` is needed by this test");
        let said = BufReader::new(server.stdout.as_mut().unwrap());
        let address = said
            .lines()
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned))
            .expect("openssl says where it listens");
        TlsServer { server, address }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_tls_server_has_to_be_known_to_the_host() {
    let work = tempfile::tempdir().unwrap();
    let image = installed().image;
    fs::copy(&image, work.path().join("vmlinux")).unwrap();
    let server = TlsServer::start(work.path());
    let url = format!("https://{}/vmlinux", server.address);
    let digest = sha256(&image);
    let error = install(work.path(), &url, &digest).unwrap_err();
    assert_eq!(error.code(), "kernel_download_failed", "{error}");
    run_child(work.path(), &url, &digest, ("SSL_CERT_FILE", work.path().join("ca.pem").to_str().unwrap()));
}

#[test]
fn a_proxy_named_by_the_environment_is_used() {
    let work = tempfile::tempdir().unwrap();
    let image = installed().image;
    let proxy = format!("http://{}", serve(fs::read(&image).unwrap(), "200 OK", 1));
    run_child(work.path(), "http://kernels.invalid/vmlinux", &sha256(&image), ("http_proxy", &proxy));
}

fn run_child(work: &Path, url: &str, sha256: &str, (name, value): (&str, &str)) {
    let environment = [
        ("TEST_STATE", work.as_os_str()),
        ("TEST_URL", url.as_ref()),
        ("TEST_SHA256", sha256.as_ref()),
        (name, value.as_ref()),
    ];
    run_again("install_from_the_url_given", work, &[], &environment);
}

#[test]
#[ignore = "run by the tests above, with variables of its own"]
fn install_from_the_url_given() {
    let work = PathBuf::from(env::var_os("TEST_STATE").expect("run by another test"));
    install(&work, &env::var("TEST_URL").unwrap(), &env::var("TEST_SHA256").unwrap()).unwrap();
}
