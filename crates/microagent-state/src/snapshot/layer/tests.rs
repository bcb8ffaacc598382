use super::*;
use crate::snapshot::layer::format::BLOCK;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

struct Scratch {
    dir: tempfile::TempDir,
    layers: Layers,
}

impl Scratch {
    fn new() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new(dir.path().join("layers"));
        Scratch { dir, layers }
    }

    fn write(&self, content: &[u8], parents: &[LayerId]) -> Vec<LayerId> {
        self.layers.writing().unwrap().write(&sparse(content), None, parents).unwrap()
    }

    fn read(&self, chain: &[LayerId], length: u64) -> Result<Vec<u8>, Error> {
        let file = tempfile::tempfile_in(self.dir.path()).unwrap();
        file.write_all_at(b"what was there before", 0).unwrap();
        self.layers.materialize(chain, &file, length)?;
        let mut content = vec![0; length as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        Ok(content)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.layers.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }
}

/// A file with holes where `content` has blocks of zeroes.
fn sparse(content: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (at, block) in content.chunks(BLOCK as usize).enumerate() {
        if block.iter().any(|&byte| byte != 0) {
            file.write_all_at(block, at as u64 * BLOCK).unwrap();
        }
    }
    file
}

/// Blocks of one byte each.
fn blocks(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|&byte| [byte; BLOCK as usize]).collect()
}

