//! What a machine is made of, apart from its disks.

use super::Stopwatch;
use crate::{Client, Error};
use microagent_machine::engine::Engine;
use microagent_machine::initramfs::Initramfs;
use microagent_machine::kernel::Kernel;
use std::path::Path;

/// Engine, kernel, and the initramfs with the agent in it.
pub(crate) struct Parts {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) kernel: Kernel,
    pub(crate) initramfs: Initramfs,
}

impl Parts {
    /// Finds them, or makes them: the best engine, the installed kernel and the embedded agent, where no other is asked for.
    pub(crate) fn gather(
        client: &Client,
        backend: Option<&str>,
        kernel: Option<&Path>,
        guest_init: Option<&Path>,
        watch: &mut Stopwatch,
    ) -> Result<Parts, Error> {
        let engine = client.engine(backend)?;
        let kernel = client.kernel(kernel)?;
        let initramfs = client.initramfs(guest_init, &kernel)?;
        watch.lap(|timing| &mut timing.kernel_ms);
        Ok(Parts { engine, kernel, initramfs })
    }
}
