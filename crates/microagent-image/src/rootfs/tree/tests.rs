use super::*;
use microagent_testing::{Item, TarWriter, pax_record};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::Write;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn merge(layers: &[&[Item]]) -> Result<Tree, Error> {
    let mut tree = Tree::new(Limits::default());
    for layer in layers {
        tree.apply(&file_of(&TarWriter::of(layer)))?;
    }
    Ok(tree)
}

/// What a path means: its kind, its owner (which the tests number entries with) and how many names it has.
type Listing = BTreeMap<String, (char, u32, u32)>;

fn list(tree: &Tree) -> Listing {
    let walk = Walk::of(tree);
    let mut listing = Listing::new();
    let mut stack = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, id)) = stack.pop() {
        let node = tree.node(id);
        let kind = match &node.body {
            Body::Directory(children) => {
                for (name, child) in children {
                    stack.push((format!("{path}/{}", String::from_utf8_lossy(name)), *child));
                }
                'd'
            }
            Body::File { .. } => 'f',
            Body::Symlink(_) => 'l',
            Body::PendingLink(_) => '?',
            Body::CharDevice { .. } | Body::BlockDevice { .. } | Body::Fifo => 'o',
        };
        let names = if kind == 'd' { 1 } else { walk.link_count(id) };
        listing.insert(path, (kind, node.attributes.uid, names));
    }
    listing
}

fn paths(layers: &[&[Item]]) -> Vec<String> {
    list(&merge(layers).unwrap()).into_keys().filter(|path| !path.is_empty()).collect()
}

#[test]
fn a_whiteout_removes_lower_files_wherever_it_stands_in_its_layer() {
    let lower = [Item::file("d/old", ""), Item::file("d/kept", "")];
    let whiteout = Item::file("d/.wh.old", "");
    let new = Item::file("d/old/new", "");
    for upper in [[whiteout.clone(), new.clone()], [new, whiteout]] {
        assert_eq!(paths(&[&lower, &upper]), ["/d", "/d/kept", "/d/old", "/d/old/new"]);
    }
    assert_eq!(paths(&[&lower, &[Item::file("d/.wh.old", "")]]), ["/d", "/d/kept"]);
}

#[test]
fn a_whiteout_never_removes_what_its_own_layer_adds() {
    let layer = [Item::file("f", ""), Item::file(".wh.f", "")];
    assert_eq!(paths(&[&layer]), ["/f"]);
    assert_eq!(paths(&[&[Item::directory("other")], &layer]), ["/f", "/other"]);
}

#[test]
fn an_opaque_directory_hides_everything_lower_and_keeps_everything_new() {
    let lower = [Item::file("d/a", ""), Item::file("d/sub/b", ""), Item::file("e", "")];
    let opaque = Item::file("d/.wh..wh..opq", "");
    let new = Item::file("d/sub/c", "");
    for upper in [[opaque.clone(), new.clone()], [new, opaque]] {
        assert_eq!(paths(&[&lower, &upper]), ["/d", "/d/sub", "/d/sub/c", "/e"]);
    }
    assert_eq!(paths(&[&lower, &[Item::file(".wh..wh..opq", "")]]), Vec::<String>::new());
}

#[test]
fn whiteouts_of_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", ".wh.d/file"] {
        let error = merge(&[&[Item::file(name, "")]]).unwrap_err();
        assert!(matches!(error, Error::BadEntry { .. }), "{name}: {error:?}");
    }
}

#[test]
fn directories_and_files_replace_each_other() {
    let lower = [Item::file("a/below", ""), Item::file("b", ""), Item::symlink("c", "a")];
    let upper = [Item::file("a", ""), Item::directory("b"), Item::directory("c")];
    let listing = list(&merge(&[&lower, &upper]).unwrap());
    let kinds: Vec<char> = listing.values().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, ['d', 'f', 'd', 'd']);
}

