//! What a workspace changed, told and made a layer.

mod common;

use common::{Guest, boot_request};
use microagent_protocol::{Change, ChangeKind, FileKind, Reply, Request};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

fn changes(guest: &Guest) -> Vec<(String, ChangeKind, FileKind, u64)> {
    let lines = guest.download(|output| Request::Changes { output }).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let parse = |line: &str| serde_json::from_str::<Change>(line).unwrap();
    lines.lines().map(parse).map(|change| (change.path, change.change, change.kind, change.size)).collect()
}

fn layer(guest: &Guest) -> Vec<u8> {
    guest.download(|output| Request::PackLayer { output }).unwrap()
}

fn listed(layer: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("layer.tar");
    fs::write(&archive, layer).unwrap();
    common::run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(archive))
}

/// The base image's tree, by the same tool that everybody unpacks layers with.
fn names(listing: &str) -> Vec<&str> {
    listing.lines().filter_map(|line| line.split_whitespace().nth(5)).collect()
}

#[test]
fn a_workspace_nothing_was_done_in_has_changed_nothing() {
    let guest = Guest::boot();
    guest.shell("cat /etc/passwd /etc/hosts >/dev/null; ls -R / >/dev/null 2>&1; true");
    assert_eq!(changes(&guest), []);
    assert_eq!(listed(&layer(&guest)), "");
}

#[test]
fn every_kind_of_change_is_told() {
    let guest = Guest::boot();
    guest.shell(
        "echo new >/new; mkdir -p /dir/sub; echo x >/dir/sub/file; ln -s new /link; mkfifo /pipe; echo more >>/etc/passwd; \
         rm /bin/yes; rm /etc/group; chmod 700 /tmp; rm /bin/not-executable; mkdir /bin/not-executable; echo in >/bin/not-executable/in; \
         echo host >>/etc/hosts; rm /etc/machine-id",
    );
    // Opened for writing and left alone; attributes set to what they were.
    guest.shell("exec 3>>/bin/no-interpreter; chmod 644 /etc/group 2>/dev/null; chown 0:0 /bin; true");
    let (added, modified, deleted) = (ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted);
    let (file, directory, symlink) = (FileKind::File, FileKind::Directory, FileKind::Symlink);
    let expected = [
        ("/bin/not-executable", modified, directory),
        ("/bin/not-executable/in", added, file),
        ("/bin/yes", deleted, symlink),
        ("/dir", added, directory),
        ("/dir/sub", added, directory),
        ("/dir/sub/file", added, file),
        ("/etc/group", deleted, file),
        ("/etc/hosts", modified, file),
        ("/etc/machine-id", deleted, file),
        ("/etc/passwd", modified, file),
        ("/link", added, symlink),
        ("/new", added, file),
        ("/pipe", added, FileKind::Other),
        ("/tmp", modified, directory),
    ];
    let told = changes(&guest);
    let told_kinds: Vec<_> = told.iter().map(|(path, change, kind, _)| (path.as_str(), *change, *kind)).collect();
    assert_eq!(told_kinds, expected);
    assert!(told.iter().any(|(path, .., size)| path == "/new" && *size == 4));

    let listing = listed(&layer(&guest));
    let expected = "bin/ bin/not-executable/ bin/not-executable/in bin/.wh.yes dir/ dir/sub/ dir/sub/file etc/ \
        etc/.wh.group etc/hosts etc/passwd link new pipe tmp/";
    assert_eq!(names(&listing).join(" "), expected, "{listing}");
}

#[test]
fn a_directory_made_anew_hides_the_images() {
    let guest = Guest::boot();
    guest.shell("rm -r /etc; mkdir /etc; echo root:x:0:0::/root: >/etc/passwd; mkdir /etc/sub; echo x >/etc/sub/file");
    let told: BTreeMap<_, _> = changes(&guest).into_iter().map(|(path, change, ..)| (path, change)).collect();
    assert_eq!(told["/etc/passwd"], ChangeKind::Modified);
    assert_eq!(told["/etc/sub"], ChangeKind::Added);
    for gone in ["/etc/group", "/etc/hosts", "/etc/hostname", "/etc/machine-id"] {
        assert_eq!(told[gone], ChangeKind::Deleted, "{gone}");
    }
    let listing = listed(&layer(&guest));
    assert_eq!(names(&listing), ["etc/", "etc/.wh..wh..opq", "etc/passwd", "etc/sub/", "etc/sub/file"], "{listing}");
}

#[test]
fn what_only_looks_the_same_is_a_change() {
    let guest = Guest::boot();
    // The same size and the same time.
    guest.shell("t=$(stat -c %Y /etc/passwd); sed -i s/root:x/root:y/ /etc/passwd; touch -d @$t /etc/passwd");
    let told = changes(&guest);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].1), ("/etc/passwd", ChangeKind::Modified));
}

