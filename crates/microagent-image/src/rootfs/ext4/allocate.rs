//! Blocks handed out in order, past the metadata in their way.

use super::geometry::{BLOCKS_PER_GROUP, Geometry};

/// Consecutive blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Hands out the blocks of a filesystem from the first to the last.
pub(super) struct Allocator<'g> {
    geometry: &'g Geometry,
    next: u64,
}

impl<'g> Allocator<'g> {
    pub(super) fn new(geometry: &'g Geometry) -> Self {
        Allocator { geometry, next: 0 }
    }

    /// Everything before is in use, but for metadata of groups that nothing has reached.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The next run, `length` blocks long or as many as there are before other metadata. `None` when the disk is full.
    pub(super) fn take(&mut self, length: u64) -> Option<Run> {
        loop {
            if self.next >= self.geometry.blocks {
                return None;
            }
            let group = self.next / BLOCKS_PER_GROUP;
            let first = Geometry::group_start(group) + self.geometry.used_blocks(group);
            let end = Geometry::group_start(group) + self.geometry.group_blocks(group);
            let start = self.next.max(first);
            if start < end {
                let run = Run { start, length: length.min(end - start) };
                self.next = run.start + run.length;
                return Some(run);
            }
            self.next = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_free_block_is_handed_out_once_and_no_other() {
        let geometry = Geometry::of(3 << 30, 0).unwrap();
        let mut allocator = Allocator::new(&geometry);
        let mut taken = 0;
        let mut last = 0;
        while let Some(run) = allocator.take(1000) {
            assert!(run.start >= last);
            let group = run.start / BLOCKS_PER_GROUP;
            assert!(run.start - Geometry::group_start(group) >= geometry.used_blocks(group));
            last = run.start + run.length;
            taken += run.length;
        }
        assert_eq!(taken, geometry.capacity() + geometry.journal_blocks);
    }
}
