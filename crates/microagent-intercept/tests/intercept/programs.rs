//! Programs that people use, through the interceptor.

use crate::bed::{BOTH, Bed, Kind};
use microagent_egress::Reason;
use microagent_intercept::{Connection, SwapConfig, Swaps};
use microagent_secret::Sources;
use microagent_testing::tool;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A port on loopback that leads through the interceptor of a bed.
struct Port {
    bed: Bed,
    address: SocketAddr,
    pem: tempfile::NamedTempFile,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    fn to(bed: Bed) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (interceptor, name, server) = (Arc::clone(&bed.interceptor), bed.name.clone(), bed.server.address);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while let (Ok((client, _)), false) = (listener.accept(), ends.load(Ordering::Relaxed)) {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let upstream = TcpStream::connect(server).unwrap();
                let connection = Connection { name: name.clone(), address, tls: true };
                interceptor.take(connection, theirs, upstream.into());
                relay(client, ours);
            }
        });
        let pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(pem.path(), &bed.guest_pem).unwrap();
        Port { bed, address, pem, is_over, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.bed.name, self.address.port())
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        let resolve = format!("{}:{}:127.0.0.1", self.bed.name, self.address.port());
        let mut command = tool("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "300",
            "--noproxy",
            "*",
            "--resolve",
            &resolve,
            "--cacert",
        ]);
        command.arg(self.pem.path()).args(arguments).output().unwrap()
    }

    fn curl_text(&self, arguments: &[&str]) -> String {
        let output = self.curl(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn python(&self, script: &str) -> String {
        let port = self.address.port();
        // What resolves the one name, as the guest's own resolver does.
        let start = format!(
            "import socket, ssl, urllib.request, http.client\n\
             real = socket.getaddrinfo\n\
             socket.getaddrinfo = lambda host, *rest, **more: real('127.0.0.1' if host == '{}' else host, *rest, **more)\n\
             name, port, url = '{0}', {port}, '{}'\n\
             context = ssl.create_default_context(cafile='{}')\n",
            self.bed.name,
            self.url(""),
            self.pem.path().display(),
        );
        let output = tool("python3").args(["-c", &(start + script)]).env("no_proxy", "*").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Port {
    /// What Node prints of `script`, the inside of an `async` function.
    fn node(&self, script: &str) -> String {
        let port = self.address.port();
        // What resolves the one name, as the guest's own resolver does.
        let start = format!(
            "const dns = require('node:dns');\n\
             dns.lookup = (host, options, done) => {{\n\
            \x20 if (host !== '{}') return done(new Error('no such name: ' + host));\n\
            \x20 options.all ? done(null, [{{ address: '127.0.0.1', family: 4 }}]) : done(null, '127.0.0.1', 4);\n\
             }};\n\
             const url = '{}', name = '{0}', port = {port};\n",
            self.bed.name,
            self.url("")
        );
        let script = format!("{start}(async () => {{\n{script}\n}})()");
        // Told as in a guest: by this variable and by nothing else.
        let mut command = tool("node");
        command.args(["--no-warnings", "-e", &script]).env("NODE_EXTRA_CA_CERTS", self.pem.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread up.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn relay(client: TcpStream, ours: UnixStream) {
    let (client, ours) = (Arc::new(client), Arc::new(ours));
    let (client_again, ours_again) = (Arc::clone(&client), Arc::clone(&ours));
    std::thread::spawn(move || {
        let _ = io::copy(&mut &*client, &mut &*ours);
        let _ = ours.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = io::copy(&mut &*ours_again, &mut &*client_again);
        let _ = client_again.shutdown(Shutdown::Write);
    });
}

fn port() -> Port {
    let config = SwapConfig::provider("openai=env:KEY").unwrap();
    let swaps = config.resolve(&Sources::of_variables([("KEY", "sk-s3cret-0123456789")])).unwrap();
    Port::to(Bed::with("api.openai.com", Kind::Valid, &BOTH, swaps))
}

#[test]
fn curl_speaks_both_versions() {
    let port = port();
    for (version, told) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let answer = port.curl_text(&[version, "--write-out", " %{http_version}", &port.url("/")]);
        assert_eq!(answer, format!("hello {told}"));
    }
    let seen = port.bed.server.seen();
    assert!(seen.iter().all(|seen| seen.headers["authorization"] == "Bearer sk-s3cret-0123456789"));
}

#[test]
fn curl_uploads_and_downloads() {
    let port = port();
    let file = tempfile::NamedTempFile::new().unwrap();
    let body = crate::bed::pattern(0, 32 << 20);
    std::fs::write(file.path(), &body).unwrap();
    let sum = format!("{} {:?}", body.len(), ring::digest::digest(&ring::digest::SHA256, &body));
    let path = file.path().to_str().unwrap();
    for version in ["--http1.1", "--http2"] {
        // With `Expect`, as curl does of itself for as much.
        let upload = ["--data-binary", &format!("@{path}"), version, &port.url("/sum")];
        assert_eq!(port.curl_text(&upload), sum);
        // In chunks, of which the end is not known before.
        let upload = ["--upload-file", "-", "--header", "Transfer-Encoding: chunked", version, &port.url("/sum")];
        assert!(port.curl_text(&upload).starts_with("0 "), "{version}");
        let got = port.curl(&[version, &port.url("/bytes/33554432")]);
        assert!(got.stdout == body, "{version}");
    }
}

#[test]
fn curl_shows_why_something_is_denied() {
    let port = port();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 32 << 20]).unwrap();
    let body = format!("@{}", file.path().display());
    for version in ["--http1.1", "--http2"] {
        // Even when a large body is on its way, whose rest nobody reads.
        for more in [&[][..], &["--data-binary", &body, "--header", "Expect:"]] {
            let url = port.url("/");
            let arguments = [&[version, "--header", "Host: evil.example"], more, &[url.as_str()]].concat();
            let output = port.curl(&arguments);
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(answer.contains("microagent: egress to api.openai.com denied"), "{output:?}");
        }
    }
    port.bed.event(|event| event.reason == Some(Reason::NameMismatch));
    let port = Port::to(Bed::with("api.example", Kind::Expired, &BOTH, Swaps::none()));
    let answer = port.curl_text(&["--write-out", "%{http_code}", &port.url("/")]);
    assert!(answer.contains("(certificate)") && answer.ends_with("502"), "{answer}");
}

#[test]
fn python_does_what_it_does_without() {
    let port = port();
    let answer = port.python("print(urllib.request.urlopen(url + '/', context=context).read().decode(), end='')");
    assert_eq!(answer, "hello");
    // Many requests in one connection, with bodies of both framings.
    let answer = port.python(
        "connection = http.client.HTTPSConnection(name, port, context=context)\n\
         for index in range(20):\n\
        \x20   connection.request('POST', '/sum', body=b'x' * 1000 if index % 2 else iter([b'y' * 300, b'z' * 200]), encode_chunked=True)\n\
        \x20   print(connection.getresponse().read().split()[0].decode(), end=' ')\n",
    );
    assert_eq!(answer.trim(), "500 1000 ".repeat(10).trim());
    let answer = port.python(
        "try:\n\
        \x20   urllib.request.urlopen(urllib.request.Request(url + '/', headers={'Host': 'evil.example'}), context=context)\n\
         except urllib.error.HTTPError as error:\n\
        \x20   print(error.code, error.read().decode())\n",
    );
    assert!(answer.starts_with("421 microagent: "), "{answer}");
}

#[test]
fn node_does_what_it_does_without() {
    let port = port();
    let answer = port.node("console.log(await (await fetch(url + '/')).text());");
    assert_eq!(answer, "hello\n");
    // Bodies of both framings, many at once over few connections, and a large one back.
    let answer = port.node(
        "const chunks = async function* () { for (let n = 0; n < 5; n++) yield Buffer.alloc(100, 'y'); };\n\
         const bodies = Array.from({ length: 20 }, (_, n) => n % 2 ? 'x'.repeat(1000) : ReadableStream.from?.(chunks()) ?? chunks());\n\
         const sums = bodies.map(async body => (await fetch(url + '/sum', { method: 'POST', body, duplex: 'half' })).text());\n\
         console.log((await Promise.all(sums)).map(sum => sum.split(' ')[0]).join(' '));\n\
         console.log((await (await fetch(url + '/bytes/33554432')).arrayBuffer()).byteLength);",
    );
    assert_eq!(answer, format!("{}\n33554432\n", "500 1000 ".repeat(10).trim()));
    let seen = port.bed.server.seen();
    assert!(seen.iter().all(|seen| seen.headers["authorization"] == "Bearer sk-s3cret-0123456789"));
}

#[test]
fn node_speaks_http2_and_hears_why_something_is_denied() {
    let port = port();
    let answer = port.node(
        "const session = require('node:http2').connect(url);\n\
         session.on('error', error => { throw error });\n\
         const get = headers => new Promise(resolve => {\n\
        \x20 const request = session.request(headers);\n\
        \x20 let status, text = '';\n\
        \x20 request.on('response', headers => status = headers[':status']);\n\
        \x20 request.setEncoding('utf8').on('data', data => text += data).on('end', () => resolve(status + ' ' + text.trim())).end();\n\
         });\n\
         console.log((await Promise.all(Array.from({ length: 30 }, () => get({ ':path': '/' })))).join());\n\
         console.log(await get({ ':path': '/', ':authority': 'evil.example' }));\n\
         session.close();",
    );
    let (many, denied) = answer.split_once('\n').unwrap();
    assert_eq!(many, ["200 hello"; 30].join(","));
    assert!(denied.starts_with("421 microagent: egress to api.openai.com denied"), "{denied}");
    assert!(port.bed.server.seen().iter().all(|seen| seen.version == hyper::Version::HTTP_2));
    // A server that is not who it should be is not who Node speaks with.
    let port = Port::to(Bed::with("api.example", Kind::Expired, &BOTH, Swaps::none()));
    let answer = port.node("const answer = await fetch(url + '/');\nconsole.log(answer.status, await answer.text());");
    assert!(answer.starts_with("502 ") && answer.contains("(certificate)"), "{answer}");
}
