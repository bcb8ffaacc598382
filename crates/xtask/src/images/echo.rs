//! One static program, and nothing that a program might expect around it.

use std::path::Path;

use super::Layout;
use crate::Result;
use crate::packages::BUSYBOX;

const TAG: &str = "1";

pub(super) fn make(layout: &Layout, _files: &Path) -> Result<()> {
    layout.start(TAG)?;
    // Busybox is the command it is called by.
    layout.umoci(&["insert", "--rootless"], TAG, &[BUSYBOX, "/echo"])?;
    layout.umoci(&["config"], TAG, &["--config.entrypoint=/echo", "--config.cmd=nothing but this"])
}
