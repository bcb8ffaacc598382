//! Installing real kernels from every source, and what happens when the source is bad.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use common::{as_ordinary_user, installed, package, run, run_again};
use microagent_machine::kernel::{
    Error, Feature, ImageFormat, Kernel, KernelStore, Origin, Progress, Source, Stage, Support,
};
use microagent_protocol::Fault;

fn store(directory: &Path) -> KernelStore {
    KernelStore::open(&directory.join("kernels"))
}

fn install(directory: &Path, source: &Source) -> Result<Kernel, Error> {
    store(directory).install(source, &mut |_| {})
}

fn install_path(directory: &Path, path: &Path) -> Result<Kernel, Error> {
    install(directory, &Source::Path(path.to_owned()))
}

/// The package unpacked by the distribution's own tool.
fn unpacked(directory: &Path) -> PathBuf {
    let into = directory.join("package");
    run(Command::new("dpkg-deb").arg("-x").arg(package()).arg(&into));
    into
}

fn vmlinuz(unpacked: &Path) -> PathBuf {
    let boot = unpacked.join("boot");
    fs::read_dir(boot)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("vmlinuz-"))
        .unwrap()
}

fn leftovers(directory: &Path) -> Vec<String> {
    fs::read_dir(store(directory).directory())
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default()
}

#[test]
fn a_distribution_package_gives_an_elf_and_every_module_a_guest_needs() {
    let kernel = installed();
    assert_eq!(kernel.format, ImageFormat::Elf);
    assert_eq!(kernel.image.file_name().unwrap(), "vmlinux");
    assert!(fs::read(&kernel.image).unwrap().starts_with(b"\x7fELF"));
    assert!(kernel.facts.pvh, "QEMU needs the PVH note to boot an ELF");
    for feature in Feature::ALL {
        let support = kernel.facts.support(feature);
        assert!(matches!(support, Support::Module | Support::Builtin), "{feature:?} is {support:?}");
        let kept = kernel.modules.iter().any(|module| module.name == feature.module());
        assert_eq!(kept, support == Support::Module, "{feature:?}");
    }
}

#[test]
fn modules_are_listed_after_what_they_depend_on_and_by_stage() {
    let kernel = installed();
    let position = |name: &str| {
        let found = kernel.modules.iter().position(|module| module.name == name);
        found.unwrap_or_else(|| panic!("{name} is not among the modules"))
    };
    assert!(kernel.modules.is_sorted_by_key(|module| module.stage));
    for (at, module) in kernel.modules.iter().enumerate() {
        let output = run(Command::new("readelf").args(["-p", ".modinfo"]).arg(&module.path));
        let info = String::from_utf8(output.stdout).unwrap();
        let depends = info.lines().find_map(|line| line.split_once("depends=")).expect("every module says").1;
        for dependency in depends.trim().split(',').filter(|name| !name.is_empty()) {
            assert!(position(dependency) < at, "{dependency} has to come before {}", module.name);
            assert!(
                [Stage::Boot, module.stage].contains(&kernel.modules[position(dependency)].stage),
                "{} can be loaded without the stage of {dependency}",
                module.name
            );
        }
    }
}

#[test]
fn the_image_is_what_the_reference_tool_extracts() {
    let work = tempfile::tempdir().unwrap();
    let kernel = installed();
    let image = fs::read(vmlinuz(&unpacked(work.path()))).unwrap();
    let start = image.windows(4).position(|window| window == b"\x02\x21\x4c\x18").expect("an lz4 payload");
    let payload = work.path().join("payload.lz4");
    fs::write(&payload, &image[start..]).unwrap();
    // lz4 complains of what follows the payload, after having written it.
    let output = Command::new("lz4").args(["-dc"]).arg(&payload).output().expect("`lz4` is needed by this test");
    let ours = fs::read(&kernel.image).unwrap();
    assert!(!ours.is_empty() && output.stdout.starts_with(&ours), "{} and {}", output.stdout.len(), ours.len());
}

