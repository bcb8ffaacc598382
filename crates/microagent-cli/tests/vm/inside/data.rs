//! What a workspace has changed, what is made of that, and how large it may become.

use super::workspace::{Case, NAME, Workspace};
use crate::host::{BUSYBOX, Host};
use microagent_testing::{Registry, run, tool};

#[test]
fn a_workspace_tells_what_it_declares_changes_and_uses() {
    Workspace::start_with(&[
        "--image",
        BUSYBOX,
        "--output",
        "report=/out/report",
        "--output",
        "tree=/out",
        "--output",
        "never=/no/where",
    ])
    .check(CASES);
}

/// The lines of `diff` that are about paths below `path`.
fn diff(box_: &Workspace, path: &str) -> Vec<String> {
    let text = box_.microagent(["diff", NAME]).expect(0).text();
    text.lines().filter(|line| line[2..].starts_with(path)).map(str::to_owned).collect()
}

const CASES: &[Case] = &[
    ("artifacts are listed, there or not", |box_| {
        box_.sh("mkdir -p /out/inner; echo 12345 > /out/report").expect(0);
        let listed = box_.json(&["artifact", "list", NAME]);
        let of = |name: &str| {
            listed["egress"].as_array().unwrap().iter().find(|found| found["name"] == name).unwrap().clone()
        };
        assert_eq!((of("report")["kind"].as_str(), of("report")["size"].as_u64()), (Some("file"), Some(6)));
        assert_eq!(of("tree")["kind"], "directory");
        assert_eq!(of("never").get("kind"), None);
        assert!(box_.microagent(["artifacts", "list", NAME]).expect(0).text().contains("/out/report"));
    }),
    ("an artifact is fetched, a file or a directory", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        for (artifact, found) in [("report", "fetched"), ("tree", "fetched-tree/report")] {
            let target = scratch.path().join(found.split('/').next().unwrap());
            box_.microagent(["artifact", "get", NAME, artifact, target.to_str().unwrap()]).expect(0);
            assert_eq!(std::fs::read_to_string(scratch.path().join(found)).unwrap(), "12345\n");
        }
    }),
    ("an artifact that is not declared, or not there, is an error", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("target");
        for (artifact, named) in [("unknown", "report"), ("never", "/no/where")] {
            let ran = box_.microagent(["artifact", "get", NAME, artifact, target.to_str().unwrap()]).expect(1);
            assert!(ran.stderr.contains(named), "{}", ran.stderr);
        }
        assert!(!target.exists());
    }),
    ("an added, a modified and a deleted file are told apart", |box_| {
        box_.sh("echo new > /added; echo more >> /etc/group; rm /bin/cut").expect(0);
        assert_eq!(diff(box_, "/added"), ["A /added"]);
        assert_eq!(diff(box_, "/etc/group"), ["M /etc/group"]);
        assert_eq!(diff(box_, "/bin/cut"), ["D /bin/cut"]);
    }),
    ("other permissions alone are a modification", |box_| {
        box_.sh("chmod 700 /bin/busybox").expect(0);
        assert_eq!(diff(box_, "/bin/busybox"), ["M /bin/busybox"]);
    }),
    ("a directory that is gone is told once", |box_| {
        box_.sh("rm -rf /home").expect(0);
        assert_eq!(diff(box_, "/home"), ["D /home/"]);
    }),
    ("a directory that was made anew has lost what was in it", |box_| {
        box_.sh("/bin/busybox cp -a /etc /aside; rm -rf /etc; mkdir /etc; echo new > /etc/new").expect(0);
        let found = diff(box_, "/etc/");
        box_.sh("/bin/busybox cp /aside/passwd /aside/group /etc/; rm -rf /aside").expect(0);
        for line in ["D /etc/passwd", "D /etc/group", "A /etc/new"] {
            assert!(found.contains(&line.to_owned()), "{line} is not in {found:?}");
        }
    }),
    ("a file that became a directory is one", |box_| {
        box_.sh("rm /bin/wc; mkdir /bin/wc; echo in > /bin/wc/in").expect(0);
        let found = diff(box_, "/bin/wc");
        assert!(
            found.iter().any(|line| line.ends_with(" /bin/wc/")) && found.contains(&"A /bin/wc/in".to_owned()),
            "{found:?}"
        );
    }),
    ("what was renamed is gone here and added there", |box_| {
        box_.sh("/bin/busybox mv /bin/tail /bin/renamed; mkdir /to; /bin/busybox mv /to /moved-to").expect(0);
        assert_eq!(diff(box_, "/bin/tail"), ["D /bin/tail"]);
        assert_eq!(diff(box_, "/bin/renamed"), ["A /bin/renamed"]);
        assert_eq!((diff(box_, "/to").len(), diff(box_, "/moved-to")), (0, vec!["A /moved-to/".to_owned()]));
    }),
    ("what was added and is gone is no difference", |box_| {
        box_.sh("echo x > /fleeting; rm /fleeting").expect(0);
        assert_eq!(diff(box_, "/fleeting"), Vec::<String>::new());
    }),
    ("names that would do things to a terminal do not", |box_| {
        box_.sh("touch \"$(printf '/esc\\033[31m\\nnext')\"").expect(0);
        let found = diff(box_, "/esc");
        assert_eq!(found.len(), 1);
        assert!(!found[0].contains('\u{1b}'), "{found:?}");
    }),
    ("the machine's own file systems are no changes", |box_| {
        for path in ["/proc", "/sys", "/dev"] {
            let found: Vec<_> = diff(box_, path).into_iter().filter(|line| line.matches('/').count() > 2).collect();
            assert!(found.is_empty(), "{found:?}");
        }
    }),
    ("what it uses is told by host and guest", |box_| {
        let told = box_.json(&["stats", NAME]);
        let number = |path: &str| {
            told.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{path} of {told}"))
        };
        assert!(number("/memory_bytes") > 10 << 20, "{told}");
        let (total, available) = (number("/guest/memory_total"), number("/guest/memory_available"));
        assert!((200 << 20..=256 << 20).contains(&total) && available < total, "{told}");
        let (size, free) = (number("/guest/disk/size_bytes"), number("/guest/disk/free_bytes"));
        assert!((400 << 20..=512 << 20).contains(&size) && free <= size, "{told}");
        assert!(number("/guest/uptime_ns") > 0 && number("/guest/cpu_busy_ns") > 0);
        assert_eq!(number("/pid"), u64::from(crate::lifecycle::machine::engine(&box_.host, NAME)));
        box_.sh("dd if=/dev/zero of=/filled bs=1M count=20 2>/dev/null; sync").expect(0);
        let after = box_.json(&["stats", NAME]);
        assert!(after["guest"]["disk"]["free_bytes"].as_u64().unwrap() + (19 << 20) <= free, "{told} became {after}");
        let (before, now) = (number("/guest/uptime_ns"), after["guest"]["uptime_ns"].as_u64().unwrap());
        assert!(before < now);
    }),
    ("a disk does not change its size under a machine", |box_| {
        let ran = box_.microagent(["resize", NAME, "--size-mib", "1024"]);
        assert_ne!(ran.status, 0);
        assert!(ran.stderr.contains(NAME), "{}", ran.stderr);
    }),
];

