//! `microagent profiles`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::table;
use microagent::Profile;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent profiles
  microagent run --profile medium docker.io/library/ubuntu:24.04 apt-get --version";

/// List the resource profiles: named machine sizes
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&Profiles { profiles: Profile::ALL })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Profiles {
    profiles: [Profile; Profile::ALL.len()],
}

impl Text for Profiles {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let cells = |profile: &Profile| {
            vec![
                profile.name.to_owned(),
                format!("{} MiB", profile.memory_mib),
                profile.cpu_count.to_string(),
                format!("{} MiB", profile.size_mib),
                profile.purpose.to_owned(),
            ]
        };
        table::write(out, &["NAME", "MEMORY", "CPUS", "DISK", "FOR"], self.profiles.iter().map(cells).collect())
    }
}
