use super::*;
use microagent_protocol::Fault;

/// What a list of flags and values comes to.
fn declare(flags: &[(&str, &str)]) -> Result<Vec<DiskRecord>, Error> {
    let mut disks = Disks::new("/cwd");
    for (flag, value) in flags {
        match *flag {
            "--disk" => disks.add_disk(value)?,
            "--bundle" => disks.add_bundle(value)?,
            _ => disks.add_volume(value)?,
        }
    }
    Ok(disks.into_records())
}

fn one(flag: &str, value: &str) -> DiskRecord {
    declare(&[(flag, value)]).unwrap().remove(0)
}

#[track_caller]
fn refused(flags: &[(&str, &str)]) -> String {
    let error = declare(flags).unwrap_err();
    assert_eq!(error.code(), "option_invalid", "{error}");
    error.to_string()
}

fn disk(path: &str) -> DiskSource {
    DiskSource::Disk { path: path.into() }
}

fn archive(path: &str) -> DiskSource {
    DiskSource::Bundle { source: path.into(), path: None }
}

#[test]
fn examples_of_the_contract_mean_what_they_say() {
    let record = |name: &str, source, mountpoint: &str, mode| DiskRecord {
        name: name.to_owned(),
        source,
        mountpoint: mountpoint.to_owned(),
        mode,
    };
    let (ro, rw) = (MountMode::ReadOnly, MountMode::ReadWrite);
    let cases = [
        (
            "--disk",
            "workspace=/tmp/workspace.ext4:/workspace:rw",
            record("workspace", disk("/tmp/workspace.ext4"), "/workspace", rw),
        ),
        ("--bundle", "config=/tmp/config.tar:/config:ro", record("config", archive("/tmp/config.tar"), "/config", ro)),
        ("-v", "/tmp/config.tar:/config:ro", record("config", archive("/tmp/config.tar"), "/config", ro)),
        ("-v", "/tmp/workspace.ext4:/workspace:rw", record("workspace", disk("/tmp/workspace.ext4"), "/workspace", rw)),
        ("-v", "data:/work", record("data", DiskSource::Volume { name: "data".parse().unwrap() }, "/work", rw)),
    ];
    for (flag, value, expected) in cases {
        assert_eq!(one(flag, value), expected, "{flag} {value}");
    }
}

#[test]
fn a_mode_that_is_not_given_is_the_usual_one() {
    let cases = [
        ("--disk", "d=x.ext4:/m", MountMode::ReadWrite),
        ("--bundle", "d=x.tar:/m", MountMode::ReadOnly),
        ("-v", "x.tar.zst:/m", MountMode::ReadOnly),
        ("-v", "x.img:/m", MountMode::ReadWrite),
        ("-v", "data:/m:ro", MountMode::ReadOnly),
        ("-v", "x.tgz:/m:rw", MountMode::ReadWrite),
    ];
    for (flag, value, mode) in cases {
        assert_eq!(one(flag, value).mode, mode, "{flag} {value}");
    }
}

#[test]
fn paths_may_be_relative_and_hold_colons_and_mount_points_are_normalised() {
    let found = one("--disk", "d=a:b/x.ext4://srv/./data/:rw");
    assert_eq!((found.source, found.mountpoint.as_str()), (disk("/cwd/a:b/x.ext4"), "/srv/data"));
    assert_eq!(one("-v", "./x.tar.gz:/m").source, archive("/cwd/./x.tar.gz"));
    // A device has no ending that could tell it.
    assert_eq!(one("--disk", "d=/dev/vg/data:/m").source, disk("/dev/vg/data"));
}

#[test]
fn what_has_not_the_form_is_told_the_form() {
    for value in ["", "d", "d=", "=x:/m", "d=x", "d=:/m", "d=x:rw", "d=:/m:rw"] {
        let message = refused(&[("--disk", value)]);
        assert_eq!(
            message,
            format!(
                "`--disk` cannot be `{value}`: it has the form `NAME=PATH:MOUNTPOINT`, with `:ro` or `:rw` at the end if need be"
            )
        );
    }
    for value in ["", "data", ":/m", "data:ro"] {
        assert!(refused(&[("-v", value)]).contains("it has the form `SOURCE:MOUNTPOINT`"), "{value}");
    }
    let message = refused(&[("--bundle", "d=x.tar:/m:rx")]);
    assert_eq!(message, "`--bundle` cannot be `d=x.tar:/m:rx`: its mode is `ro` or `rw`");
}

