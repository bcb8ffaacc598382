//! Reading of kernel images: telling what a file is, cutting the ELF out of a `vmlinuz`, and learning its release.
//!
//! The layout of a `vmlinuz` is the x86 boot protocol (`Documentation/arch/x86/boot.rst` in Linux): a real-mode header
//! at 0x1f1, which says where in the protected-mode part the compressed payload lies. The payload decompresses to an
//! ELF, which boots faster than the wrapper around it: there is nothing left to decompress in the guest.

use std::fs::File;
use std::path::Path;

use memchr::memmem;
use object::elf::{EM_X86_64, FileHeader64, NoteType};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader};

use super::{Error, ImageFormat, Result, compression};

/// The largest image that is believed, packed or not. Debian's is 14 MB packed, 53 MB unpacked.
const LARGEST_IMAGE: u64 = 512 << 20;

const ELF_MAGIC: &[u8] = b"\x7fELF";
/// The note that names the 32-bit PVH entry point: `XEN_ELFNOTE_PHYS32_ENTRY`, owner `Xen`.
const PVH_NOTE: (&[u8], NoteType) = (b"Xen", NoteType(18));
const BANNER: &[u8] = b"Linux version ";
/// `uname` has room for 64 characters with the terminator.
const LONGEST_RELEASE: usize = 64;

/// An image, read and understood.
pub(super) struct BootImage {
    pub(super) format: ImageFormat,
    pub(super) release: String,
    /// The ELF can be entered the way QEMU's `-kernel` does it.
    pub(super) pvh: bool,
    pub(super) bytes: Vec<u8>,
}

impl BootImage {
    /// Reads the image at `path`: an ELF or a `vmlinuz`, either possibly compressed as a whole.
    pub(super) fn read(path: &Path) -> Result<BootImage> {
        let file = File::open(path).map_err(Error::io("open the kernel", path))?;
        let packed = compression::read_at_most(file, LARGEST_IMAGE, path)?;
        let bytes = match compression::Format::detect(&packed) {
            compression::Format::Stored => packed,
            _ => compression::decompress(&packed, LARGEST_IMAGE, path)?,
        };
        if bytes.starts_with(ELF_MAGIC) {
            return BootImage::from_elf(bytes, path);
        }
        match BootHeader::parse(&bytes, path)? {
            Some(header) => BootImage::from_vmlinuz(&header, bytes, path),
            None => Err(not_a_kernel(path, "it is neither an ELF image nor an x86 boot image (`vmlinuz`)")),
        }
    }

    fn from_elf(bytes: Vec<u8>, path: &Path) -> Result<BootImage> {
        let pvh = check_elf(&bytes, path)?;
        let release =
            find_banner(&bytes).ok_or_else(|| not_a_kernel(path, "the ELF holds no `Linux version` banner"))?;
        Ok(BootImage { format: ImageFormat::Elf, release, pvh, bytes })
    }

    fn from_vmlinuz(header: &BootHeader, bytes: Vec<u8>, path: &Path) -> Result<BootImage> {
        if let Some(payload) = header.payload(&bytes, path)? {
            let elf = compression::decompress(payload, LARGEST_IMAGE, path)?;
            if !elf.starts_with(ELF_MAGIC) {
                return Err(not_a_kernel(path, "its payload does not decompress to an ELF image"));
            }
            return BootImage::from_elf(elf, path);
        }
        let release = header
            .release(&bytes)
            .ok_or_else(|| not_a_kernel(path, "its boot header does not name a kernel release"))?;
        Ok(BootImage { format: ImageFormat::BzImage, release, pvh: false, bytes })
    }
}

/// The fields of the real-mode header that matter here.
struct BootHeader {
    protected_mode: usize,
    kernel_version: usize,
    payload_offset: usize,
    payload_length: usize,
}