#[test]
fn a_file_of_the_machine_is_a_change_only_when_it_was_changed_also_after_another_boot() {
    let guest = Guest::boot();
    // Brings an unchanged copy of it up.
    guest.shell("exec 3>>/etc/hosts");
    assert_eq!(changes(&guest), []);
    let directory = guest.shut_down();
    let guest = Guest::greet(directory);
    guest.ask(&Request::Boot(boot_request())).unwrap();
    assert_eq!(changes(&guest), []);
    assert_eq!(names(&listed(&layer(&guest))), ["etc/"]);
}

#[test]
fn a_layer_is_the_same_every_time_and_has_all_attributes() {
    let guest = Guest::boot();
    guest.shell(
        "mkdir -p /a/b; echo x >/a/b/file; ln /a/b/file /a/linked; chown 12:34 /a/b/file; chmod 4711 /a/b/file; \
         mknod /a/null c 1 3; touch -d @981173106 /a/b /a/b/file; cp /bin/busybox /a/large",
    );
    let first = layer(&guest);
    assert!(first == layer(&guest));
    let text = String::from_utf8_lossy(&first);
    assert!(!text.contains("trusted.overlay"), "attributes of overlayfs are in the layer");
    let listing = listed(&first);
    assert!(listing.contains("-rws--x--x 12/34") && listing.contains("a/linked link to a/b/file"), "{listing}");
    assert!(listing.contains("crw") && listing.contains(" 1,3 "), "{listing}");
}

/// The layer over the image, by other people's rules, is the workspace's tree.
#[test]
fn the_layer_unpacked_over_the_image_is_the_workspaces_tree() {
    let guest = Guest::boot();
    let image = guest.pack("/", ".").unwrap();
    guest.shell(
        "echo new >/new; rm /bin/yes; rm -r /tmp; mkdir /tmp; echo t >/tmp/t; mkdir -p /deep/er; echo d >/deep/er/d; \
         chmod 600 /etc/passwd; rm -r /etc/group; ln -s /new /link; ln /new /hard; mv /bin/no-interpreter /moved",
    );
    let changed = layer(&guest);
    let workspace = guest.pack("/", ".").unwrap();

    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| scratch.path().join(name);
    let unpack = |archive: &[u8], to: &str| {
        fs::create_dir_all(path(to)).unwrap();
        fs::write(path("archive"), archive).unwrap();
        common::run(Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(path("archive")).arg("-C").arg(path(to)));
    };
    unpack(&workspace, "expected");
    // umoci makes the image of the base and of our layer, and unpacks it.
    unpack(&image, "base");
    let layout = scratch.path().join("layout");
    let umoci = |arguments: &[&str]| drop(common::run(common::tool("umoci", "umoci").args(arguments)));
    let layout_text = layout.to_str().unwrap();
    let tag = format!("{layout_text}:it");
    umoci(&["init", "--layout", layout_text]);
    umoci(&["new", "--image", &tag]);
    fs::write(path("base.tar"), &image).unwrap();
    fs::write(path("layer.tar"), &changed).unwrap();
    umoci(&["raw", "add-layer", "--image", &tag, path("base.tar").to_str().unwrap()]);
    umoci(&["raw", "add-layer", "--image", &tag, path("layer.tar").to_str().unwrap()]);
    umoci(&["raw", "unpack", "--image", &tag, path("merged").to_str().unwrap()]);
    assert_eq!(describe(&path("merged")), describe(&path("expected")));
}

fn describe(root: &Path) -> String {
    let script = "find . -mindepth 1 ! -path './etc/host*' ! -path ./etc/machine-id ! -path ./etc -printf '%P %y %m %U %G %l\\n' | sort; \
        find . -type f -exec sha256sum {} + | grep -v -e etc/host -e machine-id | sort";
    common::run(Command::new("sh").args(["-c", script]).current_dir(root))
}

#[test]
fn changes_are_told_while_they_are_made() {
    let guest = Guest::boot();
    let mut busy = guest.start(common::shell(
        "mkdir /busy; echo started; while :; do for n in 1 2 3 4 5 6 7 8; do echo $n >/busy/$n; mkdir /busy/d$n; done; rm -r /busy/*; done",
    ));
    busy.stdout.next_chunk().unwrap();
    for _ in 0..30 {
        assert!(changes(&guest).iter().all(|(path, ..)| path.starts_with("/busy")));
        listed(&layer(&guest));
    }
    assert_eq!(guest.ask(&Request::Shutdown), Ok(Reply::Done));
    drop(busy);
}
