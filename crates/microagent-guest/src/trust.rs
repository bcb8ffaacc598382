//! Certificates that programs of the workspace trust beyond those the image does.
//!
//! Every distribution has its bundle of certificates in one file, at one of a few places. In the machine's layer each such file of the
//! image gets another in its place, with ours at its end; and where programs look that have none is told by variables of their environment,
//! which name the bundle in memory. [`java`] has stores of its own.

mod java;
mod jks;
mod pem;

use microagent_protocol::Boot;
use std::fs;
use std::io;
use std::path::Path;

/// Where distributions keep their bundle: Debian and Alpine; Alpine and OpenSSL; Fedora and its relatives, twice; SUSE.
const BUNDLES: [&str; 5] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/ssl/cert.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
];

/// Largest bundle that is read: thirty times what browsers trust.
const MAX_BUNDLE: u64 = 8 << 20;

/// Replaces what the image at `base` trusts in `layer`.
pub(crate) fn write_layer(layer: &Path, base: &Path, boot: &Boot) -> io::Result<()> {
    write_bundles(layer, base, &boot.trust)?;
    let bundle = || bundle(base, &boot.roots, &boot.trust);
    java::write_layer(layer, base, boot.java_home.as_deref().map(Path::new), bundle, &boot.trust)
}

fn write_bundles(layer: &Path, base: &Path, certificates: &[String]) -> io::Result<()> {
    for bundle in BUNDLES.map(Path::new) {
        let (original, ours) = (base.join(bundle), layer.join(bundle));
        // A link leads to another of them, or to something that is not there.
        let Ok(metadata) = fs::symlink_metadata(&original) else { continue };
        if !metadata.is_file() || metadata.len() > MAX_BUNDLE || !has_real_parents(base, bundle) {
            continue;
        }
        let text = with_ours(fs::read(&original)?, certificates);
        make_parents(layer, base, bundle)?;
        fs::write(&ours, text)?;
        fs::set_permissions(&ours, metadata.permissions())?;
    }
    Ok(())
}

/// The bundle of the image at `base`, or `roots` where it has none, and ours.
pub(crate) fn bundle(base: &Path, roots: &str, certificates: &[String]) -> io::Result<Vec<u8>> {
    let is_bundle = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MAX_BUNDLE);
    let found =
        BUNDLES.iter().map(Path::new).filter(|bundle| has_real_parents(base, bundle)).map(|bundle| base.join(bundle));
    let original = found
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file()))
        .find(|path| is_bundle(path))
        .map(fs::read)
        .transpose()?
        .unwrap_or_else(|| roots.as_bytes().to_vec());
    Ok(with_ours(original, certificates))
}

fn with_ours(mut bundle: Vec<u8>, certificates: &[String]) -> Vec<u8> {
    for certificate in certificates {
        if !bundle.is_empty() && !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        bundle.extend_from_slice(certificate.as_bytes());
    }
    bundle
}

/// Whether every directory on the way is one: the layer would hide a link, and a link of the image may lead anywhere.
fn has_real_parents(base: &Path, path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter(|parent| !parent.as_os_str().is_empty())
        .all(|parent| fs::symlink_metadata(base.join(parent)).is_ok_and(|found| found.is_dir()))
}

fn make_parents(layer: &Path, base: &Path, path: &Path) -> io::Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.reverse();
    for parent in parents.into_iter().filter(|parent| !parent.as_os_str().is_empty()) {
        let made = layer.join(parent);
        if !made.exists() {
            fs::create_dir(&made)?;
            crate::layer::copy_owner_and_mode(&base.join(parent), &made)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    pub(super) fn put(directory: &Path, file: &str, content: impl AsRef<[u8]>) {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn ours_comes_after_those_of_the_image() {
        let (base, layer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(base.path(), BUNDLES[0], "images");
        symlink("certs/ca-certificates.crt", base.path().join(BUNDLES[1])).unwrap();
        let ours = ["ours\n".to_owned()];
        write_bundles(layer.path(), base.path(), &ours).unwrap();
        assert_eq!(fs::read_to_string(layer.path().join(BUNDLES[0])).unwrap(), "images\nours\n");
        assert!(!layer.path().join(BUNDLES[1]).exists(), "a link goes on to lead to the other");
        assert_eq!(bundle(base.path(), "hosts", &ours).unwrap(), b"images\nours\n");
    }

    #[test]
    fn a_bundle_behind_a_link_of_the_image_is_left_alone() {
        let (base, layer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(base.path(), "elsewhere/certs/ca-certificates.crt", "images");
        fs::create_dir(base.path().join("etc")).unwrap();
        symlink("/elsewhere", base.path().join("etc/ssl")).unwrap();
        write_bundles(layer.path(), base.path(), &["ours\n".to_owned()]).unwrap();
        assert!(!layer.path().join("etc").exists());
        assert_eq!(bundle(base.path(), "hosts", &["ours\n".to_owned()]).unwrap(), b"hosts\nours\n");
    }
}