#[test]
fn a_disk_at_rest_becomes_larger_and_never_smaller() {
    let workspace = Workspace::start();
    workspace.sh("echo kept > /kept").expect(0);
    workspace.microagent(["halt", NAME]).expect(0);
    let told = workspace.json(&["resize", NAME, "--size-mib", "1024"]);
    assert_eq!((told["from_size_mib"].as_u64(), told["to_size_mib"].as_u64()), (Some(512), Some(1024)));
    let ran = workspace.microagent(["resize", NAME, "--size-mib", "512"]);
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("smaller") || ran.stderr.contains("shrink"), "{}", ran.stderr);
    assert_eq!(workspace.json(&["status", NAME])["resources"]["size_mib"], 1024);
    workspace.microagent(["start", NAME]).expect(0);
    let size = workspace.json(&["stats", NAME])["guest"]["disk"]["size_bytes"].as_u64().unwrap();
    assert!(size > 900 << 20, "{size}");
    assert_eq!(workspace.sh("cat /kept").expect(0).text(), "kept\n");
}

/// Everything a workspace can see of its tree, but for what every machine makes for itself.
const LISTING: &str = "find / -xdev ! -path '/etc/hosts' ! -path '/etc/hostname' ! -path '/etc/resolv.conf' ! -path '/etc/machine-id' \
     -exec /bin/busybox stat -c '%n %F %a %u:%g' {} + | /bin/busybox sort; \
     find / -xdev -type f ! -path '/etc/hosts' ! -path '/etc/hostname' ! -path '/etc/resolv.conf' ! -path '/etc/machine-id' \
     -exec /bin/busybox md5sum {} + | /bin/busybox sort; \
     find / -xdev -type l -exec /bin/busybox readlink {} + | /bin/busybox sort";

