//! Gives a file back from a chain.
//!
//! Each piece of a layer is read once, verified, and what is visible of it is written from there. That is all there is to do for most of the
//! time a restore takes, so that several threads do it. Copying within the kernel was left out: the data has to be read to be verified.

use super::format::{BLOCK, Layer, PIECE};
use super::path_of;
use super::stack::{Extent, stack};
use crate::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

/// More threads than this wait for memory and the file system rather than for processors.
const MAX_THREADS: usize = 4;

/// A piece of a layer, and what of the file comes from it.
struct Job<'a> {
    layer: &'a Layer,
    piece: u64,
    visible: Vec<Extent>,
}

pub(super) fn materialize(chain: &[Layer], into: &File, length: u64) -> Result<(), Error> {
    into.set_len(0).and_then(|()| into.set_len(length)).map_err(Error::io("make as large as needed", path_of(into)))?;
    let jobs = jobs(chain, length);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let job = jobs.lock().expect("nobody panics with the jobs in hand").next();
            let Some(job) = job else { return Ok(()) };
            if let Err(error) = job.run(&mut buffer, into, length) {
                // The others need not go on.
                jobs.lock().expect("nobody panics with the jobs in hand").by_ref().for_each(drop);
                return Err(error);
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let outcome = work();
        others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .fold(outcome, Result::and)
    })
}

/// What there is to do, in the order of the file.
fn jobs(chain: &[Layer], length: u64) -> Vec<Job<'_>> {
    let blocks = length.div_ceil(BLOCK);
    let mut jobs: Vec<Job<'_>> = Vec::new();
    // The job of each layer that may still get more: pieces of one layer come in order.
    let mut last: Vec<Option<usize>> = vec![None; chain.len()];
    for extent in stack(chain) {
        let mut start = extent.start;
        while start < extent.end.min(blocks) {
            let part = extent.within(start, blocks);
            let piece = part.at / PIECE;
            let part = part.within(start, start + (piece + 1) * PIECE - part.at);
            start = part.end;
            match last[extent.layer] {
                Some(job) if jobs[job].piece == piece => jobs[job].visible.push(part),
                _ => {
                    last[extent.layer] = Some(jobs.len());
                    jobs.push(Job { layer: &chain[extent.layer], piece, visible: vec![part] });
                }
            }
        }
    }
    jobs
}

impl Job<'_> {
    fn run(&self, buffer: &mut Vec<u8>, into: &File, length: u64) -> Result<(), Error> {
        self.layer.read_piece(self.piece, buffer)?;
        for part in &self.visible {
            let first = (part.at - self.piece * PIECE) * BLOCK;
            let bytes = ((part.end - part.start) * BLOCK).min(length - part.start * BLOCK);
            let part_bytes = &buffer[first as usize..(first + bytes) as usize];
            into.write_all_at(part_bytes, part.start * BLOCK).map_err(Error::io("write", path_of(into)))?;
        }
        Ok(())
    }
}
