//! Users and groups of the image.
//!
//! The image's own `/etc/passwd` and `/etc/group` decide, read as the plain text they are: an image need not have a C library
//! that could be asked. They are untrusted, so lines that make no sense are passed over. The rules are those of the OCI
//! runtimes: a name matches before a number does, a number need not be listed, supplementary groups apply only where no
//! group was asked for.

use crate::refusal::quoted;
use thiserror::Error;

/// Highest id accepted. The kernel reserves the last 32-bit number for "no change"; runtimes stop at half the range.
const MAX_ID: u32 = i32::MAX as u32;

/// Who a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// User id.
    pub(crate) uid: u32,
    /// Primary group id.
    pub(crate) gid: u32,
    /// Supplementary group ids.
    pub(crate) groups: Vec<u32>,
    /// Home directory.
    pub(crate) home: String,
}

/// The image has no such user or group.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum UserError {
    /// No such user name, quoted.
    #[error("user {0} is not in the image's `/etc/passwd`; a numeric id need not be")]
    User(String),
    /// No such group name, quoted.
    #[error("group {0} is not in the image's `/etc/group`; a numeric id need not be")]
    Group(String),
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl User {
    /// Finds who `USER[:GROUP]` is. Empty parts mean root and the user's own groups.
    pub(crate) fn resolve(specification: &str, passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
        let (user, wanted_group) = specification.split_once(':').unwrap_or((specification, ""));
        let wanted = if user.is_empty() { "0" } else { user };
        let passwd = String::from_utf8_lossy(passwd);
        let group = String::from_utf8_lossy(group);
        let number = parse_id(wanted);
        let entry = passwd_entries(&passwd)
            .find(|entry| entry.name == wanted)
            .or_else(|| passwd_entries(&passwd).find(|entry| Some(entry.uid) == number));
        let (uid, gid, home) = match (&entry, number) {
            (Some(entry), _) => (entry.uid, entry.gid, entry.home),
            (None, Some(uid)) => (uid, 0, ""),
            (None, None) => return Err(UserError::User(quoted(wanted))),
        };
        let home = if home.is_empty() { "/".to_owned() } else { home.to_owned() };
        if !wanted_group.is_empty() {
            return Ok(User { uid, gid: resolve_group(wanted_group, &group)?, groups: Vec::new(), home });
        }
        let groups = entry.map_or_else(Vec::new, |entry| groups_of(entry.name, &group));
        Ok(User { uid, gid, groups, home })
    }
}

fn resolve_group(wanted: &str, group: &str) -> Result<u32, UserError> {
    group_entries(group)
        .find(|entry| entry.name == wanted)
        .map(|entry| entry.gid)
        .or_else(|| parse_id(wanted))
        .ok_or_else(|| UserError::Group(quoted(wanted)))
}

fn groups_of(name: &str, group: &str) -> Vec<u32> {
    group_entries(group)
        .filter(|entry| entry.members.split(',').any(|member| member == name))
        .map(|entry| entry.gid)
        .collect()
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = parse_id(fields.nth(1)?)?;
        let gid = parse_id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = parse_id(fields.nth(1)?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn parse_id(text: &str) -> Option<u32> {
    // `parse` alone would take a leading plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        broken line\n\
        daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
        app:x:1000:1001:App:/home/app:/bin/sh\n\
        1000:x:7:7:a number for a name:/seven:\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\naudio:x:29:app\nstaff:x:50:\n";

    fn user(specification: &str) -> Result<User, UserError> {
        User::resolve(specification, PASSWD, GROUP)
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let app = User { uid: 1000, gid: 1001, groups: vec![10, 29], home: "/home/app".to_owned() };
        assert_eq!(user("app"), Ok(app));
    }

    #[test]
    fn nothing_means_root() {
        assert_eq!(user(""), user("root"));
        assert_eq!(user("").unwrap().groups, [10]);
    }

    #[test]
    fn a_group_that_is_asked_for_replaces_all_others() {
        let app = user("app:staff").unwrap();
        assert_eq!((app.uid, app.gid, app.groups), (1000, 50, vec![]));
        assert_eq!(user("app:4242").unwrap().gid, 4242);
        assert_eq!(user(":staff").unwrap().uid, 0);
    }

    #[test]
    fn a_number_need_not_be_listed() {
        let unlisted = User { uid: 4242, gid: 0, groups: vec![], home: "/".to_owned() };
        assert_eq!(user("4242"), Ok(unlisted));
        assert_eq!(user("1").unwrap().home, "/usr/sbin");
    }

    #[test]
    fn a_name_made_of_digits_wins_over_the_number() {
        assert_eq!(user("1000").unwrap().uid, 7);
    }

    #[test]
    fn unknown_names_are_refused_and_named() {
        assert_eq!(user("ghost"), Err(UserError::User("`ghost`".to_owned())));
        assert_eq!(user("app:ghosts"), Err(UserError::Group("`ghosts`".to_owned())));
    }

    #[test]
    fn the_number_that_means_no_change_is_not_a_user() {
        assert!(user("4294967295").is_err());
        assert!(user("+1").is_err());
        assert!(user("1000:-1").is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(
            specification in ".{0,40}",
            passwd in prop::collection::vec(any::<u8>(), 0..400),
            group in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            if let Ok(user) = User::resolve(&specification, &passwd, &group) {
                prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID);
                prop_assert!(!user.home.is_empty());
            }
        }

        #[test]
        fn a_listed_user_is_found_among_any_others(
            before in "([a-z]{1,8}:x:[0-9]{1,5}:[0-9]{1,5}::/:\n){0,5}",
            uid in 0..MAX_ID,
            gid in 0..MAX_ID,
        ) {
            let passwd = format!("{before}Target:x:{uid}:{gid}::/target:/bin/sh\n{before}");
            let user = User::resolve("Target", passwd.as_bytes(), b"").unwrap();
            prop_assert_eq!((user.uid, user.gid, user.home.as_str()), (uid, gid, "/target"));
        }
    }
}
