//! What the tests of kernels share: the real kernel package of this host's distribution, downloaded once.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use microagent_machine::kernel::{Kernel, KernelStore, Source};

/// Where downloads are kept between runs: `MICROAGENT_TEST_CACHE`, else `.cache/kernels` in the repository.
pub(crate) fn cache() -> PathBuf {
    let cache = env::var_os("MICROAGENT_TEST_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/kernels"), PathBuf::from);
    fs::create_dir_all(&cache).unwrap();
    cache.canonicalize().unwrap()
}

/// The kernel package, as the distribution signed it.
pub(crate) fn package() -> PathBuf {
    let packages = cache().join("packages");
    fs::create_dir_all(&packages).unwrap();
    let lock = File::create(packages.join("lock")).unwrap();
    lock.lock().unwrap();
    if let Some(package) = find_package(&packages) {
        return package;
    }
    let work = tempfile::tempdir_in(&packages).unwrap();
    let shown = run(Command::new("apt-cache").args(["show", "--no-all-versions", "linux-image-cloud-amd64"]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    let name = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .and_then(|depends| depends.split([' ', ',']).find(|name| name.starts_with("linux-image-")))
        .expect("the cloud kernel package depends on the current kernel; run `apt-get update` if it is not known");
    run(Command::new("apt-get").args(["-qq", "download", name]).current_dir(work.path()));
    let package = find_package(work.path()).expect("apt-get downloaded a package");
    let kept = packages.join(package.file_name().unwrap());
    fs::rename(package, &kept).unwrap();
    kept
}

fn find_package(directory: &Path) -> Option<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension() == Some(OsStr::new("deb")))
}

/// The kernel of that package, installed once for all tests that only read it.
pub(crate) fn installed() -> Kernel {
    KernelStore::open(&cache()).install(&Source::Path(package()), &mut |_| {}).unwrap()
}

/// Runs a tool tests need; `make test` installs them.
pub(crate) fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("`{name}` is needed by this test: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// This test binary again, to run the one test `name`, which is marked `#[ignore]`, in another process; `wrap` is a
/// command to put before it.
pub(crate) fn again(name: &str, directory: &Path, wrap: &[&str]) -> Command {
    // A copy, because another user may not be able to reach the build directory.
    let program = directory.join("again");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let mut command = match wrap {
        [] => Command::new(&program),
        [wrapper, arguments @ ..] => {
            let mut command = Command::new(wrapper);
            command.args(arguments).arg(&program);
            command
        }
    };
    command.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Runs [`again`] with variables of its own, and checks that it ran exactly that test and passed.
pub(crate) fn run_again(name: &str, directory: &Path, wrap: &[&str], environment: &[(&str, &OsStr)]) {
    let output = run(again(name, directory, wrap).envs(environment.iter().copied()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "the test `{name}` did not run: {text}");
}

/// What to put before a program so that an ordinary user runs it, in `directory`, which becomes that user's.
pub(crate) fn as_ordinary_user(directory: &Path) -> &'static [&'static str] {
    if !rustix::process::getuid().is_root() {
        return &[];
    }
    chown(directory, Some(65534), Some(65534)).unwrap();
    &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
}