#[test]
fn an_entry_for_a_directory_changes_it_and_keeps_its_content() {
    let tree = merge(&[
        &[Item::directory("d").mode(0o700).owner(1, 1).xattr("user.old", "x"), Item::file("d/f", "")],
        &[Item::directory("d").mode(0o1777).owner(2, 2).mtime(-5, 7)],
    ])
    .unwrap();
    let node = tree.node(tree.find(&[b"d"]).unwrap());
    assert_eq!((node.attributes.mode, node.attributes.uid), (0o1777, 2));
    assert_eq!((node.attributes.mtime, node.attributes.mtime_nanos), (-5, 7));
    assert!(tree.xattrs(node).is_empty());
    assert!(tree.find(&[b"d", b"f"]).is_some());
}

#[test]
fn implied_parents_belong_to_root_with_mode_0755_and_the_root_takes_its_own_entry() {
    let tree = merge(&[&[Item::file("a/b/f", ""), Item::directory("./").mode(0o700).owner(5, 6)]]).unwrap();
    let parent = &tree.node(tree.find(&[b"a", b"b"]).unwrap()).attributes;
    assert_eq!((parent.mode, parent.uid, parent.gid, parent.mtime), (0o755, 0, 0, 0));
    let root = &tree.node(NodeId::ROOT).attributes;
    assert_eq!((root.mode, root.uid, root.gid), (0o700, 5, 6));
    assert!(merge(&[&[Item::file("/", "")]]).is_err());
}

#[test]
fn a_symbolic_link_is_never_followed_to_place_a_file() {
    let escape = [Item::symlink("out", "/etc"), Item::file("out/passwd", "")];
    for layers in [&[&escape[..]][..], &[&escape[..1], &escape[1..]]] {
        let tree = merge(layers).unwrap();
        assert!(tree.find(&[b"etc"]).is_none());
        assert!(tree.find(&[b"out", b"passwd"]).is_some());
    }
}

#[test]
fn hard_links_share_a_file_across_layers_and_survive_its_first_name() {
    let tree = merge(&[
        &[Item::file("a", "data"), Item::hard_link("b", "./a")],
        &[Item::hard_link("c", "/b"), Item::file(".wh.a", "")],
    ])
    .unwrap();
    assert_eq!(tree.find(&[b"b"]), tree.find(&[b"c"]));
    assert_eq!(tree.find(&[b"a"]), None);
    assert_eq!((tree.summary().files, tree.summary().hard_links), (1, 1));
}

#[test]
fn a_hard_link_may_stand_before_its_target() {
    let chain = [Item::hard_link("a", "b"), Item::hard_link("b", "d/c"), Item::file("d/c", "data")];
    let tree = merge(&[&chain]).unwrap();
    assert_eq!(tree.find(&[b"a"]), tree.find(&[b"d", b"c"]));
    assert_eq!(tree.summary().hard_links, 2);
}

#[test]
fn a_later_entry_replaces_a_link_that_still_waits_for_its_target() {
    let layer = [Item::hard_link("a", "b"), Item::file("a", "").owner(1, 1), Item::file("b", "").owner(2, 2)];
    let tree = merge(&[&layer]).unwrap();
    assert_eq!(tree.node(tree.find(&[b"a"]).unwrap()).attributes.uid, 1);
}

#[test]
fn hard_links_to_directories_to_nothing_to_themselves_and_out_of_the_image_are_refused() {
    let refused: [&[Item]; 7] = [
        &[Item::directory("d"), Item::hard_link("l", "d")],
        &[Item::hard_link("l", "d"), Item::directory("d")],
        &[Item::hard_link("l", "missing")],
        &[Item::hard_link("l", "l")],
        &[Item::hard_link("a", "b"), Item::hard_link("b", "c"), Item::hard_link("c", "a")],
        &[Item::hard_link("l", "../../etc/shadow")],
        &[Item::hard_link("l", "/")],
    ];
    for layer in refused {
        let error = merge(&[layer]).unwrap_err();
        assert!(matches!(error, Error::BadLink { .. }), "{error:?}");
    }
}

#[test]
fn a_hard_link_through_a_symbolic_link_is_refused() {
    let layer = [Item::file("d/f", ""), Item::symlink("s", "d"), Item::hard_link("l", "s/f")];
    assert!(matches!(merge(&[&layer]), Err(Error::BadLink { .. })));
}

