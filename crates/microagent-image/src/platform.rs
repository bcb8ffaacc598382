//! The machine an image is built for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A processor architecture, named as the OCI specification does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// 64-bit x86, also called `x86_64` and `x64`.
    Amd64,
    /// 64-bit Arm, also called `aarch64`.
    Arm64,
}

impl Architecture {
    /// The name used in images: `amd64` or `arm64`.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// The variants of this architecture that any machine of it can run, best known first.
    pub(crate) const fn baseline_variants(self) -> &'static [&'static str] {
        match self {
            Architecture::Amd64 => &["v1"],
            Architecture::Arm64 => &["v8"],
        }
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Architecture, Error> {
        match text {
            "amd64" | "x86_64" | "x64" => Ok(Architecture::Amd64),
            "arm64" | "aarch64" => Ok(Architecture::Arm64),
            _ => Err(Error::InvalidPlatform { text: crate::error::quoted(text) }),
        }
    }
}

/// What an image must be built for to run in a guest: always Linux, on one architecture.
///
/// Written `linux/amd64` or `linux/arm64`. Parsing also takes the architecture alone, its aliases, and the baseline
/// variants (`linux/arm64/v8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// The processor architecture.
    pub architecture: Architecture,
}

impl Platform {
    /// `linux/amd64`.
    pub const AMD64: Platform = Platform { architecture: Architecture::Amd64 };
    /// `linux/arm64`.
    pub const ARM64: Platform = Platform { architecture: Architecture::Arm64 };

    /// The platform of the machine this program runs on.
    pub const fn host() -> Platform {
        if cfg!(target_arch = "aarch64") { Platform::ARM64 } else { Platform::AMD64 }
    }
}

impl Default for Platform {
    fn default() -> Platform {
        Platform::host()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture.name())
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Platform, Error> {
        let invalid = || Error::InvalidPlatform { text: crate::error::quoted(text) };
        let name = text.strip_prefix("linux/").unwrap_or(text);
        let (name, variant) = name.split_once('/').map_or((name, None), |(name, variant)| (name, Some(variant)));
        let architecture: Architecture = name.parse().map_err(|_| invalid())?;
        match variant {
            Some(variant) if !architecture.baseline_variants().contains(&variant) => Err(invalid()),
            _ => Ok(Platform { architecture }),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = Error;

    fn try_from(text: String) -> Result<Platform, Error> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> String {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_names_the_same_platform() {
        for text in ["linux/amd64", "amd64", "x86_64", "x64", "linux/x86_64", "linux/amd64/v1"] {
            assert_eq!(text.parse::<Platform>().unwrap(), Platform::AMD64, "{text}");
        }
        for text in ["linux/arm64", "arm64", "aarch64", "linux/arm64/v8"] {
            assert_eq!(text.parse::<Platform>().unwrap(), Platform::ARM64, "{text}");
        }
    }

    #[test]
    fn platforms_no_guest_can_run_are_refused() {
        for text in ["", "windows/amd64", "linux/", "linux/riscv64", "linux/arm/v7", "linux/amd64/v3", "amd64/linux"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
