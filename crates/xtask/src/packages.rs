//! The programs of others that demo, tests and lint use: the only list of them, with the reason for each.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::tool;

/// Where Debian's packages of busybox put it.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// A set of packages that one task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// What running a microVM from an image takes, and making the image.
    Demo,
    /// What the tests compare with and test against, and all of the demo.
    Test,
    /// Everything.
    All,
}

/// A package, and how to see that it is there.
#[derive(Debug)]
pub struct Package {
    /// Its name in Debian and its descendants.
    pub apt: &'static str,
    /// Its name in Fedora and its relatives.
    pub dnf: &'static str,
    /// A program it brings: found on `PATH`, it need not be installed, wherever it came from.
    pub program: &'static str,
    /// The smallest task that needs it.
    purpose: Purpose,
    /// What it is used for.
    pub reason: &'static str,
}

const fn package(
    purpose: Purpose,
    apt: &'static str,
    dnf: &'static str,
    program: &'static str,
    reason: &'static str,
) -> Package {
    Package { apt, dnf, program, purpose, reason }
}

use Purpose::{Demo, Test};

/// Every package.
pub const PACKAGES: &[Package] = &[
    package(Demo, "qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86_64", "runs the microVMs"),
    package(Demo, "mmdebstrap", "mmdebstrap", "mmdebstrap", "makes the Debian root filesystem of the demo image"),
    package(Demo, "umoci", "umoci", "umoci", "writes the demo image and most test images"),
    package(Demo, "skopeo", "skopeo", "skopeo", "pushes images to the registry, and packs archives of them"),
    package(Demo, "docker-registry", "docker-distribution", "docker-registry", "is the registry that serves them"),
    package(Demo, "busybox-static", "busybox", "busybox", "is the smallest image, and the shell of the KVM lab"),
    package(Test, "buildah", "buildah", "buildah", "builds the second half of the test images, independently of umoci"),
    package(Test, "podman", "podman", "podman", "is what `xtask bench` measures against"),
    package(Test, "runc", "runc", "runc", "starts podman's containers where control groups are of the old kind"),
    package(Test, "iptables", "iptables-nft", "iptables", "is what netavark sets up that network with"),
    package(Demo, "uidmap", "shadow-utils", "newuidmap", "lets an ordinary user run mmdebstrap, buildah and podman"),
    package(Test, "erofs-utils", "erofs-utils", "fsck.erofs", "checks and unpacks the base images we write"),
    package(Test, "e2fsprogs", "e2fsprogs", "e2fsck", "checks the workspace disks that guests leave behind"),
    package(Test, "apache2-utils", "httpd-tools", "htpasswd", "makes the password file of a registry with logins"),
    package(Test, "attr", "attr", "getfattr", "reads the attributes of trees that images are compared with"),
    package(Test, "cpio", "cpio", "cpio", "reads the initramfs archives we write"),
    package(Test, "openssl", "openssl", "openssl", "makes the certificate authority of a registry with TLS"),
    package(Test, "lz4", "lz4", "lz4", "makes kernels compressed with it, to be unpacked by us"),
    package(Test, "xz-utils", "xz", "xz", "makes kernels compressed with it, to be unpacked by us"),
    package(Test, "zstd", "zstd", "zstd", "makes layers and kernels compressed with it, to be unpacked by us"),
    package(Test, "bzip2", "bzip2", "bzip2", "makes kernels compressed with it, which we do not unpack"),
    package(Test, "binutils", "binutils", "readelf", "reads the kernels we unpack"),
    package(Test, "python3", "python3", "python3", "is the web servers and name servers of tests"),
    package(Test, "iproute2", "iproute", "ip", "makes the network namespaces that gateways are tested in"),
    package(Test, "iputils-ping", "iputils", "ping", "sends echo requests from there"),
    package(Test, "curl", "curl", "curl", "sends web requests from there"),
    package(Test, "nodejs", "nodejs", "node", "sends web requests through the interceptor, by HTTP/1.1 and HTTP/2"),
    package(Test, "tshark", "wireshark-cli", "tshark", "watches the wire while a guest tries to get past its gateway"),
    package(Test, "bind9-dnsutils", "bind-utils", "dig", "asks for names from there"),
    package(Test, "rpm", "rpm-build", "rpmbuild", "makes the kernel package of a distribution with rpm"),
    package(Test, "createrepo-c", "createrepo_c", "createrepo_c", "makes a repository of that package"),
    package(Test, "dnf", "dnf", "dnf", "is the package manager that gets it from there"),
    package(
        Test,
        "dnf-plugins-core",
        "dnf-plugins-core",
        "/usr/libexec/dnf-utils-3",
        "has the download command of dnf",
    ),
];

impl Package {
    /// Whether its program is here.
    pub fn is_installed(&self) -> bool {
        // Busybox has to work in an image that holds nothing else, so one that needs a loader does not do.
        tool::is_installed(self.program) && (self.program != "busybox" || is_static(Path::new(BUSYBOX)))
    }
}

/// Whether the program `path` runs without a loader, whose name would stand right behind the ELF headers.
fn is_static(path: &Path) -> bool {
    let mut headers = [0; 4096];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut headers));
    read.is_ok() && !headers.windows(4).any(|bytes| bytes == b"/ld-")
}

impl Purpose {
    /// The packages it takes.
    pub fn packages(self) -> impl Iterator<Item = &'static Package> {
        PACKAGES.iter().filter(move |package| self != Demo || package.purpose == Demo)
    }
}
