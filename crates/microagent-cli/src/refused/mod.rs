//! Flags and verbs that are known only to be refused well.
//!
//! Some belong to the contract and are not built yet; others are habits from container engines that mean nothing for a microVM. The
//! parser knows them all, hidden from help, so that each gets the answer that helps instead of "unexpected argument", and none is ever
//! taken for something else.

mod flags;
mod verbs;

pub(crate) use flags::RefusedFlag;
pub(crate) use verbs::RefusedVerb;

use crate::error::Error;

/// Why something is refused.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// It comes with later work.
    NotYet,
    /// A container engine has it and a microVM does not.
    Container {
        /// What a microVM has instead, or why it has no such thing.
        reason: &'static str,
        /// What to do.
        advice: &'static str,
    },
}

impl Refusal {
    /// The error for `what`, as the user wrote it.
    fn explain(self, what: String) -> Error {
        match self {
            Refusal::NotYet => Error::NotSupportedYet { what, hint: "`--help` shows what works today".to_owned() },
            Refusal::Container { reason, advice } => Error::ContainerOption { what, reason, advice: advice.to_owned() },
        }
    }
}

/// The error for a network mode that is not to be had.
pub(crate) fn network(mode: &str) -> Error {
    let what = format!("--network {mode}");
    match mode {
        "nat" | "bridged" => {
            Error::from(microagent::Error::NetworkUnsupported { mode: if mode == "nat" { "nat" } else { "bridged" } })
        }
        "none" => Error::usage("`--network` cannot be `none`", "the same is called `--network isolated`"),
        _ if mode == "host" || mode == "bridge" || mode.contains(':') => Refusal::Container {
            reason: "a microVM has a kernel and network of its own and cannot join one of the host",
            advice: "leave it out, or use `--network isolated`; `--mediation` leads to a service of the host",
        }
        .explain(what),
        _ => Error::usage(
            format!("`--network` cannot be `{mode}`"),
            "a network mode is `user`, the default, or `isolated`",
        ),
    }
}
