//! How large things are: programs, and an image in its forms.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Bench;
use crate::images::DEBIAN_PYTHON;
use crate::{Error, Result, tool};

/// Prints how large the program is, the agent in it, and an image's layers and base.
pub(super) fn measure(bench: &Bench) -> Result<()> {
    let report = bench.run(&bench.debian)?;
    let base = size(Path::new(report["base_path"].as_str().unwrap_or_default()))?;
    let microagent = bench.microagent.program();
    let (compressed, unpacked) = layer_sizes()?;
    let rows = [
        ("guest agent", size(&agent(microagent)?)?),
        ("microagent, agent included", size(microagent)?),
        ("layers, as downloaded", compressed),
        ("layers, as tar archives", unpacked),
        ("base image", base),
    ];
    println!("\n{:<38}{:>26}", "size, in KiB", "");
    for (what, bytes) in rows {
        println!("{what:<38}{:>26}", bytes / 1024);
    }
    println!("{:<38}{:>26.2}", "base image / layers as tar archives", ratio(base, unpacked));
    Ok(())
}

/// The agent that the build of `microagent` embedded: the last one built beside it.
fn agent(microagent: &Path) -> Result<PathBuf> {
    let builds = microagent.with_file_name("build");
    let mut find = Command::new("find");
    find.arg(&builds).args(["-name", "microagent-guest", "-path", "*/guest/microagent-guest", "-printf", "%T@ %p\\n"]);
    let found = tool::capture(&mut find)?;
    let newest = found.lines().max().and_then(|line| line.split_once(' '));
    let newest = newest.ok_or(Error::Unexpected { line: tool::line(&find), wanted: "agent" })?;
    Ok(newest.1.into())
}

/// The size of the image's layers, compressed and not.
fn layer_sizes() -> Result<(u64, u64)> {
    let layout = DEBIAN_PYTHON.prepare()?;
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--raw", &layout.reference("12")]);
    let manifest = tool::capture(&mut inspect)?;
    let manifest: Value = serde_json::from_str(&manifest).unwrap_or_default();
    let (mut compressed, mut unpacked) = (0, 0);
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let digest = layer["digest"].as_str().unwrap_or_default().replace(':', "/");
        let blob = layout.directory().join("blobs").join(digest);
        compressed += size(&blob)?;
        let mut count = Command::new("sh");
        count.args(["-c", "gzip -dc < \"$1\" | wc -c", "sh"]).arg(&blob);
        unpacked += tool::capture(&mut count)?.trim().parse::<u64>().unwrap_or_default();
    }
    Ok((compressed, unpacked))
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(Error::file("look at", path))?.len())
}

#[allow(clippy::cast_precision_loss, reason = "sizes of files, shown to two digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
