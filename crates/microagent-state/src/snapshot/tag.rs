//! Tags of snapshots, and what names one of them: `WORKSPACE:TAG`.

use crate::{Error, Name};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Tag of a snapshot among those of its workspace: of the same grammar as a [`Name`], and never mistaken for one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Name);

impl Tag {
    /// Checks `tag`.
    pub fn new(tag: impl Into<String>) -> Result<Tag, Error> {
        let tag = tag.into();
        Name::new(tag.as_str()).map(Tag).map_err(|_| Error::BadTag { tag })
    }

    /// The tag of a snapshot that was given none, by the time in UTC: `20261129-114500`, and `20261129-114500-2` as the second `choice`.
    pub fn of_time(time: Timestamp, choice: u32) -> Tag {
        let stamp = time.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string();
        let tag = if choice < 2 { stamp } else { format!("{stamp}-{choice}") };
        Tag::new(tag.trim_start_matches('-')).expect("digits and hyphens")
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for Tag {
    type Error = Error;

    fn try_from(tag: String) -> Result<Tag, Error> {
        Tag::new(tag)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> String {
        tag.0.into()
    }
}

impl std::str::FromStr for Tag {
    type Err = Error;

    fn from_str(tag: &str) -> Result<Tag, Error> {
        Tag::new(tag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One snapshot among all: `WORKSPACE:TAG`. Neither part can contain the colon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotRef {
    /// The workspace it was taken of.
    pub workspace: Name,
    /// Its tag.
    pub tag: Tag,
}

impl std::str::FromStr for SnapshotRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<SnapshotRef, Error> {
        let (workspace, tag) = text.split_once(':').ok_or_else(|| Error::BadSnapshotRef { given: text.to_owned() })?;
        Ok(SnapshotRef { workspace: Name::new(workspace)?, tag: Tag::new(tag)? })
    }
}

impl TryFrom<String> for SnapshotRef {
    type Error = Error;

    fn try_from(text: String) -> Result<SnapshotRef, Error> {
        text.parse()
    }
}

impl From<SnapshotRef> for String {
    fn from(reference: SnapshotRef) -> String {
        reference.to_string()
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.workspace, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_not_given_tells_the_time_in_utc() {
        let time: Timestamp = "2026-11-29T11:45:00Z".parse().unwrap();
        assert_eq!(Tag::of_time(time, 1).as_str(), "20261129-114500");
        assert_eq!(Tag::of_time(time, 2).as_str(), "20261129-114500-2");
        assert!(!Tag::of_time(Timestamp::MIN, 3).as_str().is_empty());
    }

    #[test]
    fn a_reference_reads_as_it_prints_and_leaves_no_directory() {
        let reference: SnapshotRef = "research:v1.2_a-b".parse().unwrap();
        assert_eq!(reference.to_string(), "research:v1.2_a-b");
        for bad in ["", "research", ":v1", "research:", "research:..", "../x:v1", "a:b:c", "a:b/c", "a:.new-b", "a: b"]
        {
            assert!(bad.parse::<SnapshotRef>().is_err(), "{bad:?}");
        }
        assert!(Tag::new("x".repeat(63)).is_ok());
        assert!(Tag::new("x".repeat(64)).is_err());
    }
}
