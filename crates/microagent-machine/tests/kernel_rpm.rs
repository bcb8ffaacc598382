//! Kernels from rpm packages: one by path, and the one dnf offers, from a repository built here of the real kernel.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{installed, package, run, run_again};
use microagent_machine::kernel::{Feature, KernelStore, Origin, Source, Support};

/// Packages laid out as Fedora has them: the image beside the modules, the modules compressed and in their own package.
const SPEC: &str = r"
Name: kernel
Version: 6.1.0
Release: 56
Summary: the kernel of this test
License: GPL-2.0-only
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _binary_payload w3.zstdio
%description
x
%package core
Summary: image
%description core
x
%package modules-core
Summary: modules
%description modules-core
x
%install
mkdir -p %{buildroot}/lib/modules/%{kernel_release}
cp %{tree}/boot/vmlinuz-* %{buildroot}/lib/modules/%{kernel_release}/vmlinuz
cp -r %{tree}/lib/modules/%{kernel_release}/kernel %{buildroot}/lib/modules/%{kernel_release}/
cp %{tree}/lib/modules/%{kernel_release}/modules.builtin %{buildroot}/lib/modules/%{kernel_release}/
find %{buildroot} -name '*.ko' -exec zstd -q -1 --rm {} +
%files core
/lib/modules/%{kernel_release}/vmlinuz
/lib/modules/%{kernel_release}/modules.builtin
%files modules-core
/lib/modules/%{kernel_release}/kernel
";

/// Builds both packages and returns the folder they lie in.
fn build_packages(work: &Path) -> PathBuf {
    let tree = work.join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(package()).arg(&tree));
    // Enough for a guest; compressing all modules of the kernel would only take longer.
    let keep: Vec<String> = installed().modules.iter().map(|module| module.name.clone()).collect();
    let modules = run(Command::new("find").arg(&tree).args(["-name", "*.ko"])).stdout;
    for module in String::from_utf8(modules).unwrap().lines().map(Path::new) {
        let name = module.file_stem().unwrap().to_str().unwrap().replace('-', "_");
        if !keep.contains(&name) {
            fs::remove_file(module).unwrap();
        }
    }
    let spec = work.join("kernel.spec");
    fs::write(&spec, SPEC).unwrap();
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--target", "x86_64"])
        .args(define("_topdir", work.join("rpmbuild").to_str().unwrap()))
        .args(define("tree", tree.to_str().unwrap()))
        .args(define("kernel_release", &installed().release))
        .arg(&spec));
    work.join("rpmbuild/RPMS/x86_64")
}

#[test]
fn dnf_and_rpm_packages_give_the_same_kernel_as_apt() {
    let work = tempfile::tempdir().unwrap();
    let packages = build_packages(work.path());

    let image = packages.join("kernel-core-6.1.0-56.x86_64.rpm");
    let store = KernelStore::open(&work.path().join("of-the-image-alone"));
    let alone = store.install(&Source::Path(image), &mut |_| {}).unwrap();
    assert_eq!(fs::read(&alone.image).unwrap(), fs::read(installed().image).unwrap());
    assert_eq!(alone.facts.support(Feature::Ext4), Support::Builtin);
    assert_eq!(alone.facts.support(Feature::Erofs), Support::Absent);

    run(Command::new("createrepo_c").arg("--quiet").arg(&packages));
    let repositories = work.path().join("repositories");
    fs::create_dir(&repositories).unwrap();
    let repository = format!("[test]\nname=test\nbaseurl=file://{}\ngpgcheck=0\n", packages.display());
    fs::write(repositories.join("test.repo"), repository).unwrap();
    let tools = work.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let dnf = format!(
        "#!/bin/sh\nexec /usr/bin/dnf --setopt=reposdir={} --setopt=cachedir={} --setopt=logdir={} \"$@\"\n",
        repositories.display(),
        work.path().join("cache").display(),
        work.path().display()
    );
    fs::write(tools.join("dnf"), dnf).unwrap();
    fs::set_permissions(tools.join("dnf"), fs::Permissions::from_mode(0o755)).unwrap();
    let expected = installed().digest;
    let environment = [
        ("TEST_STATE", work.path().as_os_str()),
        ("TEST_EXPECTED", OsStr::new(&expected)),
        ("PATH", tools.as_os_str()),
    ];
    run_again("install_from_dnf", work.path(), &[], &environment);
}

#[test]
#[ignore = "run by the test above, on a `PATH` with nothing but dnf"]
fn install_from_dnf() {
    let work = PathBuf::from(std::env::var_os("TEST_STATE").expect("run by another test"));
    let store = KernelStore::open(&work.join("of-dnf"));
    let kernel = store.install(&Source::Package, &mut |_| {}).unwrap();
    assert_eq!(kernel.digest, std::env::var("TEST_EXPECTED").unwrap());
    let expected = Origin::Package {
        manager: "dnf".to_owned(),
        package: "kernel-core".to_owned(),
        version: "6.1.0-56".to_owned(),
    };
    assert_eq!(kernel.origin, expected);
    assert_eq!(store.install(&Source::Package, &mut |_| {}).unwrap(), kernel);
}
