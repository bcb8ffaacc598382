//! The `/init` of the boot test: loads the modules of the initramfs it lies in, says what it found, and powers off.
//!
//! Compiled by the test with plain `rustc`, so it declares the few C functions it needs.

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong};
use std::fs;

const SYS_INIT_MODULE: c_long = 175;
const RB_AUTOBOOT: c_int = 0x0123_4567;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const u8,
    ) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn reboot(command: c_int) -> c_int;
}

fn main() {
    attach(c"proc", c"/proc");
    attach(c"sysfs", c"/sys");
    for line in fs::read_to_string("/modules.list").expect("the initramfs lists its modules").lines() {
        let (stage, file) = line.split_once(' ').expect("a stage and a file");
        let module = fs::read(format!("/modules/{file}")).expect("every listed module is there");
        // SAFETY: the kernel reads the bytes given, and an empty string of options.
        let result = unsafe { syscall(SYS_INIT_MODULE, module.as_ptr(), module.len(), c"".as_ptr()) };
        println!("module {stage} {file} {result}");
    }
    for device in fs::read_dir("/sys/bus/virtio/devices").expect("there is a virtio bus").flatten() {
        let driver = fs::read_link(device.path().join("driver")).ok();
        let driver = driver.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
        println!("device {}", driver.unwrap_or("without-driver"));
    }
    for kind in fs::read_to_string("/proc/filesystems").expect("/proc is mounted").lines() {
        println!("filesystem {}", kind.split('\t').next_back().unwrap_or_default());
    }
    for disk in fs::read_dir("/sys/block").expect("/sys is mounted").flatten() {
        println!("disk {}", disk.file_name().to_string_lossy());
    }
    println!("finished");
    // SAFETY: takes no memory; the machine ends here.
    unsafe { reboot(RB_AUTOBOOT) };
}

fn attach(kind: &CStr, target: &CStr) {
    // SAFETY: every pointer is a terminated string that outlives the call.
    let result = unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    assert_eq!(result, 0, "could not mount {target:?}");
}
