//! `microagent kernel install`

use super::super::{Action, DONE};
use super::KernelDocument;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use microagent::machine::kernel::Source;
use std::io::{self, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent kernel install
  microagent kernel install --from /boot/vmlinuz-6.1.0-cloud-amd64
  microagent kernel install --url https://example.org/vmlinux --sha256 $SHA256";

/// Install a guest kernel and make it the default
///
/// Without a source, the package manager of this host is asked for the kernel it offers for virtual machines: the package is downloaded
/// and unpacked, never installed, and that needs no root. `run` does the same when there is no kernel yet.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Take the kernel package of this host's distribution (the default)
    #[arg(long, conflicts_with_all = ["from", "url"])]
    package: bool,
    /// Take a package, a `vmlinuz`, a `vmlinux`, or a directory that holds one kernel
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    from: Option<PathBuf>,
    /// Download any such file
    #[arg(long, value_name = "URL", requires = "sha256")]
    url: Option<String>,
    /// Digest the download must have
    #[arg(long, value_name = "HEX", requires = "url")]
    sha256: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let source = match (self.from, self.url.zip(self.sha256)) {
            (Some(path), _) => Source::Path(path),
            (None, Some((url, sha256))) => Source::Url { url, sha256 },
            (None, None) => Source::Package,
        };
        let client = context.client()?;
        let kernel = client.install_kernel(&source)?;
        drop(client);
        context.show(&KernelDocument::new(kernel, true))?;
        Ok(DONE)
    }
}

impl Text for KernelDocument {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Kernel", self.release.clone()),
                ("Path", self.kernel_path.display().to_string()),
                ("Modules", self.modules.len().to_string()),
                ("Origin", self.origin.to_string()),
            ],
        )
    }
}
