//! The probe of KVM where KVM works: in a Linux whose processor is emulated together with its virtualisation (AMD SVM).

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{package, run};
use microagent_machine::probe::{KVM_DEADLINE, KvmVerdict, probe_kvm};

/// The lab is up in 5 s on an idle machine; tests run on busy ones.
const LAB_DEADLINE: &str = "240";
/// KVM itself and what it needs, in load order, below `kernel/` in the module tree.
const KVM_MODULES: [&str; 3] = ["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"];

#[test]
fn a_kvm_that_works_is_recognised() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("package");
    run(Command::new("dpkg-deb").arg("-x").arg(package()).arg(&tree));
    let kernel = only_entry(&tree.join("boot"), "vmlinuz-");
    let modules = only_entry(&tree.join("lib/modules"), "").join("kernel");
    let initramfs = pack_lab(work.path(), &modules);
    let output = run(Command::new("timeout")
        .args([LAB_DEADLINE, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,+svm"])
        .args(["-smp", "2", "-m", "1024", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
        .args(["-append", "console=ttyS0 quiet reboot=t panic=-1", "-kernel"])
        .arg(&kernel)
        .arg("-initrd")
        .arg(&initramfs));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "the probe in the lab did not find a KVM that works:\n{said}");
}

#[test]
#[ignore = "run by the test above, inside the lab"]
fn kvm_works_here() {
    let verdict = probe_kvm(KVM_DEADLINE);
    assert!(matches!(verdict, KvmVerdict::Works { api_version: 12, .. }), "{verdict}");
    println!("{verdict}");
    assert!(verdict.require().is_ok());
}

fn only_entry(directory: &Path, prefix: &str) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).unwrap()
}

/// An initramfs with a shell, KVM's modules, and this test program with the libraries it needs.
fn pack_lab(work: &Path, modules: &Path) -> PathBuf {
    let root = work.join("root");
    for directory in ["bin", "dev", "proc", "sys", "modules"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("`busybox-static` is needed by this test");
    for module in KVM_MODULES {
        let name = module.rsplit('/').next().unwrap();
        fs::copy(modules.join(module), root.join("modules").join(name)).unwrap();
    }
    let insert =
        KVM_MODULES.map(|module| format!("/bin/busybox insmod /modules/{}\n", module.rsplit('/').next().unwrap()));
    let program = std::env::current_exe().unwrap();
    run(Command::new("strip").arg("-o").arg(root.join("probe")).arg(&program));
    let libraries = run(Command::new("ldd").arg(&program)).stdout;
    for library in String::from_utf8(libraries).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t sysfs sys /sys\n\
         /bin/busybox mount -t devtmpfs dev /dev\n\
         {}/probe --exact kvm_works_here --include-ignored --nocapture\n\
         /bin/busybox reboot -f\n",
        insert.concat()
    );
    fs::write(root.join("init"), init).unwrap();
    run(Command::new("chmod").arg("755").arg(root.join("init")));
    let archive = work.join("lab.cpio");
    let pack = format!("find . | cpio -o -H newc --quiet > {}", archive.display());
    run(Command::new("sh").args(["-c", &pack]).current_dir(&root));
    archive
}
