//! The guest agent, embedded.
//!
//! It is built together with this crate, so host and guest always speak the same version of the protocol and there is
//! nothing to install, find or mismatch.

/// The agent: a static executable for Linux, `/init` of the initramfs.
pub static BYTES: &[u8] = include_bytes!(env!("MICROAGENT_AGENT"));

/// SHA-256 of [`BYTES`] in lower-case hexadecimal, known without reading them.
pub fn digest() -> &'static str {
    env!("MICROAGENT_AGENT_SHA256")
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::LittleEndian;
    use object::elf::{FileHeader64, PT_INTERP};
    use object::read::elf::{FileHeader, ProgramHeader};
    use sha2::{Digest, Sha256};

    /// The agent is in the memory of every machine. Most of it is the C library's and the Rust runtime's start-up code; 190 KB are what it
    /// does for workspaces that live on: archives, terminals, changes, more requests; 80 KB what it does for their network,
    /// 40 KB for machines that stand still and wake as somebody else.
    const MOST_BYTES: usize = 1_750_000;

    #[test]
    fn the_agent_runs_without_a_loader() {
        let header = FileHeader64::<LittleEndian>::parse(BYTES).unwrap();
        let segments = header.program_headers(LittleEndian, BYTES).unwrap();
        assert!(segments.iter().all(|segment| segment.p_type(LittleEndian) != PT_INTERP));
    }

    #[test]
    fn the_agent_is_small() {
        assert!(BYTES.len() < MOST_BYTES, "{} bytes", BYTES.len());
    }

    #[test]
    fn the_digest_is_the_agents() {
        let digest = Sha256::digest(BYTES);
        assert!(digest.iter().map(|byte| format!("{byte:02x}")).eq(digest_pairs()));
    }

    fn digest_pairs() -> impl Iterator<Item = String> {
        digest().as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned())
    }
}