#[test]
fn every_form_of_one_kernel_installs_as_the_same_kernel() {
    let work = tempfile::tempdir().unwrap();
    let reference = installed();
    let tree = unpacked(work.path());
    let image = vmlinuz(&tree);
    let apart = work.path().join("apart");
    fs::create_dir(&apart).unwrap();
    fs::copy(&reference.image, apart.join("vmlinux")).unwrap();
    let modules = fs::read_dir(tree.join("lib/modules")).unwrap().next().unwrap().unwrap().path();
    std::os::unix::fs::symlink(&modules, apart.join("modules")).unwrap();
    for (form, path) in [("directory", &tree), ("vmlinuz", &image), ("vmlinux beside modules", &apart)] {
        let state = tempfile::tempdir().unwrap();
        let kernel = install_path(state.path(), path).unwrap();
        assert_eq!(kernel.digest, reference.digest, "{form}");
        assert_eq!(kernel.facts, reference.facts, "{form}");
    }
}

#[test]
fn compressed_modules_install_as_the_same_kernel() {
    let work = tempfile::tempdir().unwrap();
    let reference = installed();
    for (tool, arguments) in [("xz", ["--check=crc32"].as_slice()), ("zstd", &["-q", "--rm"]), ("gzip", &[])] {
        let apart = tempfile::tempdir_in(work.path()).unwrap();
        let modules = apart.path().join("modules");
        fs::create_dir(&modules).unwrap();
        fs::copy(&reference.image, apart.path().join("vmlinux")).unwrap();
        let beside = reference.image.with_file_name("modules").join("modules.builtin");
        fs::copy(beside, modules.join("modules.builtin")).unwrap();
        for module in &reference.modules {
            let copy = modules.join(module.path.file_name().unwrap());
            fs::copy(&module.path, &copy).unwrap();
            run(Command::new(tool).args(arguments).arg(&copy));
            assert!(!copy.exists());
        }
        let state = tempfile::tempdir().unwrap();
        let kernel = install_path(state.path(), apart.path()).unwrap();
        assert_eq!(kernel.digest, reference.digest, "{tool}");
    }
}

/// A boot image whose payload is `elf` compressed by `tool`, laid out as the x86 boot protocol says.
fn boot_image(elf: &Path, tool: &str, arguments: &[&str]) -> Vec<u8> {
    let mut payload = run(Command::new(tool).args(arguments).arg("-c").arg(elf)).stdout;
    if tool != "gzip" {
        payload.extend(u32::try_from(fs::metadata(elf).unwrap().len()).unwrap().to_le_bytes());
    }
    let mut image = vec![0; 1024 + 0x100];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x30a].copy_from_slice(b"6.9.9-test");
    image[0x248..0x24c].copy_from_slice(&0x100_u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend(payload);
    image
}

#[test]
fn every_compression_linux_can_use_for_itself_is_read_or_kept() {
    let work = tempfile::tempdir().unwrap();
    // The headers of the real image and enough of its code to compress; whole, it would only take longer.
    let mut elf = fs::read(installed().image).unwrap();
    elf.truncate(4 << 20);
    elf.extend(b"Linux version 6.9.9-test (someone)");
    let vmlinux = work.path().join("vmlinux");
    fs::write(&vmlinux, &elf).unwrap();
    for (tool, arguments) in [
        ("gzip", ["-1"].as_slice()),
        ("xz", &["-0", "--check=crc32", "--x86", "--lzma2=preset=0"]),
        ("xz", &["-0", "--format=lzma"]),
        ("zstd", &["-1", "-q"]),
        ("lz4", &["-1", "-l", "-q"]),
    ] {
        let image = work.path().join(tool);
        fs::write(&image, boot_image(&vmlinux, tool, arguments)).unwrap();
        let state = tempfile::tempdir().unwrap();
        let kernel = store(state.path()).resolve(&image).unwrap();
        assert_eq!(kernel.format, ImageFormat::Elf, "{tool} {arguments:?}");
        assert!(fs::read(&kernel.image).unwrap() == elf, "{tool} {arguments:?}");
    }
    let image = work.path().join("bzip2");
    fs::write(&image, boot_image(&vmlinux, "bzip2", &["-1"])).unwrap();
    let kernel = install_path(work.path(), &image).unwrap();
    assert_eq!((kernel.format, kernel.release.as_str()), (ImageFormat::BzImage, "6.9.9-test"));
    assert_eq!(fs::read(&kernel.image).unwrap(), fs::read(&image).unwrap());
    assert_eq!(kernel.facts.support(Feature::Erofs), Support::Unknown);
}

