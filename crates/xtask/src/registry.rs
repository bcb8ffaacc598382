//! The real registry server, on a loopback port, with the images of this project in it.
//!
//! What it serves is kept in the cache, so that it starts at once the second time.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use serde_json::json;

use crate::images::Recipe;
use crate::{Error, Result, tool, workspace};

const SERVER: &str = "docker-registry";
/// Tried first, so that a reference to an image means the same from one demo to the next.
const USUAL_PORT: u16 = 5075;
/// In the directory of what was pushed: says that all of it was.
const COMPLETE: &str = "complete";

/// A running registry. It ends with this value, and with this process however that ends.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry with the images of `recipes` in it, making those that are missing.
    pub fn serve(recipes: &[&Recipe]) -> Result<Registry> {
        let data = workspace::cache("registry")?;
        let registry = Registry::start(&data)?;
        for recipe in recipes {
            registry.fill(recipe, &data)?;
        }
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The full name of an image in this registry.
    pub fn reference(&self, recipe: &Recipe, tag: &str) -> String {
        format!("{}/{}:{tag}", self.address(), recipe.name)
    }

    /// Waits until the server ends, which it does when it is killed.
    pub fn wait(mut self) -> Result<()> {
        self.server.wait().map(drop).map_err(Error::file("wait for", SERVER))
    }

    fn start(data: &Path) -> Result<Registry> {
        let usual = TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT)).map_or(0, |_free| USUAL_PORT);
        let configuration = tempfile::NamedTempFile::new().map_err(Error::file("create a file in", "/tmp"))?;
        // The server reads YAML, and every JSON document is one.
        let text = json!({
            "version": "0.1",
            "log": { "level": "info" },
            "http": { "addr": format!("{}:{usual}", Ipv4Addr::LOCALHOST) },
            "storage": { "filesystem": { "rootdirectory": data } },
        });
        fs::write(&configuration, text.to_string()).map_err(Error::file("write", configuration.path()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", SERVER, "serve"]).arg(configuration.path());
        // A variable of the developer's environment must not change what the file says.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REGISTRY_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = command.spawn().map_err(tool::start(&command))?;
        let port = server.stderr.take().map_or_else(|| Err(String::new()), listening_port);
        let mut registry = Registry { server, port: 0 };
        registry.port = port.map_err(|said| Error::Server { server: SERVER, said })?;
        Ok(registry)
    }

    /// Pushes the images of `recipe`, unless what the registry keeps in `data` has them.
    fn fill(&self, recipe: &Recipe, data: &Path) -> Result<()> {
        let layout = recipe.prepare()?;
        let marks = data.join(COMPLETE);
        let mark = marks.join(format!("{}-{}", recipe.name, recipe.digest()));
        if mark.exists() {
            return Ok(());
        }
        for tag in recipe.tags {
            let destination = format!("docker://{}", self.reference(recipe, tag));
            let mut command = Command::new("skopeo");
            command.args(["copy", "--quiet", "--insecure-policy", "--all", "--dest-tls-verify=false"]);
            tool::capture(command.args([layout.reference(tag), destination]))?;
        }
        fs::create_dir_all(&marks).map_err(Error::file("create", &marks))?;
        fs::write(&mark, "").map_err(Error::file("write", &mark))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The port that the server says it listens on, or the last thing it said. Its log is read on, so that it never blocks.
fn listening_port(log: ChildStderr) -> Result<u16, String> {
    let mut lines = BufReader::new(log).lines().map_while(std::result::Result::ok);
    let mut said = String::new();
    let port = lines.by_ref().find_map(|line| {
        let address = line.split_once("listening on 127.0.0.1:").map(|(_, address)| address.to_owned());
        said = line;
        address?.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    });
    thread::spawn(move || lines.for_each(drop));
    port.ok_or(said)
}