#[test]
fn an_image_of_a_workspace_is_the_workspace_here_and_elsewhere() {
    let workspace = Workspace::start();
    let change = "rm -rf /home; rm /bin/cut; /bin/busybox mv /bin/tail /bin/moved; mkdir -p /opt/app/empty; \
        echo data > /opt/app/data; chmod 4750 /opt/app/data; /bin/busybox chown 12:34 /opt/app/data; \
        /bin/busybox ln -s data /opt/app/link; /bin/busybox ln /opt/app/data /opt/app/again; \
        rm -rf /tmp; mkdir /tmp; chmod 1777 /tmp; echo one > /tmp/one; rm /bin/wc; mkdir /bin/wc; chmod 711 /etc/group; \
        /bin/busybox mkfifo /opt/app/pipe; touch \"$(printf '/opt/new\\nline')\"";
    workspace.sh(change).expect(0);
    let listing = LISTING.replace("find /", "/bin/busybox find /");
    let expected = workspace.sh(&listing).expect(0).text();
    let registry = Registry::plain();
    let (running, at_rest) = (registry.reference("team/running:1"), "localhost/at-rest:1");
    workspace.microagent(["commit", NAME, &running]).expect(0);
    workspace.microagent(["halt", NAME]).expect(0);
    workspace.microagent(["commit", NAME, at_rest, "--zstd", "--cmd", "/bin/sh -c 'echo committed'"]).expect(0);
    workspace.microagent(["image", "push", &running]).expect(0);
    let elsewhere = Host::new();
    for (host, image) in [(&workspace.host, at_rest), (&elsewhere, running.as_str())] {
        let seen = host.run_quietly(&[image, "/bin/sh", "-c", &listing]).text();
        let differences: Vec<_> = expected.lines().filter(|line| !seen.lines().any(|other| other == *line)).collect();
        let added: Vec<_> = seen.lines().filter(|line| !expected.lines().any(|other| other == *line)).collect();
        assert!(seen == expected, "{image}: missing {differences:#?}, added {added:#?}");
    }
    assert_eq!(unpacked_by_another_tool(&running, &listing), of_the_image(&expected));
    assert_eq!(workspace.host.run_quietly(&[at_rest]).text(), "committed\n");
}

/// The listing of a tree without what is mounted there while it runs.
fn of_the_image(listing: &str) -> Vec<&str> {
    let mounted = |line: &&str| ["/proc", "/sys", "/dev"].iter().any(|at| line.starts_with(at));
    listing.lines().filter(|line| !mounted(line)).collect()
}

/// What umoci makes of an image in a registry, as its own shell sees it from inside.
fn unpacked_by_another_tool(image: &str, listing: &str) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let (layout, bundle) = (format!("{}:1", scratch.path().join("layout").display()), scratch.path().join("bundle"));
    run(tool("skopeo").args([
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{image}"),
        &format!("oci:{layout}"),
    ]));
    run(tool("umoci").args(["unpack", "--image", &layout]).arg(&bundle));
    let seen = run(tool("chroot").arg(bundle.join("rootfs")).args(["/bin/sh", "-c", listing]));
    of_the_image(&String::from_utf8(seen).unwrap()).into_iter().map(str::to_owned).collect()
}
