//! Extended attributes, stored once for all the files that share them.
//!
//! A labelled image gives half a million files the same few sets, so a node holds an index.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::rootfs::Error;
use crate::rootfs::limits::{Limits, check};
use crate::rootfs::linux::xattr_namespace;

/// Full names and values of one file's attributes.
pub(in crate::rootfs) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Longest name and value Linux stores. The value's bound is one less than Linux's own, for EROFS counts in 16 bits.
const NAME_MAX: u64 = 255;
const VALUE_MAX: u64 = 65_535;

/// The private marks of overlayfs. In a layer they are left over from the machine that built it, and the guest's overlay
/// would obey them.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Index of a set in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::rootfs) struct XattrsId(u32);

impl XattrsId {
    pub(in crate::rootfs) const NONE: XattrsId = XattrsId(0);
}

#[derive(Debug)]
pub(super) struct XattrTable {
    sets: Vec<Arc<Xattrs>>,
    ids: HashMap<Arc<Xattrs>, XattrsId>,
    pub(super) dropped: u64,
}

impl Default for XattrTable {
    fn default() -> Self {
        XattrTable { sets: vec![Arc::default()], ids: HashMap::new(), dropped: 0 }
    }
}

impl XattrTable {
    pub(super) fn get(&self, id: XattrsId) -> &Xattrs {
        &self.sets[id.0 as usize]
    }

    /// Stores the attributes of `path` that a Linux filesystem can hold, and counts the others.
    pub(super) fn insert(&mut self, path: &[u8], mut xattrs: Xattrs, limits: &Limits) -> Result<XattrsId, Error> {
        let before = xattrs.len();
        xattrs.retain(|name, _| is_storable(name));
        self.dropped += (before - xattrs.len()) as u64;
        if xattrs.is_empty() {
            return Ok(XattrsId::NONE);
        }
        check_sizes(path, &xattrs, limits)?;
        if let Some(id) = self.ids.get(&xattrs) {
            return Ok(*id);
        }
        let xattrs = Arc::new(xattrs);
        let id = XattrsId(u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
        self.sets.push(Arc::clone(&xattrs));
        self.ids.insert(xattrs, id);
        Ok(id)
    }
}

fn is_storable(name: &[u8]) -> bool {
    xattr_namespace(name).is_some() && !OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}

fn check_sizes(path: &[u8], xattrs: &Xattrs, limits: &Limits) -> Result<(), Error> {
    let mut total = 0;
    for (name, value) in xattrs {
        if name.contains(&0) {
            return Err(Error::entry(path, "the name of an extended attribute contains a NUL byte"));
        }
        check("extended attribute name length", name.len() as u64, NAME_MAX)?;
        check("extended attribute value length", value.len() as u64, VALUE_MAX)?;
        total += name.len() as u64 + value.len() as u64;
    }
    check("xattr_bytes", total, limits.xattr_bytes)
}
