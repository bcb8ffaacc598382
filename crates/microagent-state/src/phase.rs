//! Where a workspace is in its life, and how it gets from one place to the next.

use serde::{Deserialize, Serialize};

/// Where a workspace is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was made, and never started.
    Prepared,
    /// Its machine is on the way up.
    Starting,
    /// Its machine runs.
    Running,
    /// Its machine is there, and its processors stand still.
    Paused,
    /// Its machine is on the way down.
    Stopping,
    /// It was halted: its disk is at rest, with everything that was written.
    Halted,
    /// Its machine ended by itself as it should, or was killed on request.
    Stopped,
    /// Its machine ended as it should not.
    Failed,
    /// It was taken out of service for good; its disk and records are kept as they were.
    Quarantined,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Phase; 9] = [
        Phase::Prepared,
        Phase::Starting,
        Phase::Running,
        Phase::Paused,
        Phase::Stopping,
        Phase::Halted,
        Phase::Stopped,
        Phase::Failed,
        Phase::Quarantined,
    ];

    /// Whether a machine, and so a holder of the lease, belongs to this phase.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Starting | Phase::Running | Phase::Paused | Phase::Stopping)
    }

    /// Whether a workspace in this phase can be started.
    pub fn can_start(self) -> bool {
        matches!(self, Phase::Prepared | Phase::Halted | Phase::Stopped | Phase::Failed)
    }

    /// Whether a workspace may go from this phase to `next`. This is the table of `docs/workspaces.md`.
    pub fn may_become(self, next: Phase) -> bool {
        use Phase::{Failed, Halted, Paused, Prepared, Quarantined, Running, Starting, Stopped, Stopping};
        match (self, next) {
            (_, Starting) => self.can_start(),
            // Set-up steps that fail when a workspace is made leave it to be started.
            // One that was to go on from a snapshot, and could not, is what it was.
            (Starting, Prepared | Halted)
            | (Starting | Paused, Running)
            | (Running, Paused)
            | (Running | Paused, Stopping)
            | (Stopping, Halted) => true,
            (_, Stopped | Failed) => self.is_live(),
            (_, Quarantined) => self != Quarantined,
            _ => false,
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Phase::Prepared => "prepared",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Stopping => "stopping",
            Phase::Halted => "halted",
            Phase::Stopped => "stopped",
            Phase::Failed => "failed",
            Phase::Quarantined => "quarantined",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_quarantine() {
        assert!(Phase::ALL.iter().all(|&next| !Phase::Quarantined.may_become(next)));
    }

    #[test]
    fn only_a_workspace_at_rest_starts() {
        for phase in Phase::ALL {
            let at_rest = !phase.is_live() && phase != Phase::Quarantined;
            assert_eq!(phase.may_become(Phase::Starting), at_rest, "{phase}");
        }
    }

    #[test]
    fn a_live_workspace_can_fail_at_any_time() {
        for phase in Phase::ALL {
            assert_eq!(phase.may_become(Phase::Failed), phase.is_live(), "{phase}");
        }
    }
}