#[test]
fn a_damaged_package_is_refused_and_leaves_nothing() {
    let work = tempfile::tempdir().unwrap();
    let whole = fs::read(package()).unwrap();
    let damaged = work.path().join("damaged.deb");
    for length in [9, 60, 100, 1000, 200_000, whole.len() / 2, whole.len() - 1000] {
        fs::write(&damaged, &whole[..length]).unwrap();
        let error = install_path(work.path(), &damaged).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "cut at {length}: {error}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x40;
    fs::write(&damaged, &flipped).unwrap();
    let error = install_path(work.path(), &damaged).unwrap_err();
    assert_eq!(error.code(), "kernel_damaged", "{error}");
    assert_eq!(leftovers(work.path()), [".lock"]);
}

#[test]
fn a_hostile_package_writes_nothing_outside() {
    let work = tempfile::tempdir().unwrap();
    let escape = work.path().join("escaped");
    let data = work.path().join("data.tar");
    let script = format!(
        "import tarfile, io\n\
         t = tarfile.open({data:?}, 'w')\n\
         def add(name, **kw):\n\
         \x20   i = tarfile.TarInfo(name); b = b'bad'\n\
         \x20   for k, v in kw.items(): setattr(i, k, v)\n\
         \x20   i.size = 0 if kw else len(b)\n\
         \x20   t.addfile(i, None if kw else io.BytesIO(b))\n\
         add('boot/../../../escaped')\n\
         add('../../escaped')\n\
         add({escape:?})\n\
         add('boot/link', type=tarfile.SYMTYPE, linkname={parent:?})\n\
         add('boot/link/escaped')\n\
         add('lib/modules/6.1', type=tarfile.SYMTYPE, linkname='/')\n\
         add('boot/vmlinuz-6.1', type=tarfile.LNKTYPE, linkname='/etc/passwd')\n\
         t.close()\n",
        parent = work.path(),
    );
    run(Command::new("python3").args(["-c", &script]));
    let deb = work.path().join("hostile.deb");
    fs::write(work.path().join("debian-binary"), "2.0\n").unwrap();
    run(Command::new("ar").arg("rc").arg(&deb).args(["debian-binary", "data.tar"]).current_dir(work.path()));
    let error = install_path(work.path(), &deb).unwrap_err();
    assert!(matches!(error, Error::NotAKernel { .. }), "{error}");
    assert!(!escape.exists());
    assert_eq!(leftovers(work.path()), [".lock"]);
}

#[test]
fn modules_of_another_release_are_refused_by_name() {
    let work = tempfile::tempdir().unwrap();
    let reference = installed();
    let mut elf = fs::read(&reference.image).unwrap();
    let banner = b"Linux version 6.";
    let at: Vec<usize> = memchr::memmem::find_iter(&elf, banner).collect();
    for start in at {
        elf[start + banner.len() - 2] = b'7';
    }
    fs::write(work.path().join("vmlinux"), elf).unwrap();
    std::os::unix::fs::symlink(reference.image.with_file_name("modules"), work.path().join("modules")).unwrap();
    let error = install_path(work.path(), work.path()).unwrap_err();
    assert_eq!(error.code(), "kernel_release_mismatch", "{error}");
    assert!(error.to_string().contains("modules/virtio"), "{error}");
}

#[test]
fn a_directory_with_two_kernels_asks_which() {
    let work = tempfile::tempdir().unwrap();
    for name in ["vmlinuz-6.1", "vmlinuz-6.2"] {
        File::create(work.path().join(name)).unwrap();
    }
    let error = install_path(work.path(), work.path()).unwrap_err();
    assert_eq!(error.code(), "kernel_ambiguous", "{error}");
    assert!(error.to_string().contains("vmlinuz-6.1") && error.to_string().contains("vmlinuz-6.2"), "{error}");
}

#[test]
fn what_is_not_a_kernel_is_refused() {
    let work = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("text", b"hello".as_slice()),
        ("empty", b""),
        ("elf32", b"\x7fELF\x01\x01\x01"),
        ("short-elf", b"\x7fELF\x02\x01\x01"),
    ] {
        let path = work.path().join(name);
        fs::write(&path, content).unwrap();
        let error = install_path(work.path(), &path).unwrap_err();
        assert!(["kernel_invalid", "kernel_damaged"].contains(&error.code()), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = install_path(work.path(), Path::new("/bin/true")).unwrap_err();
    assert_eq!(error.code(), "kernel_invalid", "{error}");
}

#[test]
fn concurrent_installs_do_the_work_once() {
    let state = tempfile::tempdir().unwrap();
    let source = Source::Path(package());
    let unpackings: usize = thread::scope(|scope| {
        let installs: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut unpackings = 0;
                    let mut progress = |step| unpackings += usize::from(matches!(step, Progress::Unpacking { .. }));
                    store(state.path()).install(&source, &mut progress).unwrap();
                    unpackings
                })
            })
            .collect();
        installs.into_iter().map(|install| install.join().unwrap()).sum()
    });
    assert_eq!(unpackings, 1);
}

