//! Which layer of a chain has which block.

use super::format::{Content, Layer, Run};

/// Blocks in a row that are given by one layer. What no extent gives is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block, in the whole file.
    pub(super) start: u64,
    /// The block after the last.
    pub(super) end: u64,
    /// Which layer of the chain.
    pub(super) layer: usize,
    /// Where the first block is, in the data of the layer.
    pub(super) at: u64,
}

impl Extent {
    /// What is left of it from `start` on.
    fn from(self, start: u64) -> Extent {
        Extent { start, at: self.at + (start - self.start), ..self }
    }

    /// What is in it of the blocks from `start` up to `end`.
    pub(super) fn within(self, start: u64, end: u64) -> Extent {
        Extent { end: self.end.min(end), ..self.from(self.start.max(start)) }
    }
}

/// What a chain gives, in order.
pub(super) fn stack(chain: &[Layer]) -> Vec<Extent> {
    chain.iter().enumerate().fold(Vec::new(), |below, (layer, on)| overlay(below, &on.index.runs, layer))
}

fn overlay(below: Vec<Extent>, runs: &[Run], layer: usize) -> Vec<Extent> {
    let mut stacked = Vec::with_capacity(below.len() + runs.len());
    let mut below = below.into_iter();
    let mut current = below.next();
    let mut at = 0;
    for run in runs {
        while let Some(extent) = current.filter(|extent| extent.start < run.start) {
            stacked.push(extent.within(0, run.start));
            current = if extent.end <= run.start { below.next() } else { Some(extent.from(run.start)) };
        }
        while let Some(extent) = current.filter(|extent| extent.start < run.end()) {
            current = if extent.end <= run.end() { below.next() } else { Some(extent.from(run.end())) };
        }
        if run.content == Content::Data {
            stacked.push(Extent { start: run.start, end: run.end(), layer, at });
            at += u64::from(run.blocks);
        }
    }
    stacked.extend(current);
    stacked.extend(below);
    stacked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn runs() -> impl Strategy<Value = Vec<Run>> {
        let run = (0..4u64, 1..5u32, any::<bool>());
        prop::collection::vec(run, 0..8).prop_map(|runs| {
            let mut end = 0;
            let place = |(gap, blocks, data): (u64, u32, bool)| {
                let start = end + gap;
                end = start + u64::from(blocks);
                Run { start, blocks, content: if data { Content::Data } else { Content::Zero } }
            };
            runs.into_iter().map(place).collect()
        })
    }

    proptest! {
        #[test]
        fn every_block_comes_from_the_topmost_layer_that_speaks_of_it(layers in prop::collection::vec(runs(), 0..5)) {
            let mut expected = BTreeMap::new();
            let mut stacked = Vec::new();
            for (layer, runs) in layers.iter().enumerate() {
                let mut at = 0;
                for run in runs {
                    for block in run.start..run.end() {
                        expected.remove(&block);
                        if run.content == Content::Data {
                            expected.insert(block, (layer, at));
                            at += 1;
                        }
                    }
                }
                stacked = overlay(stacked, runs, layer);
            }
            let blocks: Vec<_> = stacked
                .iter()
                .flat_map(|extent| (extent.start..extent.end).map(|block| (block, (extent.layer, extent.at + block - extent.start))))
                .collect();
            prop_assert_eq!(blocks, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
