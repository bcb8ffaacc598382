//! Paths inside a layer.

use super::Error;
use super::limits::Limits;

/// Splits `path` into its names, none of which leads out of the root.
pub(super) fn split<'p>(path: &'p [u8], limits: &Limits) -> Result<Vec<&'p [u8]>, Error> {
    Ok(microagent_tar::split(path, &limits.of_archive())?)
}