impl BootHeader {
    /// The header of an x86 boot image, or `None` if `bytes` is not one.
    fn parse(bytes: &[u8], path: &Path) -> Result<Option<BootHeader>> {
        if bytes.get(0x202..0x206) != Some(b"HdrS") {
            return Ok(None);
        }
        let (Some(&sectors), Some(version), Some(kernel_version), Some(offset), Some(length)) = (
            bytes.get(0x1f1),
            little_endian::<2>(bytes, 0x206),
            little_endian::<2>(bytes, 0x20e),
            little_endian::<4>(bytes, 0x248),
            little_endian::<4>(bytes, 0x24c),
        ) else {
            return Err(Error::damaged(path, "it ends inside its boot header"));
        };
        if version < 0x208 {
            return Err(not_a_kernel(path, "its boot protocol is older than 2.08, that is Linux 2.6.26"));
        }
        // By the protocol zero means four, for the sake of very old kernels.
        let sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
        Ok(Some(BootHeader {
            protected_mode: (sectors + 1) * 512,
            kernel_version: kernel_version + 0x200,
            payload_offset: offset,
            payload_length: length,
        }))
    }

    /// The compressed payload, or `None` if its compression is one that is not decoded here.
    fn payload<'a>(&self, bytes: &'a [u8], path: &Path) -> Result<Option<&'a [u8]>> {
        let start = self.protected_mode + self.payload_offset;
        let payload = bytes
            .get(start..start + self.payload_length)
            .ok_or_else(|| Error::damaged(path, "it ends before the payload its boot header announces"))?;
        Ok(match compression::Format::detect(payload) {
            format if format.unsupported().is_some() => None,
            compression::Format::Stored => {
                return Err(not_a_kernel(path, "its payload is in no compression format Linux uses"));
            }
            // gzip ends with the unpacked size; the build appends it to the formats that do not.
            compression::Format::Gzip => Some(payload),
            _ => payload.len().checked_sub(4).map(|length| &payload[..length]),
        })
    }

    fn release(&self, bytes: &[u8]) -> Option<String> {
        release_at(bytes.get(self.kernel_version..)?)
    }
}

/// Checks that `bytes` are an ELF executable for this architecture, and returns whether it has a PVH entry note.
fn check_elf(bytes: &[u8], path: &Path) -> Result<bool> {
    let damaged = |error: object::Error| Error::damaged(path, format!("its ELF header is wrong: {error}"));
    if (bytes.get(4), bytes.get(5)) != (Some(&2), Some(&1)) {
        return Err(not_a_kernel(path, "it is not a 64-bit little-endian ELF"));
    }
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(damaged)?;
    if header.e_machine(LittleEndian) != EM_X86_64 {
        return Err(not_a_kernel(path, "it is an ELF for another processor than x86-64"));
    }
    for segment in header.program_headers(LittleEndian, bytes).map_err(damaged)? {
        let Ok(Some(mut notes)) = segment.notes(LittleEndian, bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if (note.name(), note.n_type(LittleEndian)) == PVH_NOTE {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The release in the banner that `/proc/version` shows. Other strings begin alike, but not with a digit after it.
fn find_banner(bytes: &[u8]) -> Option<String> {
    memmem::find_iter(bytes, BANNER)
        .filter_map(|at| bytes.get(at + BANNER.len()..))
        .filter(|rest| rest.first().is_some_and(u8::is_ascii_digit))
        .find_map(release_at)
}

/// The release at the start of `bytes`: everything before the first space.
fn release_at(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(LONGEST_RELEASE).position(|byte| matches!(byte, b' ' | 0))?;
    let release = std::str::from_utf8(&bytes[..end]).ok()?;
    (!release.is_empty() && release.chars().all(|c| c.is_ascii_graphic())).then(|| release.to_owned())
}

/// The unsigned number of `N` bytes (at most 4) at `offset`.
fn little_endian<const N: usize>(bytes: &[u8], offset: usize) -> Option<usize> {
    let field = bytes.get(offset..offset + N)?;
    Some(field.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

fn not_a_kernel(path: &Path, problem: &str) -> Error {
    Error::NotAKernel { path: path.to_owned(), problem: problem.to_owned() }
}
