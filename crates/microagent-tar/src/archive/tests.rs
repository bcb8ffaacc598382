use super::*;
use microagent_testing::{Item, TarWriter, pax_record};
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn entries(mut archive: Archive<'_, impl Source>) -> Result<Vec<Entry>, ArchiveError> {
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads from a file, and checks that a stream says the same, however it is cut.
fn read(bytes: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let limits = Limits::default();
    let file = file_of(bytes);
    let read = entries(Archive::new(FileSource::new(&file)?, &limits));
    let streamed = entries(Archive::new(StreamSource::new(Trickle(bytes)), &limits));
    match (&read, &streamed) {
        (Ok(read), Ok(streamed)) => assert_eq!(format!("{read:?}"), format!("{streamed:?}")),
        // Where a stream ends is known when it has ended, so another fault may come first.
        (read, streamed) => assert!(read.is_err() && streamed.is_err(), "{read:?} is not {streamed:?}"),
    }
    read
}

/// Gives a few bytes at a time.
struct Trickle<'b>(&'b [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(397);
        self.0.read(&mut buffer[..count])
    }
}

fn only(bytes: &[u8]) -> Entry {
    let mut entries = read(bytes).unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// The bytes of an entry, as an image would hold them.
fn content(archive: &[u8], entry: &Entry) -> Vec<u8> {
    let EntryKind::File { size, content } = &entry.kind else {
        panic!("not a file: {entry:?}");
    };
    match content {
        Content::Dense { source } => archive[*source as usize..][..*size as usize].to_vec(),
        Content::Sparse(extents) => {
            let mut bytes = vec![0; *size as usize];
            for extent in extents {
                let data = &archive[extent.source as usize..][..extent.length as usize];
                bytes[extent.start as usize..][..extent.length as usize].copy_from_slice(data);
            }
            bytes
        }
    }
}

fn item() -> impl Strategy<Value = Item> {
    let name = prop::collection::vec(1u8..=255, 1..150);
    let bytes = prop::collection::vec(any::<u8>(), 0..1500);
    let xattr = ("user\\.[a-z]{1,5}", prop::collection::vec(any::<u8>(), 0..30));
    let times = (-(1i64 << 34)..1 << 34, 0u32..1_000_000_000);
    let kind = prop::sample::select(b"0123456".to_vec());
    let xattrs = prop::collection::vec(xattr, 0..3);
    (name, kind, 0u32..0o10000, any::<(u32, u32)>(), times, bytes, xattrs).prop_map(
        |(path, type_flag, mode, (uid, gid), (mtime, mtime_nanos), data, xattrs)| {
            let link = if matches!(type_flag, b'1' | b'2') { b"target".to_vec() } else { Vec::new() };
            let device = if matches!(type_flag, b'3' | b'4') { (mode % 4096, uid % (1 << 20)) } else { (0, 0) };
            let data = if type_flag == b'0' { data } else { Vec::new() };
            let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            Item { path, type_flag, mode, uid, gid, mtime, mtime_nanos, link, device, xattrs, data }
        },
    )
}

fn assert_same(archive: &[u8], entry: &Entry, item: &Item) {
    assert_eq!(entry.path, item.path);
    let metadata = &entry.metadata;
    assert_eq!((u32::from(metadata.mode), metadata.uid, metadata.gid), (item.mode, item.uid, item.gid));
    assert_eq!((metadata.mtime, metadata.mtime_nanos), (item.mtime, item.mtime_nanos));
    assert_eq!(metadata.xattrs, item.xattrs.iter().cloned().collect());
    match (&entry.kind, item.type_flag) {
        (EntryKind::File { .. }, b'0') => assert_eq!(content(archive, entry), item.data),
        (EntryKind::Directory, b'5') | (EntryKind::Fifo, b'6') => {}
        (EntryKind::HardLink(target), b'1') | (EntryKind::Symlink(target), b'2') => assert_eq!(*target, item.link),
        (EntryKind::CharDevice { major, minor }, b'3') | (EntryKind::BlockDevice { major, minor }, b'4') => {
            assert_eq!((*major, *minor), item.device);
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn what_was_written_is_what_is_read(items in prop::collection::vec(item(), 0..8)) {
        let archive = TarWriter::of(&items);
        let entries = read(&archive).unwrap();
        prop_assert_eq!(entries.len(), items.len());
        for (entry, item) in entries.iter().zip(&items) {
            assert_same(&archive, entry, item);
        }
    }

    #[test]
    fn damaged_archives_never_panic(
        items in prop::collection::vec(item(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut archive = TarWriter::of(&items);
        for (index, byte) in damage {
            let index = index.index(archive.len());
            archive[index] = byte;
        }
        let _ = read(&archive);
        archive.truncate(cut.index(archive.len()));
        let _ = read(&archive);
    }
}

#[test]
fn gnu_long_names_and_links_are_read() {
    let mut writer = TarWriter::default();
    for (type_flag, text) in [(b'L', [b"long/".repeat(40), b"\0".to_vec()].concat()), (b'K', b"t".repeat(300))] {
        writer.header(&Item::new(type_flag, "././@LongLink"), text.len() as u64);
        writer.data(&text);
    }
    writer.item(&Item::symlink("short", "short"));
    let entry = only(&writer.finish());
    assert_eq!(entry.path, b"long/".repeat(40));
    assert!(matches!(&entry.kind, EntryKind::Symlink(target) if *target == b"t".repeat(300)));
}

#[test]
fn base_256_numbers_are_read_negative_times_included() {
    let mut writer = TarWriter::default();
    writer.header_with(&Item::file("f", ""), 0, |header| {
        header[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0]);
        header[136..148].copy_from_slice(&[0xff; 12]);
        header[147] = 0xfe;
    });
    let metadata = only(&writer.finish()).metadata;
    assert_eq!((metadata.uid, metadata.mtime), (4_000_000_000, -2));
}

#[test]
fn global_headers_are_ignored_and_contiguous_files_are_files() {
    let mut writer = TarWriter::default();
    let global = pax_record(b"path", b"everything-is-named-this");
    writer.header(&Item::new(b'g', "global"), global.len() as u64);
    writer.data(&global);
    writer.item(&Item { type_flag: b'7', ..Item::file("contiguous", "data") });
    let archive = writer.finish();
    let entry = only(&archive);
    assert_eq!(entry.path, b"contiguous");
    assert_eq!(content(&archive, &entry), b"data");
}

#[test]
fn old_archives_mark_directories_by_a_slash() {
    let entry = only(&TarWriter::of(&[Item::new(0, "old/")]));
    assert!(matches!(entry.kind, EntryKind::Directory));
}

#[test]
fn the_posix_prefix_is_joined_and_the_gnu_one_is_not_a_prefix() {
    let prefix = |header: &mut [u8; 512]| header[345..350].copy_from_slice(b"above");
    let mut writer = TarWriter::default();
    writer.header_with(&Item::file("name", ""), 0, prefix);
    writer.header_with(&Item::file("name", ""), 0, |header| {
        prefix(header);
        header[257..265].copy_from_slice(b"ustar  \0");
    });
    let entries = read(&writer.finish()).unwrap();
    assert_eq!([&entries[0].path[..], &entries[1].path], [&b"above/name"[..], b"name"]);
}

#[test]
fn a_hard_link_with_a_body_hides_nothing_and_swallows_nothing() {
    let mut writer = TarWriter::default();
    writer.header(&Item::hard_link("with-body", "f"), 600);
    writer.data(&[b'x'; 600]);
    writer.header(&Item::hard_link("without-body", "f"), 600);
    writer.item(&Item::file("next", "data"));
    let paths: Vec<_> = read(&writer.finish()).unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, [&b"with-body"[..], b"without-body", b"next"]);
}

/// The three pieces every sparse format below writes: `aaa` at 0, 512 bytes of `b` at 4096, nothing more up to 10000.
fn sparse_data() -> Vec<u8> {
    [b"aaa".to_vec(), vec![b'b'; 512]].concat()
}

fn assert_sparse(archive: &[u8], entry: &Entry) {
    let mut expected = vec![0; 10_000];
    expected[..3].copy_from_slice(b"aaa");
    expected[4096..4608].fill(b'b');
    assert_eq!(content(archive, entry), expected);
    assert!(
        matches!(&entry.kind, EntryKind::File { size: 10_000, content: Content::Sparse(extents) } if extents.len() == 2)
    );
}

#[test]
fn all_three_pax_sparse_formats_are_read() {
    let maps: [&[(&[u8], &[u8])]; 2] = [
        &[
            (b"GNU.sparse.size", b"10000"),
            (b"GNU.sparse.numblocks", b"3"),
            (b"GNU.sparse.offset", b"0"),
            (b"GNU.sparse.numbytes", b"3"),
            (b"GNU.sparse.offset", b"4096"),
            (b"GNU.sparse.numbytes", b"512"),
            (b"GNU.sparse.offset", b"10000"),
            (b"GNU.sparse.numbytes", b"0"),
        ],
        &[
            (b"GNU.sparse.name", b"real"),
            (b"GNU.sparse.size", b"10000"),
            (b"GNU.sparse.numblocks", b"3"),
            (b"GNU.sparse.map", b"0,3,4096,512,10000,0"),
        ],
    ];
    for records in maps {
        let mut writer = TarWriter::default();
        writer.pax(&records.iter().flat_map(|(keyword, value)| pax_record(keyword, value)).collect::<Vec<_>>());
        writer.item(&Item::file("real", sparse_data()));
        writer.item(&Item::file("next", ""));
        let archive = writer.finish();
        let entries = read(&archive).unwrap();
        assert_eq!([&entries[0].path[..], &entries[1].path], [&b"real"[..], b"next"]);
        assert_sparse(&archive, &entries[0]);
    }
    let mut map = b"3\n0\n3\n4096\n512\n10000\n0\n".to_vec();
    map.resize(512, 0);
    let mut writer = TarWriter::default();
    let keys: [(&[u8], &[u8]); 4] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"real"),
        (b"GNU.sparse.realsize", b"10000"),
    ];
    writer.pax(&keys.iter().flat_map(|(keyword, value)| pax_record(keyword, value)).collect::<Vec<_>>());
    writer.item(&Item::file("GNUSparseFile.0/real", [map, sparse_data()].concat()));
    let archive = writer.finish();
    let entry = only(&archive);
    assert_eq!(entry.path, b"real");
    assert_sparse(&archive, &entry);
}

fn put_piece(map: &mut [u8], offset: u64, length: u64) {
    map[..11].copy_from_slice(format!("{offset:011o}").as_bytes());
    map[12..23].copy_from_slice(format!("{length:011o}").as_bytes());
}

#[test]
fn old_gnu_sparse_files_are_read_with_their_extension_blocks() {
    let mut writer = TarWriter::default();
    writer.header_with(&Item { type_flag: b'S', ..Item::file("real", "") }, 515, |header| {
        header[257..265].copy_from_slice(b"ustar  \0");
        put_piece(&mut header[386..], 0, 3);
        header[482] = 1;
        header[483..494].copy_from_slice(b"00000023420");
    });
    let mut extension = [0; 512];
    put_piece(&mut extension, 4096, 512);
    put_piece(&mut extension[24..], 10_000, 0);
    writer.data(&extension);
    writer.data(&sparse_data());
    writer.item(&Item::file("next", ""));
    let archive = writer.finish();
    let entries = read(&archive).unwrap();
    assert_eq!(entries.len(), 2);
    assert_sparse(&archive, &entries[0]);
}

#[test]
fn a_piece_of_a_sparse_file_outside_its_data_is_refused() {
    for map in ["0,4,4096,512", "4096,512,0,3", "0,3,9999,512", "0,3,4096", "0,x"] {
        let mut writer = TarWriter::default();
        let records = [pax_record(b"GNU.sparse.size", b"10000"), pax_record(b"GNU.sparse.map", map.as_bytes())];
        writer.pax(&records.concat());
        writer.item(&Item::file("f", sparse_data()));
        assert!(read(&writer.finish()).is_err(), "{map}");
    }
}

#[test]
fn a_sparse_map_of_endless_length_is_refused() {
    let mut writer = TarWriter::default();
    let records = [pax_record(b"GNU.sparse.major", b"1"), pax_record(b"GNU.sparse.realsize", b"10000")];
    writer.pax(&records.concat());
    writer.item(&Item::file("f", "99999999999\n0\n0\n"));
    assert!(matches!(read(&writer.finish()), Err(ArchiveError::Limit { what: "sparse map pieces", .. })));
}

#[test]
fn an_archive_that_ends_too_early_is_refused() {
    let archive = TarWriter::of(&[Item::file("f", [1; 5000])]);
    for length in [100, 600, 5000] {
        assert!(matches!(read(&archive[..length]), Err(ArchiveError::Truncated { .. })), "{length}");
    }
    // No end mark and no padding are tolerated, as everywhere.
    assert_eq!(read(&archive[..512 + 5000]).unwrap().len(), 1);
    assert_eq!(read(&[]).unwrap().len(), 0);
}

#[test]
fn a_size_beyond_the_archive_is_refused_without_allocating_it() {
    let mut writer = TarWriter::default();
    writer.header_with(&Item::file("f", ""), 0, |header| {
        header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
    });
    assert!(matches!(read(&writer.finish()), Err(ArchiveError::Truncated { .. })));
    let mut writer = TarWriter::default();
    writer.header(&Item::new(b'x', "pax"), 1 << 30);
    assert!(matches!(read(&writer.finish()), Err(ArchiveError::Limit { what: "pax_bytes", .. })));
}

#[test]
fn blocks_that_are_no_headers_are_refused_with_their_place() {
    let mut archive = TarWriter::of(&[Item::file("a", ""), Item::file("b", "")]);
    archive[512] ^= 1;
    assert!(matches!(read(&archive), Err(ArchiveError::BadHeader { offset: 512, .. })));
    let mut archive = vec![0; 512];
    archive.extend(TarWriter::of(&[Item::file("smuggled", "")]));
    assert!(matches!(read(&archive), Err(ArchiveError::BadHeader { offset: 512, .. })));
}

#[test]
fn unknown_types_and_impossible_devices_are_refused() {
    let unknown = read(&TarWriter::of(&[Item::new(b'V', "label")])).unwrap_err();
    assert!(matches!(unknown, ArchiveError::UnsupportedEntry { type_flag: 'V', .. }), "{unknown:?}");
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let error = read(&TarWriter::of(&[Item::device(b'3', "d", major, minor)])).unwrap_err();
        assert!(matches!(error, ArchiveError::BadEntry { .. }), "{error:?}");
    }
}

#[test]
fn content_points_into_the_archive_where_the_data_is() {
    let archive = TarWriter::of(&[Item::file("first", [7; 700]), Item::file("second", "data")]);
    let entries = read(&archive).unwrap();
    let EntryKind::File { content: Content::Dense { source }, .. } = entries[1].kind else {
        panic!("{entries:?}");
    };
    assert_eq!(&archive[source as usize..][..4], b"data");
}