#[test]
fn files_and_folders_are_for_their_owner_alone() {
    let kernel = installed();
    let folder = kernel.image.parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    for file in kernel.modules.iter().map(|module| &module.path).chain([&kernel.image, &folder.join("kernel.json")]) {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
#[ignore = "run by the tests below, as another user or with other apt lists"]
fn install_from_the_package_manager() {
    let state = PathBuf::from(std::env::var_os("TEST_STATE").expect("run by another test"));
    let kernel = install(&state, &Source::Package).unwrap();
    assert_eq!(fs::metadata(&kernel.image).unwrap().uid(), rustix::process::getuid().as_raw());
    assert!(matches!(&kernel.origin, Origin::Package { manager, .. } if manager == "apt"), "{:?}", kernel.origin);
    assert_eq!(kernel.facts.support(Feature::Erofs), Support::Module);
    let mut unpacked = false;
    let again = store(&state)
        .install(&Source::Package, &mut |step| unpacked |= matches!(step, Progress::Unpacking { .. }))
        .unwrap();
    assert_eq!(again, kernel);
    assert!(!unpacked, "a kernel that is the newest already is not installed again");
}

#[test]
fn the_package_manager_serves_an_ordinary_user() {
    let state = tempfile::tempdir().unwrap();
    let wrap = as_ordinary_user(state.path());
    let environment = [("TEST_STATE", state.path().as_os_str()), ("HOME", state.path().as_os_str())];
    run_again("install_from_the_package_manager", state.path(), wrap, &environment);
}

#[test]
fn the_package_manager_serves_where_its_lists_are_missing() {
    let state = tempfile::tempdir().unwrap();
    let lists = state.path().join("no-lists");
    fs::create_dir_all(lists.join("partial")).unwrap();
    let configuration = state.path().join("apt.conf");
    fs::write(&configuration, format!("Dir::State::lists {lists:?};\nDir::Cache {lists:?};\n")).unwrap();
    let environment = [("TEST_STATE", state.path().as_os_str()), ("APT_CONFIG", configuration.as_os_str())];
    run_again("install_from_the_package_manager", state.path(), &[], &environment);
}

#[test]
fn a_host_without_a_package_manager_is_told_what_else_to_pass() {
    let state = tempfile::tempdir().unwrap();
    let environment = [("TEST_STATE", state.path().as_os_str()), ("PATH", state.path().as_os_str())];
    run_again("install_without_a_package_manager", state.path(), &[], &environment);
}

#[test]
#[ignore = "run by the test above, with an empty `PATH`"]
fn install_without_a_package_manager() {
    let state = PathBuf::from(std::env::var_os("TEST_STATE").expect("run by another test"));
    let error = install(&state, &Source::Package).unwrap_err();
    assert_eq!(error.code(), "kernel_no_package_manager");
    let hint = error.hint().unwrap();
    assert!(hint.contains("--from") && hint.contains("--url"), "{hint}");
}
