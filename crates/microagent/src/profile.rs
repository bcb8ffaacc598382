//! Resource profiles: named machine sizes.

use crate::Error;
use microagent_state::Resources;
use serde::Serialize;

/// A named machine size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// The name.
    pub name: &'static str,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpu_count: u32,
    /// Size of the writable disk in MiB.
    pub size_mib: u64,
    /// What it is meant for.
    pub purpose: &'static str,
}

impl Profile {
    /// All profiles, smallest first.
    pub const ALL: [Profile; 4] = [
        Profile {
            name: "tiny",
            memory_mib: 256,
            cpu_count: 1,
            size_mib: 512,
            purpose: "smoke tests, very small shells",
        },
        Profile { name: "small", memory_mib: 512, cpu_count: 2, size_mib: 1024, purpose: "the default" },
        Profile {
            name: "medium",
            memory_mib: 2048,
            cpu_count: 2,
            size_mib: 8192,
            purpose: "package installs, normal agent work",
        },
        Profile { name: "large", memory_mib: 4096, cpu_count: 4, size_mib: 16384, purpose: "builds" },
    ];

    /// The profile used when none is named.
    pub const DEFAULT: Profile = Profile::ALL[1];

    /// The profile called `name`.
    pub fn named(name: &str) -> Result<Profile, Error> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name == name)
            .ok_or_else(|| Error::ProfileUnknown { name: name.to_owned() })
    }

    /// The sizes alone.
    pub fn resources(&self) -> Resources {
        Resources { memory_mib: self.memory_mib, cpu_count: self.cpu_count, size_mib: self.size_mib }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_the_published_sizes() {
        let sizes = Profile::ALL.map(|profile| (profile.name, profile.memory_mib, profile.cpu_count, profile.size_mib));
        assert_eq!(
            sizes,
            [("tiny", 256, 1, 512), ("small", 512, 2, 1024), ("medium", 2048, 2, 8192), ("large", 4096, 4, 16384)]
        );
        assert_eq!(Profile::DEFAULT.name, "small");
    }
}
