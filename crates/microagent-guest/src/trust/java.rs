//! What Java trusts: it reads no bundle and looks at no variable, but at a key store of its own.
//!
//! In the machine's layer each store of the image gets another in its place: the same with ours added where it is of the format that lets
//! one add ([`jks`]), and one of the image's bundle and ours where it is of another.

use super::{has_real_parents, jks, make_parents, pem};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Stores that are shared by every Java of the image, whose own store is a link to it: Debian and Alpine; Fedora and its relatives; SUSE.
const SHARED: [&str; 3] =
    ["etc/ssl/certs/java/cacerts", "etc/pki/ca-trust/extracted/java/cacerts", "var/lib/ca-certificates/java-cacerts"];

/// Where each directory may be a Java: of distributions and most vendors; of Temurin's images; of OpenJDK's; by hand.
const HOMES: [&str; 4] = ["usr/lib/jvm", "opt/java", "usr/local", "opt"];

/// Where a Java has its store; the second place is that of Java 8.
const IN_HOME: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// Largest store that is read: twenty times what browsers trust.
const MAX_STORE: u64 = 4 << 20;

/// Most stores that are replaced.
const MAX_STORES: usize = 16;

/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 512;

/// Replaces the stores of the image at `base` in `layer`. `home` is where the image's environment says that Java is.
pub(super) fn write_layer(
    layer: &Path,
    base: &Path,
    home: Option<&Path>,
    bundle: impl Fn() -> io::Result<Vec<u8>>,
    ours: &[String],
) -> io::Result<()> {
    let ours = pem::certificates(ours.concat().as_bytes());
    for store in stores(base, home) {
        let (original, replaced) = (base.join(&store), layer.join(&store));
        let content = match jks::with(&fs::read(&original)?, &ours) {
            Some(content) => content,
            None => jks::of(&pem::certificates(&bundle()?)),
        };
        make_parents(layer, base, &store)?;
        fs::write(&replaced, content)?;
        fs::set_permissions(&replaced, fs::metadata(&original)?.permissions())?;
    }
    Ok(())
}

/// The stores there are, relative to the image. Links are not followed: one leads to another of them, or to something that is not there.
fn stores(base: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = HOMES.iter().flat_map(|directory| directories(base, directory.as_ref())).collect();
    homes.extend(home.and_then(|home| home.strip_prefix("/").ok()).map(Path::to_owned));
    let shared = SHARED.iter().map(PathBuf::from);
    let all = shared.chain(homes.iter().flat_map(|home| IN_HOME.map(|place| home.join(place))));
    let mut found: Vec<PathBuf> = Vec::new();
    for store in all {
        let is_there = is_plain(&store) && has_real_parents(base, &store) && is_store(&base.join(&store));
        if is_there && !found.contains(&store) && found.len() < MAX_STORES {
            found.push(store);
        }
    }
    found
}

fn directories(base: &Path, directory: &Path) -> Vec<PathBuf> {
    let path = base.join(directory);
    let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
    if !is_directory || !has_real_parents(base, directory) {
        return Vec::new();
    }
    let entries = fs::read_dir(path).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok);
    entries.map(|entry| directory.join(entry.file_name())).collect()
}

/// Whether it leads downwards alone.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn is_store(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MAX_STORE)
}

#[cfg(test)]
mod tests {
    use super::super::jks::tests::read;
    use super::super::pem::tests::certificate;
    use super::super::tests::put;
    use super::*;
    use std::os::unix::fs::symlink;

    const JDK: &str = "usr/lib/jvm/java-17/lib/security/cacerts";

    fn certificates(layer: &Path, store: &str) -> Vec<Vec<u8>> {
        read(&fs::read(layer.join(store)).unwrap()).into_iter().map(|(_, certificate)| certificate).collect()
    }

    #[test]
    fn a_store_that_can_be_added_to_keeps_what_it_has() {
        let (base, layer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((images, _), (ours, pem)) = (certificate(1, 700), certificate(2, 600));
        put(base.path(), SHARED[0], &jks::of(std::slice::from_ref(&images)));
        fs::create_dir_all(base.path().join(JDK).parent().unwrap()).unwrap();
        symlink("/etc/ssl/certs/java/cacerts", base.path().join(JDK)).unwrap();
        write_layer(layer.path(), base.path(), None, || unreachable!("the bundle is not wanted"), &[pem]).unwrap();
        assert_eq!(certificates(layer.path(), SHARED[0]), [images, ours]);
        assert!(!layer.path().join("usr").exists(), "a link goes on to lead to the other");
    }

    #[test]
    fn a_store_of_another_format_becomes_one_of_the_bundle() {
        let (base, layer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((ours, pem), (others, bundle)) = (certificate(1, 700), certificate(2, 600));
        let stores = [JDK, "opt/java/openjdk/jre/lib/security/cacerts", "srv/jdk/lib/security/cacerts"];
        stores.iter().for_each(|store| put(base.path(), store, b"\x30\x82 PKCS12"));
        let bundle = || Ok(format!("{bundle}{pem}").into_bytes());
        let ours_in_pem = [pem.clone()];
        write_layer(layer.path(), base.path(), Some("/srv/jdk".as_ref()), bundle, &ours_in_pem).unwrap();
        for store in stores {
            assert_eq!(certificates(layer.path(), store), [others.clone(), ours.clone()], "{store}");
        }
    }

    #[test]
    fn nothing_is_followed_out_of_the_image_and_nothing_huge_is_read() {
        let (base, layer, other) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(other.path(), "lib/security/cacerts", b"of another");
        fs::create_dir_all(base.path().join("usr/lib/jvm")).unwrap();
        fs::create_dir_all(base.path().join("opt")).unwrap();
        symlink(other.path(), base.path().join("usr/lib/jvm/java-17")).unwrap();
        symlink(other.path().join("lib"), base.path().join("opt/java")).unwrap();
        put(base.path(), "usr/local/jdk/lib/security/cacerts", b"");
        let huge =
            fs::File::options().write(true).open(base.path().join("usr/local/jdk/lib/security/cacerts")).unwrap();
        huge.set_len(MAX_STORE + 1).unwrap();
        let outside = Path::new("/..").join(other.path().strip_prefix("/").unwrap());
        write_layer(layer.path(), base.path(), Some(&outside), || Ok(Vec::new()), &[]).unwrap();
        assert_eq!(fs::read_dir(layer.path()).unwrap().count(), 0);
    }
}
