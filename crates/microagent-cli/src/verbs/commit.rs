//! `microagent commit`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::signals::Signals;
use clap_complete::ArgValueCandidates;
use microagent::image::{LayerCompression, PushOptions};
use microagent::{CommitOptions, Committed};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent commit research local/research:1
  microagent commit research registry.example/team/research:1 --push
  microagent commit web local/web:2 --message 'with certificates' --cmd '/usr/sbin/nginx -g \"daemon off;\"'";

/// Make an image of what a workspace changed
///
/// The image has the layers of the one the workspace was made from, and a layer with the changes on top of them. A workspace that runs
/// may go on meanwhile.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Name of the new image
    #[arg(value_name = "REF")]
    target: String,
    /// Send it to its registry as well
    #[arg(long)]
    push: bool,
    /// Compress the layer with Zstandard instead of gzip
    #[arg(long)]
    zstd: bool,
    /// Word for the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Who made it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Variable of the image; repeatable
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Label of the image; repeatable
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Command of the image, split into words as a shell does
    #[arg(long, value_name = "COMMAND", value_parser = parse_words)]
    cmd: Option<Words>,
    /// Entry point of the image, split in the same way
    #[arg(long, value_name = "COMMAND", value_parser = parse_words)]
    entrypoint: Option<Words>,
    /// Working directory of the image
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// User of the image
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,
}

#[derive(Clone, Debug)]
struct Words(Vec<String>);

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let mut options = CommitOptions::new(&self.target);
        if self.zstd {
            options.compression = LayerCompression::Zstd;
        }
        let changes = &mut options.changes;
        changes.env = self.env;
        changes.labels = self.label.into_iter().collect();
        changes.cmd = self.cmd.map(|words| words.0);
        changes.entrypoint = self.entrypoint.map(|words| words.0);
        changes.working_dir = self.workdir;
        changes.user = self.user;
        changes.author = self.author;
        changes.message = self.message;
        let client = context.client()?;
        let interrupt = options.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let committed = signals.judge(client.commit(&name, &options).map_err(Error::from))?;
        if self.push {
            let cancellation = options.interrupt.cancellation().clone();
            let push = PushOptions { cancellation, ..PushOptions::default() };
            let pushed = client.push_image(&committed.image, &push);
            signals.judge(pushed.map_err(Error::from))?;
        }
        context.show(&committed)?;
        Ok(DONE)
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is `KEY=VALUE`")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_words(text: &str) -> Result<Words, String> {
    shell_words::split(text).map(Words).map_err(|_| "a quote is not closed".to_owned())
}

impl Text for Committed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(out, &[("Image", self.image.clone()), ("Digest", self.digest.clone()), ("Base", self.base.clone())])
    }
}