#[test]
fn mount_points_that_cannot_be_are_refused() {
    let cases = [
        ("m", "its mount point is an absolute path in the guest"),
        ("m:ro", "its mount point is an absolute path in the guest"),
        ("/", "`/` is the root of the workspace itself"),
        ("/./:rw", "`/` is the root of the workspace itself"),
        ("/a/../b", "its mount point may not lead upwards with `..`"),
        ("/proc", "`/proc` belongs to the guest's kernel"),
        ("/sys/fs", "`/sys` belongs to the guest's kernel"),
        ("/dev/shm:ro", "`/dev` belongs to the guest's kernel"),
        ("/a\nb", "its mount point is no path that can be"),
    ];
    for (mountpoint, reason) in cases {
        let message = refused(&[("--disk", &format!("d=x.ext4:{mountpoint}"))]);
        assert!(message.ends_with(reason), "{mountpoint}: {message}");
    }
    let long = format!("d=x.ext4:/{}", "m/".repeat(2048));
    assert!(refused(&[("--disk", &long)]).ends_with("its mount point is no path that can be"));
    assert_eq!(one("--disk", "d=x.ext4:/process").mountpoint, "/process");
}

#[test]
fn names_that_are_taken_or_cannot_be_are_refused() {
    for name in ["rootfs", "base"] {
        let message = refused(&[("--disk", &format!("{name}=x.ext4:/m"))]);
        assert!(message.ends_with(&format!("`{name}` is the name of a disk every workspace has")), "{message}");
    }
    for name in ["a/b", "-a", "ä", &"x".repeat(64)] {
        assert!(refused(&[("--disk", &format!("{name}=x.ext4:/m"))]).contains("the name of a disk has"), "{name}");
    }
    assert_eq!(one("--disk", &format!("{}=x.ext4:/m", "x".repeat(63))).name.len(), 63);
    let message = refused(&[("--disk", "d=x.ext4:/m"), ("--bundle", "d=y.tar:/n")]);
    assert_eq!(message, "`--bundle` cannot be `d=y.tar:/n`: there is a disk called `d` already");
    let message = refused(&[("--disk", "d=x.ext4:/m"), ("-v", "data:/m/:ro")]);
    assert_eq!(message, "`--volume` cannot be `data:/m/:ro`: disk `d` is mounted at `/m` already");
    let message = refused(&[("-v", "data:/m"), ("-v", "data:/n")]);
    assert_eq!(message, "`--volume` cannot be `data:/n`: it is mounted at `/m` already");
    assert!(refused(&[("-v", "a b:/m")]).contains("the name of a volume has"));
}

#[test]
fn disks_without_a_name_get_one_that_is_free() {
    let long = "v".repeat(63);
    let flags = [
        ("--disk", "data=x.ext4:/a".to_owned()),
        ("-v", "data:/b".to_owned()),
        ("-v", "/tmp/data.tar.gz:/c".to_owned()),
        ("-v", "/tmp/base.ext4:/d".to_owned()),
        ("-v", "/tmp/-odd name.img:/e".to_owned()),
        ("-v", format!("{long}:/f")),
        ("-v", format!("/tmp/{long}.img:/g")),
    ];
    let flags: Vec<(&str, &str)> = flags.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    let names: Vec<String> = declare(&flags).unwrap().into_iter().map(|disk| disk.name).collect();
    let shortened = format!("{}-2", "v".repeat(48));
    assert_eq!(names, ["data", "data-2", "data-3", "base-2", "disk", &long, &shortened]);
}

#[test]
fn directories_of_the_host_are_refused_with_what_to_do_instead() {
    for value in ["/host/dir:/work", "./src:/src:ro", "~/x:/y", "a/b:/c", ".:/work"] {
        let error = declare(&[("-v", value)]).unwrap_err();
        assert_eq!(error.code(), "unsupported_container_option");
        assert_eq!(
            error.to_string(),
            format!("`--volume {value}` is not supported: directories of the host cannot be mounted in a microVM")
        );
        let hint = error.hint().unwrap();
        assert!(
            ["tar archive", "ext4", "named volume", "microagent cp"].iter().all(|word| hint.contains(word)),
            "{hint}"
        );
    }
}

#[test]
fn a_workspace_has_room_for_so_many_disks() {
    let values: Vec<String> = (0..=MAX_DISKS).map(|number| format!("v{number}:/m{number}")).collect();
    let flags: Vec<(&str, &str)> = values.iter().map(|value| ("-v", value.as_str())).collect();
    assert_eq!(declare(&flags[..MAX_DISKS]).unwrap().len(), MAX_DISKS);
    assert!(refused(&flags).ends_with("a workspace has at most 16 disks besides its own"));
    // The device's serial is what the guest goes by, and holds 20 bytes.
    assert!(DiskRecord::serial(MAX_DISKS - 1).len() <= 20);
}

#[test]
fn disks_of_a_specification_are_checked_alike() {
    let record = DiskRecord {
        name: "data".to_owned(),
        source: disk("data.ext4"),
        mountpoint: "/data/".to_owned(),
        mode: MountMode::ReadOnly,
    };
    let mut disks = Disks::new("/spec");
    disks.add(record.clone()).unwrap();
    assert!(disks.add(record.clone()).is_err());
    let expected = DiskRecord { source: disk("/spec/data.ext4"), mountpoint: "/data".to_owned(), ..record };
    assert_eq!(disks.into_records(), [expected]);
}
