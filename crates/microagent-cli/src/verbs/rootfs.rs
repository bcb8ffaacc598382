//! `microagent rootfs`

use super::image::source::SourceArgs;
use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use crate::signals::Signals;
use clap::{Subcommand, ValueEnum};
use microagent::image::BaseFormat;
use microagent::{Rootfs, RootfsOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  microagent rootfs build --image alpine:3.20 --allow-mutable --out alpine.erofs";

const BUILD_EXAMPLES: &str = "\
Examples:
  microagent rootfs build --image alpine:3.20 --allow-mutable --out alpine.erofs
  microagent rootfs build --image alpine@sha256:... --out alpine.ext4 --size-mib 2g";

/// Build root filesystems without booting them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(BuildArgs),
}

/// Write the root filesystem of an image to a file
///
/// A reference that can come to mean something else, one without a digest, is refused unless `--allow-mutable` is given.
#[derive(clap::Args, Debug)]
#[command(after_help = BUILD_EXAMPLES)]
struct BuildArgs {
    /// Image reference
    #[arg(long, value_name = "REF", required = true)]
    image: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Filesystem to write [default: what FILE ends with, else erofs]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Size of an ext4 filesystem [default: as the contents need]
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_mib)]
    size_mib: Option<u64>,
    /// Accept a reference without a digest
    #[arg(long)]
    allow_mutable: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Read-only and compact
    Erofs,
    /// Writable
    Ext4,
}

impl Format {
    /// What the name of a file says it is.
    fn of(file: &Path) -> Format {
        if file.extension().is_some_and(|extension| extension == "ext4") { Format::Ext4 } else { Format::Erofs }
    }
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let Verb::Build(args) = self.verb;
        args.run(context)
    }
}

impl BuildArgs {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let format = self.format.unwrap_or_else(|| Format::of(&self.out));
        if format == Format::Erofs && self.size_mib.is_some() {
            return Err(Error::usage(
                "`--size-mib` is for ext4: an EROFS image is as large as its contents",
                "add `--format ext4`",
            ));
        }
        let options = RootfsOptions {
            image: self.image,
            out: self.out,
            format: match format {
                Format::Erofs => BaseFormat::Erofs,
                Format::Ext4 => BaseFormat::Ext4,
            },
            size_mib: self.size_mib,
            allow_mutable: self.allow_mutable,
            pull: self.source.pull_options()?,
        };
        let cancellation = options.pull.cancellation.clone();
        let signals = Signals::watch(move || cancellation.cancel())?;
        let client = context.client()?;
        let built = signals.judge(client.build_rootfs(&options).map_err(Error::from))?;
        drop(client);
        context.show(&built)?;
        Ok(DONE)
    }
}

impl Text for Rootfs {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Rootfs", self.path.display().to_string()),
                ("Image", self.image.familiar()),
                ("Format", self.format.name().to_owned()),
                ("Size", quantity::bytes(self.size)),
            ],
        )
    }
}