#[test]
fn a_hundred_thousand_links_in_a_chain_are_resolved_in_one_pass() {
    const LINKS: u32 = 100_000;
    let mut writer = TarWriter::default();
    for link in 0..LINKS {
        writer.item(&Item::hard_link(link.to_string(), (link + 1).to_string()));
    }
    writer.item(&Item::file(LINKS.to_string(), ""));
    let mut tree = Tree::new(Limits::default());
    tree.apply(&file_of(&writer.finish())).unwrap();
    assert_eq!(tree.summary().hard_links, u64::from(LINKS));
}

#[test]
fn the_last_of_duplicate_entries_wins() {
    let layer = [Item::file("f", "old").owner(1, 1), Item::hard_link("g", "f"), Item::file("./f", "new").owner(2, 2)];
    let listing = list(&merge(&[&layer]).unwrap());
    assert_eq!(listing["/f"], ('f', 2, 1));
    assert_eq!(listing["/g"], ('f', 1, 1));
}

#[test]
fn only_attributes_a_linux_filesystem_can_hold_are_kept() {
    let kept = ["user.a", "trusted.b", "security.capability", "system.posix_acl_access"];
    let dropped = ["com.apple.quarantine", "system.other", "user.", "trusted.overlay.opaque", "user.overlay.redirect"];
    let file = kept.iter().chain(&dropped).fold(Item::file("f", ""), |item, name| item.xattr(name, "value"));
    let tree = merge(&[&[file]]).unwrap();
    let names: BTreeSet<_> = tree.xattrs(tree.node(tree.find(&[b"f"]).unwrap())).keys().cloned().collect();
    assert_eq!(names, kept.iter().map(|name| name.as_bytes().to_vec()).collect());
    assert_eq!(tree.summary().dropped_xattrs, dropped.len() as u64);
}

#[test]
fn limits_are_named_with_their_value_and_what_was_found() {
    let small = Limits {
        total_bytes: 1000,
        entries: 3,
        metadata_bytes: 2000,
        path_bytes: 200,
        path_depth: 2,
        xattr_bytes: 100,
        ..Limits::default()
    };
    let claim = [pax_record(b"GNU.sparse.size", b"1000001"), pax_record(b"GNU.sparse.map", b"0,0")].concat();
    let mut sparse = TarWriter::default();
    sparse.pax(&claim);
    sparse.item(&Item::file("f", ""));
    let layers = [
        ("total_bytes", "1000001", sparse.finish()),
        ("total_bytes", "1200", TarWriter::of(&[Item::file("f", [1; 600]), Item::file("f", [1; 600])])),
        (
            "entries",
            "4",
            TarWriter::of(&[Item::file("f", ""), Item::file("f", ""), Item::file("f", ""), Item::file("f", "")]),
        ),
        ("entries", "4", TarWriter::of(&[Item::file("a/1", ""), Item::file("b/1", "")])),
        (
            "metadata_bytes",
            "2039",
            TarWriter::of(&[Item::symlink("f", "t".repeat(1019)), Item::symlink("f", "t".repeat(1019))]),
        ),
        ("path_bytes", "201", TarWriter::of(&[Item::file("f".repeat(201), "")])),
        ("path_depth", "3", TarWriter::of(&[Item::file("a/b/c", "")])),
        ("xattr_bytes", "106", TarWriter::of(&[Item::file("f", "").xattr("user.a", [0; 100])])),
        ("name length", "256", TarWriter::of(&[Item::file("n".repeat(256), "")])),
        ("symbolic link target length", "4096", TarWriter::of(&[Item::symlink("f", "t".repeat(4096))])),
    ];
    for (name, found, layer) in layers {
        let limits = if name.contains(' ') { Limits::default() } else { small.clone() };
        let error = Tree::new(limits).apply(&file_of(&layer)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("`{name}`")) && text.ends_with(&format!("it has {found}")), "{text}");
    }
}

/// The rules once more, in the plainest way: a map of paths, whiteouts first.
#[derive(Default)]
struct Model {
    entries: BTreeMap<String, (char, u32)>,
    pending: BTreeMap<u32, String>,
}

impl Model {
    fn remove(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        self.entries.retain(|entry, _| !(entry.starts_with(&below) || itself && entry == path));
    }

