//! Where a command's program may be.

use std::ffi::CString;

/// Where programs are looked for when the command's environment has no `PATH`.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The `PATH` of an environment.
pub(crate) fn path_of(env: &[String]) -> &str {
    // The last one wins, as it does for programs that read their environment into a map.
    env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

/// The files to try for `program`, in order. A program with a slash in it is a path already. An empty directory in `path`
/// means the working directory. Names that hold a NUL cannot exist and are left out.
pub(crate) fn candidates(program: &str, path: &str) -> Vec<CString> {
    if program.contains('/') {
        return CString::new(program).into_iter().collect();
    }
    if program.is_empty() {
        return Vec::new();
    }
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .filter_map(|directory| CString::new(format!("{directory}/{program}")).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(candidates: &[CString]) -> Vec<&str> {
        candidates.iter().map(|candidate| candidate.to_str().unwrap()).collect()
    }

    #[test]
    fn a_bare_name_is_looked_for_in_every_directory_in_order() {
        assert_eq!(shown(&candidates("ls", "/usr/bin:/bin")), ["/usr/bin/ls", "/bin/ls"]);
        assert_eq!(shown(&candidates("ls", "/bin:")), ["/bin/ls", "./ls"]);
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(shown(&candidates("./run", "/bin")), ["./run"]);
    }

    #[test]
    fn an_empty_name_is_nowhere() {
        assert!(candidates("", "/bin").is_empty());
    }

    #[test]
    fn the_commands_own_path_is_used() {
        let env = ["PATH=/a".to_owned(), "X=1".to_owned(), "PATH=/b".to_owned()];
        assert_eq!(path_of(&env), "/b");
        assert_eq!(path_of(&[]), DEFAULT_PATH);
    }
}
