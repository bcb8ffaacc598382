//! Whether the kernel has run out of memory.

/// How many processes the kernel has killed so far because memory ran out.
pub(crate) fn oom_kills() -> u64 {
    parse(&std::fs::read_to_string("/proc/vmstat").unwrap_or_default())
}

fn parse(vmstat: &str) -> u64 {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_its_neighbours() {
        assert_eq!(parse("oom_kill_other 9\npgfault 1\noom_kill 3\nzone_reclaim_failed 0\n"), 3);
        assert_eq!(parse(""), 0);
    }
}