fn reason(error: &Error) -> &str {
    match error {
        Error::LayerDamaged { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_chain_gives_back_every_file_it_was_made_of(
        states in prop::collection::vec((prop::collection::vec(0..3u8, 0..40), 0..4096usize), 1..6)
    ) {
        let scratch = Scratch::new();
        let mut chain = Vec::new();
        let mut kept = Vec::new();
        for (state, cut) in states {
            let mut content = blocks(&state);
            content.truncate(content.len().saturating_sub(cut));
            chain = scratch.write(&content, &chain);
            kept.push((chain.clone(), content));
        }
        for (chain, content) in kept {
            prop_assert_eq!(scratch.read(&chain, content.len() as u64).unwrap(), content);
        }
    }
}

#[test]
fn only_blocks_that_differ_are_kept_and_zeroes_over_data_take_nothing() {
    let scratch = Scratch::new();
    let base = scratch.write(&blocks(&[1; 600]), &[]);
    let base_bytes = scratch.layers.bytes(&base[0]).unwrap();
    assert!(base_bytes >= 600 * BLOCK, "{base_bytes}");
    let mut changed = vec![1; 600];
    changed[7] = 2;
    changed[300..500].fill(0);
    let chain = scratch.write(&blocks(&changed), &base);
    assert_eq!(chain.len(), 2);
    let top = scratch.layers.bytes(&chain[1]).unwrap();
    assert!(top <= 4 * BLOCK, "{top}");
    assert_eq!(scratch.read(&chain, 600 * BLOCK).unwrap(), blocks(&changed));
    assert_eq!(scratch.read(&base, 600 * BLOCK).unwrap(), blocks(&[1; 600]));
}

#[test]
fn what_is_given_back_has_holes_where_it_is_zero() {
    let scratch = Scratch::new();
    let base = scratch.write(&blocks(&[1, 1, 1, 1]), &[]);
    let mut content = blocks(&[0, 1, 0, 0]);
    content.resize(64 << 20, 0);
    let chain = scratch.write(&content, &base);
    let file = tempfile::tempfile_in(scratch.dir.path()).unwrap();
    scratch.layers.materialize(&chain, &file, 64 << 20).unwrap();
    file.sync_all().unwrap();
    assert!(on_disk(&file.metadata().unwrap()) <= 4 * BLOCK);
}

#[test]
fn a_file_that_did_not_change_makes_no_layer() {
    let scratch = Scratch::new();
    assert!(scratch.write(&blocks(&[0; 50]), &[]).is_empty());
    let chain = scratch.write(&blocks(&[0, 3, 0]), &[]);
    assert_eq!(scratch.write(&blocks(&[0, 3, 0]), &chain), chain);
    assert_eq!(scratch.files().len(), 1);
}

#[test]
fn two_layers_of_one_content_are_one() {
    let scratch = Scratch::new();
    let one = scratch.write(&blocks(&[1, 2]), &[]);
    assert_eq!(scratch.write(&blocks(&[1, 2]), &[]), one);
    assert_eq!(scratch.files().len(), 1);
}

#[test]
fn a_block_outside_of_the_ranges_is_taken_for_unchanged() {
    let scratch = Scratch::new();
    let base = scratch.write(&blocks(&[1, 1, 1, 1]), &[]);
    let from = sparse(&blocks(&[2, 2, 2, 0]));
    let writing = scratch.layers.writing().unwrap();
    // Parts of blocks count as blocks; what is beyond the end counts as nothing.
    let ranges = [BLOCK + 5..BLOCK + 6, 3 * BLOCK..99 * BLOCK];
    let chain = writing.write(&from, Some(&ranges), &base).unwrap();
    assert_eq!(scratch.read(&chain, 4 * BLOCK).unwrap(), blocks(&[1, 2, 1, 0]));
    assert_eq!(writing.write(&from, Some(&[]), &base).unwrap(), base);
}

#[test]
fn a_chain_stays_short_and_keeps_what_is_lowest() {
    let scratch = Scratch::new();
    let mut content = vec![7; 32];
    let mut chain = scratch.write(&blocks(&content), &[]);
    let base = chain.clone();
    for round in 0..40 {
        content[round % 32] = round as u8;
        // That only one block is different from the last time says nothing of the lowest layer.
        let at = (round as u64 % 32) * BLOCK;
        let changed = at..at + BLOCK;
        let from = sparse(&blocks(&content));
        chain = scratch.layers.writing().unwrap().write(&from, Some(&[changed]), &chain).unwrap();
        assert!(chain.len() <= MAX_CHAIN);
        assert_eq!(chain[0], base[0]);
        assert_eq!(scratch.read(&chain, 32 * BLOCK).unwrap(), blocks(&content), "round {round}");
    }
}

#[test]
fn a_parent_that_is_gone_or_damaged_costs_space_and_nothing_else() {
    let scratch = Scratch::new();
    let base = scratch.write(&blocks(&[1, 2, 3]), &[]);
    let chain = scratch.write(&blocks(&[1, 2, 4]), &base);
    for damage in [|path: PathBuf| std::fs::remove_file(path), |path: PathBuf| std::fs::write(path, "x")] {
        damage(scratch.layers.path(&base[0])).unwrap();
        let from = sparse(&blocks(&[1, 2, 5]));
        let fresh = scratch.layers.writing().unwrap().write(&from, Some(&[]), &chain).unwrap();
        assert_eq!(fresh.len(), 1);
        assert_eq!(scratch.read(&fresh, 3 * BLOCK).unwrap(), blocks(&[1, 2, 5]));
    }
}

#[test]
fn damage_of_any_byte_is_found_and_told_of_the_right_layer() {
    let scratch = Scratch::new();
    let base = scratch.write(&blocks(&[9; 300]), &[]);
    let chain = scratch.write(&blocks(&[8; 3]), &base);
    let path = scratch.layers.path(&base[0]);
    let whole = std::fs::read(&path).unwrap();
    // Each byte of the header and the index, and some of each piece of the data that is still visible: block 3 and those after.
    let index = (BLOCK + 300 * BLOCK) as usize;
    let places = (0..40).chain([4 * 4096 + 1, 200 * 4096, 300 * 4096 + 4095]).chain(index..whole.len());
    for place in places {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = scratch.read(&chain, 300 * BLOCK).unwrap_err();
        match &error {
            Error::LayerDamaged { layer, .. } => assert_eq!(*layer, base[0], "{place}"),
            Error::LayerNewer { .. } => assert!((8..12).contains(&place), "{place}"),
            other => panic!("{other} at {place}"),
        }
        if (4096..index).contains(&place) {
            assert!(reason(&error).contains("its data between byte"), "{error}");
        }
    }
    // Written anew, it is what it was: a damaged layer is not taken for one that is there.
    assert_eq!(scratch.write(&blocks(&[9; 300]), &[]), base);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn a_truncated_layer_is_refused_at_any_length() {
    let scratch = Scratch::new();
    let chain = scratch.write(&blocks(&[9; 3]), &[]);
    let path = scratch.layers.path(&chain[0]);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 1, 39, 40, 4096, 8192, whole.len() - 1, whole.len() + 1] {
        let mut other = whole.clone();
        other.resize(length, 0);
        std::fs::write(&path, other).unwrap();
        let error = scratch.read(&chain, 3 * BLOCK).unwrap_err();
        assert!(reason(&error).contains(&format!("{length} bytes")), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(reason(&scratch.read(&chain, 3 * BLOCK).unwrap_err()), "it is gone");
    std::fs::create_dir(&path).unwrap();
    assert_eq!(reason(&scratch.read(&chain, 3 * BLOCK).unwrap_err()), "it is no file");
}

#[test]
fn an_index_that_contradicts_itself_is_refused_even_under_its_own_name() {
    use super::format::{Content, Index, Run};
    let scratch = Scratch::new();
    let _writing = scratch.layers.writing().unwrap();
    let run = |start, blocks| Run { start, blocks, content: Content::Zero };
    for (length, runs) in [
        (8, vec![run(0, 0)]),
        (8, vec![run(0, 4), run(3, 1)]),
        (8, vec![run(4, 1), run(0, 1)]),
        (8, vec![run(0, 9)]),
        (8, vec![run(u64::MAX, 2)]),
    ] {
        let file = tempfile::NamedTempFile::new_in(&scratch.layers.directory).unwrap();
        let id = Index { length: length * BLOCK, runs, pieces: Vec::new() }.write(file.as_file()).unwrap();
        file.persist(scratch.layers.path(&id)).unwrap();
        assert_eq!(reason(&scratch.read(&[id], 8 * BLOCK).unwrap_err()), "its index contradicts itself");
    }
}

#[test]
fn a_name_of_a_layer_leads_out_of_no_directory() {
    for bad in ["", "..", "../../etc/passwd", &"A".repeat(64), &"a".repeat(63), &format!("{}/", "a".repeat(63))] {
        assert!(serde_json::from_value::<LayerId>((*bad).into()).is_err(), "{bad}");
    }
}

#[test]
fn a_layer_is_swept_when_nobody_needs_it_and_nobody_writes() {
    let scratch = Scratch::new();
    let needed = scratch.write(&blocks(&[1]), &[]);
    let unneeded = scratch.write(&blocks(&[2]), &[]);
    std::fs::write(scratch.layers.directory.join(".new-half"), [1; 5000]).unwrap();
    let referenced = || Ok(needed.iter().cloned().collect());
    let writing = scratch.layers.writing().unwrap();
    assert_eq!(scratch.layers.sweep(referenced).unwrap(), None);
    assert_eq!(scratch.files().len(), 3);
    drop(writing);
    let swept = scratch.layers.sweep(referenced).unwrap().unwrap();
    assert_eq!((swept.layers, swept.bytes >= 5000), (2, true));
    assert_eq!(scratch.files(), [needed[0].to_string()]);
    assert_eq!(reason(&scratch.layers.bytes(&unneeded[0]).unwrap_err()), "it is gone");
}

#[test]
fn nothing_is_swept_when_it_cannot_be_told_what_is_needed() {
    let scratch = Scratch::new();
    scratch.write(&blocks(&[1]), &[]);
    scratch.layers.sweep(|| Err(Error::NoStateDir)).unwrap_err();
    assert_eq!(scratch.files().len(), 1);
}

#[test]
fn a_layer_that_is_given_up_leaves_no_file() {
    let scratch = Scratch::new();
    let writing = scratch.layers.writing().unwrap();
    // Not open for reading: it fails as a file on a broken disk does.
    let path = scratch.dir.path().join("from");
    std::fs::write(&path, blocks(&[1; 600])).unwrap();
    let from = OpenOptions::new().write(true).open(&path).unwrap();
    let error = writing.write(&from, None, &[]).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(scratch.files().is_empty());
}

/// Reference figures, for a person to look at: `cargo test --release -p microagent-state --lib -- --ignored --nocapture layer_figures`.
#[test]
#[ignore = "nothing is timed in a test"]
fn layer_figures() {
    let scratch = Scratch::new();
    let memory: Vec<u8> = (0..60u64 << 20).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8 | 1).collect();
    let path = scratch.dir.path().join("memory");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(256 << 20).unwrap();
    // 20 stretches of 3 MiB.
    for (at, part) in memory.chunks(3 << 20).enumerate() {
        file.write_all_at(part, (at as u64 * 12) << 20).unwrap();
    }
    // Time of processors beside that of the clock: the former says something on a machine that does other things, too.
    let processors = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let timed = |what: &str, run: &mut dyn FnMut()| {
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let (start, used) = (std::time::Instant::now(), processors());
                run();
                let now = processors();
                let used = (now.tv_sec - used.tv_sec) * 1000 + (now.tv_nsec - used.tv_nsec) / 1_000_000;
                (start.elapsed().as_millis(), used)
            })
            .collect();
        times.sort_unstable();
        println!("{what}: {times:?} ms by the clock, ms of processors");
    };
    let writing = scratch.layers.writing().unwrap();
    let mut base = Vec::new();
    timed("first, 60 MiB of 256", &mut || base = writing.write(&file, None, &[]).unwrap());
    timed("nothing changed", &mut || assert_eq!(writing.write(&file, None, &base).unwrap(), base));
    for at in 0..3000u64 {
        file.write_all_at(&at.to_le_bytes(), ((at % 20 * 12) << 20) + (at * 37 % 768) * BLOCK).unwrap();
    }
    let mut chain = Vec::new();
    timed("12 MiB changed in scattered blocks", &mut || chain = writing.write(&file, None, &base).unwrap());
    println!("layer: {} bytes", scratch.layers.bytes(&chain[1]).unwrap());
    let into = tempfile::tempfile_in(scratch.dir.path()).unwrap();
    timed("materialize", &mut || scratch.layers.materialize(&chain, &into, 256 << 20).unwrap());
    timed("digest of 60 MiB", &mut || assert_ne!(format::digest(&memory), [0; 32]));
}
