//! One static program, and nothing that a program might expect around it.

use std::path::Path;

use super::Layout;
use crate::Result;

const TAG: &str = "1";
/// A program that is `echo` when it is called so.
const BUSYBOX: &str = "/bin/busybox";

pub(super) fn make(layout: &Layout, _files: &Path) -> Result<()> {
    layout.start(TAG)?;
    layout.umoci(&["insert", "--rootless"], TAG, &[BUSYBOX, "/echo"])?;
    layout.umoci(&["config"], TAG, &["--config.entrypoint=/echo", "--config.cmd=nothing but this"])
}