    fn apply(&mut self, layer: &[(String, Change)], first_id: u32) -> Option<()> {
        for (path, change) in layer {
            let (parent, name) = path.rsplit_once('/')?;
            match change {
                Change::Whiteout => self.remove(&format!("{parent}/{name}"), true),
                Change::Opaque => self.remove(path, false),
                _ => {}
            }
        }
        for (id, (path, change)) in (first_id..).zip(layer) {
            if matches!(change, Change::Whiteout | Change::Opaque) {
                continue;
            }
            for (end, _) in path.match_indices('/').skip(1) {
                let parent = path[..end].to_owned();
                if self.entries.get(&parent).is_none_or(|(kind, _)| *kind != 'd') {
                    self.entries.insert(parent, ('d', 0));
                }
            }
            let new = match change {
                Change::Link(target) => match self.entries.get(target) {
                    Some(('d', _)) => return None,
                    Some(existing) => *existing,
                    None => {
                        self.pending.insert(id, target.clone());
                        ('?', id)
                    }
                },
                Change::Directory => ('d', id),
                Change::Symlink => ('l', id),
                _ => ('f', id),
            };
            if new.0 != 'd' || self.entries.get(path).is_some_and(|(kind, _)| *kind != 'd') {
                self.remove(path, true);
            }
            self.entries.insert(path.clone(), new);
        }
        self.resolve()
    }

    fn resolve(&mut self) -> Option<()> {
        for _ in 0..=self.entries.len() {
            let waiting: Vec<_> = self
                .entries
                .iter()
                .filter(|(_, (kind, _))| *kind == '?')
                .map(|(path, (_, id))| (path.clone(), *id))
                .collect();
            for (path, id) in waiting {
                match self.entries.get(&self.pending[&id])? {
                    ('d', _) => return None,
                    ('?', _) => {}
                    existing => drop(self.entries.insert(path, *existing)),
                }
            }
        }
        self.entries.values().all(|(kind, _)| *kind != '?').then_some(())
    }

    fn list(&self) -> Listing {
        let names = |id: u32| self.entries.values().filter(|(_, other)| *other == id).count() as u32;
        let mut listing: Listing = self
            .entries
            .iter()
            .map(|(path, (kind, id))| (path.clone(), (*kind, *id, if *kind == 'd' { 1 } else { names(*id) })))
            .collect();
        listing.insert(String::new(), ('d', 0, 1));
        listing
    }
}

#[derive(Clone, Debug)]
enum Change {
    File,
    Directory,
    Symlink,
    Link(String),
    Whiteout,
    Opaque,
}

fn change() -> impl Strategy<Value = (String, Change)> {
    let path = "(/[ab]){1,3}";
    let change = prop_oneof![
        4 => Just(Change::File),
        3 => Just(Change::Directory),
        1 => Just(Change::Symlink),
        3 => path.prop_map(Change::Link),
        2 => Just(Change::Whiteout),
        1 => Just(Change::Opaque),
    ];
    (path, change)
}

fn item_of(path: &str, change: &Change, id: u32) -> Item {
    let item = match change {
        Change::File => Item::file(path, ""),
        Change::Directory => Item::directory(path),
        Change::Symlink => Item::symlink(path, "/a"),
        Change::Link(target) => Item::hard_link(path, target),
        Change::Whiteout => {
            let (parent, name) = path.rsplit_once('/').unwrap();
            Item::file(format!("{parent}/.wh.{name}"), "")
        }
        Change::Opaque => Item::file(format!("{path}/.wh..wh..opq"), ""),
    };
    item.owner(id, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_layers_merge_as_the_plainest_reading_of_the_rules_says(
        layers in prop::collection::vec(prop::collection::vec(change(), 0..8), 1..4),
    ) {
        let mut model = Model::default();
        let mut tree = Tree::new(Limits::default());
        let mut first_id = 1;
        for layer in &layers {
            let items: Vec<Item> =
                (first_id..).zip(layer).map(|(id, (path, change))| item_of(path, change, id)).collect();
            let expected = model.apply(layer, first_id);
            let merged = tree.apply(&file_of(&TarWriter::of(&items)));
            prop_assert_eq!(merged.is_ok(), expected.is_some(), "{:?}", merged);
            if expected.is_none() {
                return Ok(());
            }
            first_id += layer.len() as u32;
        }
        prop_assert_eq!(list(&tree), model.list());
    }
}
