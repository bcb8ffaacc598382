//! How much one machine may have at once. A guest is not trusted: what it can make us hold is bounded by these.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections.
const MAX_FLOWS: u64 = 4096;
/// Most pairs of ports that exchange datagrams.
const MAX_CHANNELS: u64 = 1024;

/// What this process can afford.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once.
    pub flows: usize,
    /// Datagram channels at once.
    pub channels: usize,
}

impl Limits {
    /// Raises the limit of open files as far as it goes, and shares it out: a connection that is looked into takes three, so
    /// a fifth of it is for connections, and an eighth for datagrams.
    pub(crate) fn of_process() -> Limits {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
        Limits::of(if raised { maximum } else { current })
    }

    fn of(files: Option<u64>) -> Limits {
        let files = files.unwrap_or(u64::MAX);
        let share = |most: u64, part: u64| usize::try_from(most.min(files / part)).unwrap_or(usize::MAX);
        Limits { flows: share(MAX_FLOWS, 5), channels: share(MAX_CHANNELS, 8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_few_files_has_few_connections() {
        let few = Limits::of(Some(256));
        assert_eq!((few.flows, few.channels), (51, 32));
        let many = Limits::of(None);
        assert_eq!((many.flows, many.channels), (4096, 1024));
    }
}
