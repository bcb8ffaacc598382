//! The examples of the contract, as they are printed: every command line of the tour, of the reference of `create` and of the guide to
//! artifacts that needs neither a network nor another platform. Images of public registries are stood in for by small ones of that name.

use crate::host::{BUSYBOX, Host, Ran};
use microagent_testing::{run, tool};
use std::fs;
use std::path::Path;

const UBUNTU: &str = "docker.io/library/ubuntu:24.04";
const OFFICIAL_BUSYBOX: &str = "docker.io/library/busybox:1.36";
const ALPINE: &str = "docker.io/library/alpine:3.20";

/// A host on which the images of the examples are present, and a directory to work in.
struct Tour {
    host: Host,
    here: tempfile::TempDir,
}

impl Tour {
    fn new() -> Tour {
        let host = Host::new();
        for name in [UBUNTU, OFFICIAL_BUSYBOX, ALPINE] {
            host.microagent(["image", "tag", BUSYBOX, name]).expect(0);
        }
        Tour { host, here: tempfile::tempdir().unwrap() }
    }

    /// One line as a user types it, in the directory of the tour.
    #[track_caller]
    fn line(&self, line: &str) -> Ran {
        let words = shell_words::split(line).unwrap();
        let words = words.strip_prefix(&["microagent".to_owned()][..]).unwrap();
        let output = self.host.command(words).current_dir(self.here.path()).output().unwrap();
        Ran::from(output).expect(0)
    }

