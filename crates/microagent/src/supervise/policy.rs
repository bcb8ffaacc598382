//! Whether a workspace that ended is started again.

use microagent_state::Phase;

/// How a workspace ended.
pub(super) struct Ended {
    pub(super) state: Phase,
    /// Somebody wanted it so.
    pub(super) by_request: bool,
    /// It was killed for being unwell.
    pub(super) unwell: bool,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    StayDown,
    Restart,
}

/// What the policy says. An end that somebody asked for stands, whatever the policy: who halts a service wants it halted.
pub(super) fn judge(policy: &str, ended: &Ended) -> Verdict {
    let restart = match policy {
        _ if ended.by_request || !ended.state.can_start() => false,
        "always" => true,
        // What is killed reads as stopped.
        "on-failure" => ended.state == Phase::Failed || ended.unwell,
        _ => false,
    };
    if restart { Verdict::Restart } else { Verdict::StayDown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_was_asked_for_stands() {
        for policy in ["never", "on-failure", "always"] {
            for state in Phase::ALL {
                let ended = Ended { state, by_request: true, unwell: false };
                assert_eq!(judge(policy, &ended), Verdict::StayDown, "{policy} {state}");
            }
        }
    }

    #[test]
    fn each_policy_restarts_what_it_says() {
        let judged = |policy: &str, state| judge(policy, &Ended { state, by_request: false, unwell: false });
        for state in [Phase::Stopped, Phase::Failed] {
            assert_eq!(judged("never", state), Verdict::StayDown);
            assert_eq!(judged("always", state), Verdict::Restart);
        }
        assert_eq!(judged("on-failure", Phase::Stopped), Verdict::StayDown);
        assert_eq!(judged("on-failure", Phase::Failed), Verdict::Restart);
        assert_eq!(judged("always", Phase::Quarantined), Verdict::StayDown);
        let unwell = Ended { state: Phase::Stopped, by_request: false, unwell: true };
        assert_eq!(judge("on-failure", &unwell), Verdict::Restart);
        assert_eq!(judge("never", &unwell), Verdict::StayDown);
    }
}
