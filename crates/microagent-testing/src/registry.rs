//! Debian's registry server, in the ways registries guard themselves.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::token::{self, TokenServer};
use crate::tool::{run, tool};

/// User name of the registries that want one.
pub const USER: &str = "tester";
/// Password of the registries that want one. Its colon is where careless parsers split.
pub const PASSWORD: &str = "correct:horse";

/// A running `docker-registry`, killed on drop.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    port: u16,
    guard: Guard,
    directory: TempDir,
}

/// How a registry guards itself.
#[derive(Debug)]
enum Guard {
    None,
    Tls,
    Basic,
    Token(TokenServer),
    ReadOnly,
}

impl Registry {
    /// Plain HTTP, open to all.
    pub fn plain() -> Registry {
        Registry::start(new_directory(), Guard::None)
    }

    /// HTTPS with a certificate from a private CA, open to all. See [`Registry::certificates`].
    pub fn tls() -> Registry {
        let directory = new_directory();
        make_certificates(directory.path());
        Registry::start(directory, Guard::Tls)
    }

    /// Plain HTTP, with [`USER`] and [`PASSWORD`] in every request.
    pub fn basic() -> Registry {
        let directory = new_directory();
        let passwords = run(tool("htpasswd").args(["-Bbn", USER, PASSWORD]));
        std::fs::write(directory.path().join("htpasswd"), passwords).expect("writing the password file");
        Registry::start(directory, Guard::Basic)
    }

    /// Plain HTTP, with a bearer token. The token server gives one for [`USER`] and [`PASSWORD`], or for
    /// [`Registry::IDENTITY_TOKEN`].
    pub fn token() -> Registry {
        let directory = new_directory();
        let server = TokenServer::start(directory.path());
        Registry::start(directory, Guard::Token(server))
    }

    /// Plain HTTP, open to all who only want to pull.
    pub fn read_only() -> Registry {
        Registry::start(new_directory(), Guard::ReadOnly)
    }

    /// The refresh token that the token server knows.
    pub const IDENTITY_TOKEN: &str = "identity+token/for=tests";

    fn start(directory: TempDir, guard: Guard) -> Registry {
        let configuration = directory.path().join("config.yml");
        std::fs::write(&configuration, configure(directory.path(), &guard)).expect("writing the configuration");
        let mut process = tool("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting docker-registry");
        let port = wait_for_port(process.stderr.take().expect("stderr is a pipe"));
        Registry { process, port, guard, directory }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The full reference of `repository` (with a tag or digest) in this registry.
    pub fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address())
    }

    /// Where the registry keeps the blob with this `sha256:` digest, for a test that damages it.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("the digest is a SHA-256");
        self.directory.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// A directory laid out like `/etc/docker/certs.d`, with the CA of this registry.
    pub fn certificates(&self) -> TempDir {
        let directory = new_directory();
        let own = directory.path().join(self.address());
        std::fs::create_dir(&own).expect("creating the certificate directory");
        std::fs::copy(self.ca(), own.join("ca.crt")).expect("copying the CA certificate");
        directory
    }

    /// The certificate of the private CA, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A directory with a `config.json` as `docker login` writes it.
    pub fn login(&self) -> TempDir {
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let auths = serde_json::json!({ "auths": { self.address(): { "auth": auth } } });
        let directory = new_directory();
        std::fs::write(directory.path().join("config.json"), auths.to_string()).expect("writing `config.json`");
        directory
    }

    /// Copies an image into the registry with `skopeo`. `source` is in skopeo's notation, `repository` has a tag.
    pub fn push(&self, source: &str, repository: &str, options: &[&str]) {
        let mut command = tool("skopeo");
        command.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        if matches!(self.guard, Guard::Basic | Guard::Token(_)) {
            command.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        run(command.args(options).arg(source).arg(format!("docker://{}", self.reference(repository))));
    }
}

/// Makes a multi-platform image out of images for one each, with `buildah`, and returns the digest of its index.
///
/// `images` are architectures and sources in skopeo's notation. The registry must be open to all.
pub fn push_index(registry: &Registry, images: &[(&str, String)], repository: &str) -> String {
    let storage = new_directory();
    let buildah = |arguments: &[&str]| {
        let mut command = tool("buildah");
        command.args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(storage.path().join("root")).arg("--runroot").arg(storage.path().join("run"));
        run(command.args(arguments))
    };
    buildah(&["manifest", "create", "index"]);
    for (architecture, source) in images {
        buildah(&["manifest", "add", "--os", "linux", "--arch", architecture, "index", source]);
    }
    let digest = storage.path().join("digest");
    let digest_option = format!("--digestfile={}", digest.display());
    let destination = format!("docker://{}", registry.reference(repository));
    buildah(&["manifest", "push", "--all", "--tls-verify=false", &digest_option, "index", &destination]);
    std::fs::read_to_string(digest).expect("reading the digest").trim().to_owned()
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only if it is dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn new_directory() -> TempDir {
    tempfile::tempdir().expect("creating a temporary directory")
}

fn configure(directory: &Path, guard: &Guard) -> String {
    let path = directory.display();
    // `tls` continues the `http` section, which is why that one comes last.
    let guarded = match guard {
        Guard::None | Guard::ReadOnly => String::new(),
        Guard::Tls => format!("  tls:\n    certificate: {path}/server.crt\n    key: {path}/server.key\n"),
        Guard::Basic => format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}/htpasswd\n"),
        Guard::Token(server) => {
            let (realm, service, issuer) = (server.realm(), token::SERVICE, token::ISSUER);
            format!(
                "auth:\n  token:\n    realm: {realm}\n    service: {service}\n    issuer: {issuer}\n    rootcertbundle: {path}/token.crt\n"
            )
        }
    };
    let maintenance = match guard {
        Guard::ReadOnly => "  maintenance:\n    readonly:\n      enabled: true\n",
        _ => "",
    };
    format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {path}/data\n  delete:\n    enabled: true\n{maintenance}http:\n  addr: 127.0.0.1:0\n{guarded}"
    )
}

/// Reads the log up to the line that names the port, and goes on reading so that the registry is never blocked.
fn wait_for_port(log: ChildStderr) -> u16 {
    let mut lines = BufReader::new(log).lines().map_while(Result::ok);
    let mut said = String::new();
    let port = lines.by_ref().find_map(|line| {
        said = said.clone() + &line + "\n";
        let (_, address) = line.split_once("listening on 127.0.0.1:")?;
        address.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    thread::spawn(move || lines.for_each(drop));
    port.unwrap_or_else(|| panic!("docker-registry ended before it was listening: {said}"))
}

/// A CA, and a server certificate from it for `127.0.0.1`: a certificate that is its own CA is rightly refused.
fn make_certificates(directory: &Path) {
    let openssl = |arguments: &[&str]| run(in_directory(directory).args(arguments));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca = ["req", "-x509", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&ca[..], &new_key].concat());
    let request = ["req", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &new_key].concat());
    std::fs::write(directory.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").expect("writing the extensions");
    let sign =
        ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-extfile", "server.ext", "-out", "server.crt"]].concat());
}

fn in_directory(directory: &Path) -> Command {
    let mut command = tool("openssl");
    command.current_dir(directory);
    command
}
