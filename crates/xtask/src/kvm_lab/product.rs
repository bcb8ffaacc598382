//! `microagent` in the lab: the program built here, with a kernel and an image that were got before, outside.

use std::ffi::{OsStr, OsString};

use crate::images::BUSYBOX;
use crate::product::Product;
use crate::workspace::Build;
use crate::{Result, tool, workspace};

/// The name the image gets in the state directory.
const IMAGE: &str = "localhost/busybox:1";

/// Command lines of `microagent` for the lab.
#[derive(Debug)]
pub struct InLab {
    product: Product,
}

impl InLab {
    /// Builds the program and fills a state directory, as far as that is not done yet. What a command in the lab
    /// changes there is gone with the lab.
    pub fn prepare(build: Build) -> Result<InLab> {
        let product = Product::build(build, workspace::cache("kvm-lab/state")?)?;
        product.install_kernel()?;
        let source = BUSYBOX.prepare()?.reference("1");
        tool::capture(&mut product.command(["image", "import", &source, IMAGE]))?;
        Ok(InLab { product })
    }

    /// Says whether machines run in the lab.
    pub fn doctor(&self) -> Vec<OsString> {
        self.command(&["doctor"])
    }

    /// Boots a microVM on KVM, runs `command` in it, and ends with its exit code. It is one machine and no template: two engines at once on a
    /// KVM that is itself emulated have been seen to get in each other's way for minutes.
    pub fn run(&self, command: &[&str]) -> Vec<OsString> {
        let run = ["run", "--cold", "--backend", "linux-kvm", "--propagate-exit-code", IMAGE];
        self.command(&[&run, command].concat())
    }

    /// Runs a shell script that ends at the first command that fails. `microagent` is the program there, and `$IMAGE` its image.
    pub fn script(&self, script: &str) -> Vec<OsString> {
        let program: Vec<_> = self.command(&[]).iter().map(|word| tool::quote(word)).collect();
        let program = program.join(" ");
        let script = format!("microagent() {{ {program} \"$@\"; }}\nIMAGE={IMAGE}\n{script}");
        ["sh", "-euc", &script].map(OsString::from).into()
    }

    fn command(&self, arguments: &[&str]) -> Vec<OsString> {
        let command = self.product.command(arguments);
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_owned).collect()
    }
}
