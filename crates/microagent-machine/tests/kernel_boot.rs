//! The initramfs, and that a real kernel boots with it and finds its devices.

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{as_ordinary_user, installed, run, run_again};
use microagent_machine::initramfs::{Initramfs, build};
use microagent_machine::kernel::{Feature, Kernel, KernelStore, Source, Support};
use microagent_machine::probe::measure_tsc_khz;

/// A boot takes 2 s in emulation on an idle machine; tests run on busy ones.
const BOOT_DEADLINE: Duration = Duration::from_mins(3);

#[test]
fn the_archive_holds_agent_console_and_modules_in_a_format_cpio_reads() {
    let work = tempfile::tempdir().unwrap();
    let kernel = installed();
    let path = work.path().join("initramfs.cpio");
    build(b"#!agent", &kernel, &path).unwrap();
    let listed = run(Command::new("cpio").args(["-t", "-v", "--quiet", "-F"]).arg(&path)).stdout;
    let listed = String::from_utf8(listed).unwrap();
    let entry = |name: &str| {
        let found = listed.lines().find(|line| line.ends_with(&format!(" {name}")));
        found.unwrap_or_else(|| panic!("no `{name}` in\n{listed}"))
    };
    assert!(entry("init").starts_with("-rwxr-xr-x   1 root     root            7 Jan  1  1970"), "{}", entry("init"));
    assert!(entry("dev/console").starts_with("crw-------   1 root     root       5,   1"), "{}", entry("dev/console"));
    for directory in ["dev", "mnt", "modules", "proc", "run", "sys"] {
        assert!(entry(directory).starts_with("drwxr-xr-x"), "{}", entry(directory));
    }
    let unpacked = work.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let archive = fs::File::open(&path).unwrap();
    let mut extract = Command::new("cpio");
    extract.args(["-i", "--quiet", "modules*"]).current_dir(&unpacked).stdin(archive);
    run(extract.arg("-d"));
    let list = fs::read_to_string(unpacked.join("modules.list")).unwrap();
    let expected: Vec<String> =
        kernel.modules.iter().map(|module| format!("{} {}.ko", module.stage, module.name)).collect();
    assert_eq!(list.lines().collect::<Vec<_>>(), expected);
    for module in &kernel.modules {
        let copy = unpacked.join("modules").join(format!("{}.ko", module.name));
        assert_eq!(fs::read(copy).unwrap(), fs::read(&module.path).unwrap(), "{}", module.name);
    }
}

#[test]
fn one_agent_and_kernel_give_one_archive_built_once() {
    let work = tempfile::tempdir().unwrap();
    let kernel = installed();
    let cache = work.path().join("cache");
    let first = Initramfs::ensure(&cache, b"agent", "digest-1", &kernel).unwrap();
    let other = Initramfs::ensure(&cache, b"agent", "digest-2", &kernel).unwrap();
    assert_ne!(first.key, other.key);
    assert_eq!(fs::read(&first.path).unwrap(), fs::read(&other.path).unwrap());

    // If it were built again, it would be whole again.
    fs::write(&first.path, "marked").unwrap();
    assert_eq!(Initramfs::ensure(&cache, b"agent", "digest-1", &kernel).unwrap(), first);
    assert_eq!(fs::read(&first.path).unwrap(), b"marked");

    fs::write(cache.join(".interrupted"), "12345").unwrap();
    assert_eq!(Initramfs::prune(&cache, &[&other.key]).unwrap(), 6 + 5);
    let left: Vec<PathBuf> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [other.path]);
}

#[test]
fn a_kernel_boots_with_its_initramfs_and_drives_every_device() {
    let work = tempfile::tempdir().unwrap();
    boot(&installed(), &compile_init(work.path()), work.path());
}

#[test]
fn an_ordinary_user_installs_a_kernel_and_boots_it() {
    let work = tempfile::tempdir().unwrap();
    compile_init(work.path());
    fs::copy(common::package(), work.path().join("kernel.deb")).unwrap();
    let wrap = as_ordinary_user(work.path());
    let environment = [("TEST_STATE", work.path().as_os_str()), ("TMPwork.path()", work.path().as_os_str())];
    run_again("install_and_boot_as_this_user", work.path(), wrap, &environment);
}

#[test]
#[ignore = "run by the test above, as another user"]
fn install_and_boot_as_this_user() {
    let work = PathBuf::from(std::env::var_os("TEST_STATE").expect("run by another test"));
    let store = KernelStore::open(&work.join("kernels"));
    let kernel = store.install(&Source::Path(work.join("kernel.deb")), &mut |_| {}).unwrap();
    boot(&kernel, &work.join("init"), &work);
}

/// Builds the static `/init` of these tests in `work`.
fn compile_init(work: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
    let init = work.join("init");
    let flags = ["--edition=2024", "-Copt-level=1", "-Cpanic=abort", "-Ctarget-feature=+crt-static", "-o"];
    run(Command::new("rustc").args(flags).arg(&init).arg(source));
    init
}

/// Boots `kernel` with `init` in an emulated machine with one device of each kind, and checks what it says.
fn boot(kernel: &Kernel, init: &Path, work: &Path) {
    let initramfs = Initramfs::ensure(&work.join("initramfs"), &fs::read(init).unwrap(), "test", kernel).unwrap();
    let disk = work.join("disk.raw");
    fs::write(&disk, [0; 4096]).unwrap();
    let said = run_machine(kernel, &initramfs.path, &disk);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let expect = |line: &str| assert!(lines.contains(&line), "no `{line}` in\n{said}");
    for module in &kernel.modules {
        expect(&format!("module {} {}.ko 0", module.stage, module.name));
    }
    for driver in ["virtio_blk", "virtio_net", "virtio_console", "virtio_rng"] {
        expect(&format!("device {driver}"));
    }
    for (feature, name) in [(Feature::Erofs, "erofs"), (Feature::Overlay, "overlay"), (Feature::Ext4, "ext4")] {
        assert!(matches!(kernel.facts.support(feature), Support::Builtin | Support::Module));
        expect(&format!("filesystem {name}"));
    }
    expect("disk vda");
    expect("finished");
}

/// What the guest prints until it ends.
fn run_machine(kernel: &Kernel, initramfs: &Path, disk: &Path) -> String {
    let tsc = measure_tsc_khz().map(|khz| format!("tsc_early_khz={khz}")).unwrap_or_default();
    let command_line = format!("console=ttyS0 quiet reboot=t panic=-1 no_timer_check {tsc}");
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-M", "microvm,acpi=on", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot", "-serial", "stdio", "-append", &command_line])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-device", "virtio-serial-device", "-device", "virtio-rng-device"])
        .args(["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-device,netdev=net"])
        .args(["-device", "virtio-blk-device,drive=disk", "-drive"])
        .arg(format!("id=disk,if=none,format=raw,file={}", disk.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`qemu-system-x86_64` is needed by this test");
    let mut console = machine.stdout.take().unwrap();
    let (sender, said) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        console.read_to_end(&mut text).unwrap();
        let _ = sender.send(());
        String::from_utf8_lossy(&text).into_owned()
    });
    let in_time = said.recv_timeout(BOOT_DEADLINE).is_ok();
    if !in_time {
        machine.kill().unwrap();
    }
    machine.wait().unwrap();
    let text = reader.join().unwrap();
    assert!(in_time, "the machine did not end in {} s; it said\n{text}", BOOT_DEADLINE.as_secs());
    text
}