    fn file(&self, name: &str) -> String {
        self.here.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn the_thirty_second_tour_runs_as_printed() {
    let tour = Tour::new();
    tour.line("microagent doctor");
    let ran = tour.line("microagent run docker.io/library/ubuntu:24.04 uname -a");
    assert!(ran.text().starts_with("Linux "), "{}", ran.text());
    tour.line("microagent run --image docker.io/library/ubuntu:24.04 --exec \"uname -a\"");
    tour.line("microagent create research --image docker.io/library/ubuntu:24.04 --profile medium");
    tour.line("microagent start research");
    let ran = tour.line("microagent connect research --send \"uname -a\"");
    assert!(ran.text().starts_with("Linux research "), "{}", ran.text());
    tour.line("microagent exec research -- sh -c 'echo kept > /root/file'");
    tour.line("microagent halt research");
    tour.line("microagent start research");
    assert_eq!(tour.line("microagent exec research -- cat /root/file").text(), "kept\n");
    let status = tour.line("microagent --json inspect research").json();
    assert_eq!(status["resources"]["memory_mib"], 2048);
    // Nobody can be asked here.
    tour.line("microagent rm research --yes");
    assert_eq!(tour.line("microagent list").text(), "No workspaces.\n");
}

#[test]
fn the_guide_to_artifacts_prints_the_same_lines() {
    let tour = Tour::new();
    tour.line(
        "microagent run --keep --name report-run --image docker.io/library/alpine:3.20 \
         --output report=/workspace/report.txt \
         --exec \"mkdir -p /workspace && echo 'artifact content' > /workspace/report.txt\"",
    );
    let listed = tour.line("microagent artifact report-run").text();
    assert!(listed.contains("report") && listed.contains("/workspace/report.txt"), "{listed}");
    tour.line("microagent artifact get report-run report ./report.txt");
    assert_eq!(fs::read_to_string(tour.file("report.txt")).unwrap(), "artifact content\n");
    tour.line("microagent delete report-run --yes");
    assert_eq!(tour.line("microagent list").text(), "No workspaces.\n");
}

#[test]
fn the_examples_of_create_make_what_they_say() {
    let tour = Tour::new();
    let status = |name: &str| tour.line(&format!("microagent --json status {name}")).json();
    let gone = |name: &str| drop(tour.line(&format!("microagent delete {name} --yes")));

    tour.line("microagent create --name research --image docker.io/library/ubuntu:24.04 --profile medium");
    assert_eq!(status("research")["profile"], "medium");
    gone("research");

    tour.line(
        "microagent create --name research --image docker.io/library/busybox:1.36 \
         --setup \"mkdir -p /workspace\" --setup \"echo ready > /workspace/status\"",
    );
    tour.line("microagent start research");
    assert_eq!(tour.line("microagent exec research -- cat /workspace/status").text(), "ready\n");
    gone("research");

    tour.line(
        "microagent create --name research --image docker.io/library/ubuntu:24.04 --hostname research --shell /bin/bash",
    );
    let made = status("research");
    assert_eq!((made["hostname"].as_str(), made["shell"].as_str()), (Some("research"), Some("/bin/bash")));
    gone("research");

    let made = tour.line("microagent --json create research --image docker.io/library/ubuntu:24.04").json();
    assert_eq!(made["workspace"], "research");
    gone("research");
    assert_eq!(tour.line("microagent list").text(), "No workspaces.\n");
}

#[test]
fn disks_and_bundles_are_where_the_examples_put_them() {
    let tour = Tour::new();
    let disk = tour.file("workspace.ext4");
    run(tool("truncate").args(["-s", "32M", &disk]));
    run(tool("mke2fs").args(["-q", "-t", "ext4", &disk]));
    tour.line(&format!(
        "microagent create --name research --image docker.io/library/ubuntu:24.04 --disk workspace={disk}:/workspace:rw",
    ));
    tour.line("microagent start research");
    tour.line("microagent exec research -- sh -c 'echo on the disk > /workspace/file'");
    tour.line("microagent delete research --yes");
    run(tool("e2fsck").args(["-fn", &disk]));
    assert_eq!(run(tool("debugfs").args(["-R", "cat /file", &disk])), b"on the disk\n");

    let bundle = tour.file("config.tar");
    fs::write(tour.file("app.conf"), "configured\n").unwrap();
    run(tool("tar").args(["-C", tour.here.path().to_str().unwrap(), "-cf", &bundle, "app.conf"]));
    tour.line(&format!(
        "microagent create --name research --image docker.io/library/ubuntu:24.04 --bundle config={bundle}:/config:ro",
    ));
    tour.line("microagent start research");
    assert_eq!(tour.line("microagent exec research -- cat /config/app.conf").text(), "configured\n");
    let written = tour.host.microagent(["exec", "research", "--", "touch", "/config/new"]);
    assert_ne!(written.status, 0);
    tour.line("microagent delete research --yes");
}

#[test]
fn a_workspace_is_made_of_a_file_of_a_request_and_of_a_root_file_system() {
    let tour = Tour::new();
    let disk = tour.file("workspace.ext4");
    run(tool("truncate").args(["-s", "32M", &disk]));
    run(tool("mke2fs").args(["-q", "-t", "ext4", &disk]));
    // The specification of the reference, without its network.
    let specification = format!(
        "name: research\nimage: {UBUNTU}\nprofile: medium\nrestart: on-failure\nentrypoint: /app/start.sh\n\
         shell: /bin/bash\nhostname: research\nsetup:\n  - mkdir -p /app /workspace\n  - echo ready > /workspace/status\n\
         \x20 - printf '#!/bin/sh\\nsleep 1000\\n' > /app/start.sh && chmod +x /app/start.sh\n\
         env:\n  MICROAGENT_NAME: research\nresources:\n  memoryMiB: 1024\n  cpuCount: 2\n  sizeMiB: 2048\n\
         disks:\n  - name: workspace\n    path: {disk}\n    mountpoint: /workspace\n    mode: rw\n"
    );
    fs::write(tour.file("microagent.yaml"), &specification).unwrap();
    for line in ["microagent create --file microagent.yaml", "microagent create"] {
        tour.line(line);
        let made = tour.line("microagent --json status research").json();
        assert_eq!(made["resources"]["memory_mib"], 1024, "{line}");
        tour.line("microagent start research");
        let ran = tour.line("microagent exec research -- sh -c 'cat /workspace/status; echo $MICROAGENT_NAME'");
        assert_eq!(ran.text(), "ready\nresearch\n");
        tour.line("microagent delete research --yes");
    }
    fs::remove_file(tour.file("microagent.yaml")).unwrap();

    fs::write(tour.file("request.json"), format!(r#"{{"id": "asked", "image": "{UBUNTU}"}}"#)).unwrap();
    tour.line("microagent create --json request.json");
    tour.line("microagent delete asked --yes");

    let kernel = kernel(&tour.host);
    let rootfs = tour.file("rootfs.ext4");
    tour.line(&format!("microagent rootfs build --image {BUSYBOX} --allow-mutable --out {rootfs}"));
    let low = format!("--id agent-1 --role workload --kernel {kernel} --rootfs {rootfs}");
    let plan = tour.line(&format!("microagent create --dry-run {low}")).text();
    assert!(plan.contains("agent-1"), "{plan}");
    tour.line(&format!("microagent create {low}"));
    tour.line("microagent start agent-1");
    tour.line("microagent exec agent-1 -- sh -c 'echo written > /file'");
    assert_eq!(tour.line("microagent --json status agent-1").json()["role"], "workload");
    tour.line("microagent delete agent-1 --yes");
    // It is the user's, and was only read.
    run(tool("e2fsck").args(["-fn", &rootfs]));
    assert_eq!(tour.line("microagent list").text(), "No workspaces.\n");
}

/// The installed kernel's image.
fn kernel(host: &Host) -> String {
    let listed = host.microagent(["--json", "kernel", "list"]).expect(0).json();
    let found = listed.pointer("/kernels/0/kernel_path");
    let path = found.and_then(|path| path.as_str()).unwrap_or_else(|| panic!("{listed}")).to_owned();
    assert!(Path::new(&path).is_file(), "{path}");
    path
}
