//! A workspace that runs: commands in it, and files in and out.
//!
//! What carries the bytes is measured by a command that reads or writes them and does nothing else. For a tree the guest
//! has work to do, ten thousand times: what it is compared with is the guest's own `tar`, fed through the same stream.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::Bench;
use super::goal::Goal;
use super::sample::{Sample, in_turns, time};
use crate::{Error, Result, tool};

const NAME: &str = "bench";
/// Size of the file that is copied.
const FILE_BYTES: usize = 200_000_000;
/// Files of the tree that is copied, and bytes of each.
const TREE_FILES: usize = 10_000;
const TREE_FILE_BYTES: usize = 1_000;
/// Files of each directory of the tree.
const TREE_FANOUT: usize = 100;

const GOAL_IN: &str = "`cp` of 200 MB into a workspace / the stream alone";
const GOAL_OUT: &str = "`cp` of 200 MB out of a workspace / the stream alone";
const GOAL_TREE_IN: &str = "`cp` of 10,000 files in / the stream and the guest's tar";
const GOAL_TREE_OUT: &str = "`cp` of 10,000 files out / the stream and the guest's tar";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let scratch = tempfile::tempdir().map_err(Error::file("make", "a scratch directory"))?;
    let host = Host::fill(scratch)?;
    bench.warm_up()?;
    let run = |arguments: &[&str]| tool::capture(&mut bench.microagent.command(arguments.iter().copied()));
    run(&["create", NAME, "--image", &bench.busybox, "--memory", "2g", "--size-mib", "4g"])?;
    let workspace = Workspace { bench };
    let start = time(&mut bench.microagent.command(["start", NAME]))?;
    println!("\n{:<38}{start:>26.1}", "start of a workspace, in ms");
    workspace.commands()?;
    let goals = workspace.files(&host)?;
    run(&["halt", NAME])?;
    Ok(goals)
}

/// What is copied in.
struct Host {
    directory: TempDir,
}

impl Host {
    fn fill(directory: TempDir) -> Result<Host> {
        let mut bytes = vec![0; FILE_BYTES];
        let entropy = Path::new("/dev/urandom");
        File::open(entropy).and_then(|mut file| file.read_exact(&mut bytes)).map_err(Error::file("read", entropy))?;
        let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).map_err(Error::file("write", path));
        let host = Host { directory };
        write(&host.path("file"), &bytes)?;
        for (index, content) in bytes.chunks(TREE_FILE_BYTES).take(TREE_FILES).enumerate() {
            let directory = host.path("tree").join(format!("{:03}", index / TREE_FANOUT));
            fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
            write(&directory.join(index.to_string()), content)?;
        }
        let tar = host.path("tree.tar");
        tool::capture(Command::new("tar").arg("-C").arg(host.directory.path()).arg("-cf").arg(tar).arg("tree"))?;
        Ok(host)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

struct Workspace<'a> {
    bench: &'a Bench,
}

impl Workspace<'_> {
    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.bench.microagent.command(arguments)
    }

    /// A shell line in the guest, with `input` as its standard input; what it prints goes to the file `output`.
    fn stream(&self, input: Option<&Path>, line: &str, output: Option<&Path>) -> Result<f64> {
        let input = input.map(|path| path.display().to_string());
        let stdin = input.as_deref().map(|path| ["--stdin", path]).into_iter().flatten();
        let arguments = ["exec"].into_iter().chain(stdin).chain([NAME, "--", "/bin/sh", "-c", line]);
        let mut command = self.command(arguments);
        if let Some(output) = output {
            command.stdout(File::create(output).map_err(Error::file("write", output))?);
        }
        time(&mut command)
    }

    fn commands(&self) -> Result<()> {
        let whole = || time(&mut self.command(["exec", NAME, "--", "true"]));
        let [whole] = in_turns(self.bench.times, [&whole])?;
        println!("{:<38}{:>26}", "`microagent exec NAME -- true`, in ms", whole.to_string());
        Ok(())
    }

    fn files(&self, host: &Host) -> Result<Vec<Goal>> {
        let (file, tree, tar) = (host.text("file"), host.text("tree"), host.path("tree.tar"));
        let (out, tree_out) = (host.text("out"), host.path("tree-out"));
        let streamed = host.path("streamed");
        let inside = |path: &str| format!("{NAME}:{path}");
        println!("\n{:<38}{:>26}{:>26}", "copying, in ms", "cp", "the stream");
        let copy = |from: &str, to: &str| time(&mut self.command(["cp", from, to]));
        let into = || copy(&file, &inside("/dev/shm/file"));
        let into_stream = || self.stream(Some(&host.path("file")), "cat > /dev/shm/stream", None);
        let file_in = self.compare("a file in", &into, &into_stream)?;
        let back = || copy(&inside("/dev/shm/file"), &out);
        let back_stream = || self.stream(None, "cat /dev/shm/file", Some(&streamed));
        let file_out = self.compare("a file out", &back, &back_stream)?;
        self.stream(None, "rm /dev/shm/*", None)?;
        let tree_into = || {
            self.stream(None, "rm -rf /root/tree", None)?;
            copy(&tree, &inside("/root/"))
        };
        let tree_stream = || {
            self.stream(None, "rm -rf /root/tree", None)?;
            self.stream(Some(&tar), "tar -x -C /root", None)
        };
        let tree_in = self.compare("a tree in", &tree_into, &tree_stream)?;
        let tree_back = || {
            let _ = fs::remove_dir_all(&tree_out);
            copy(&inside("/root/tree"), &tree_out.display().to_string())
        };
        let tree_back_stream = || self.stream(None, "tar -c -C /root tree", Some(&streamed));
        let tree_out = self.compare("a tree out", &tree_back, &tree_back_stream)?;
        Ok(vec![
            Goal::at_most(2.0, "x", GOAL_IN, file_in),
            Goal::at_most(2.0, "x", GOAL_OUT, file_out),
            Goal::at_most(2.0, "x", GOAL_TREE_IN, tree_in),
            Goal::at_most(2.0, "x", GOAL_TREE_OUT, tree_out),
        ])
    }

    /// Measures both sides in turns, and returns the ratio of their medians.
    fn compare(&self, what: &str, copy: super::sample::Side<'_>, stream: super::sample::Side<'_>) -> Result<f64> {
        let [copy, stream]: [Sample; 2] = in_turns(self.bench.times, [copy, stream])?;
        println!("{what:<38}{:>26}{:>26}", copy.to_string(), stream.to_string());
        Ok(copy.median() / stream.median())
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        // What cannot be removed is removed with the state directory.
        let _ = tool::capture(&mut self.command(["delete", NAME, "--yes", "--force"]));
    }
}
