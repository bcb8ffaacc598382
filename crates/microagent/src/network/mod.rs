//! A workspace and the world around it.
//!
//! | file | idea |
//! |---|---|
//! | `options` | what a caller says, and whether it makes sense |
//! | `outfit` | everything a machine is given besides its disks: made ready before it is launched, put to use when it is up |
//! | `places` | a bound on what a guest has the host do at once |
//! | `forwards` | ports of the host that lead into it |
//! | `mediation` | sockets of the guest that lead to services of the host |
//! | `secrets` | secrets as files, and on demand |
//! | `variables` | what commands find in their environment of it |
//! | `report` | what is told about it |

mod forwards;
mod mediation;
mod options;
mod outfit;
mod places;
mod relay;
mod report;
mod secrets;
mod variables;

pub use options::{NetworkOptions, SecretOptions, parse_forward, parse_mediation, rooted};
pub(crate) use outfit::{Before, GUEST_NETWORK, Lines, Outfit, Purpose};
pub use report::{EgressReplay, NetworkReport, ReplayLine, SecretCheck};
pub use secrets::{SecretAccess, SecretOutcome};
pub(crate) use variables::variables;

use microagent_state::WorkspaceRecord;

/// Whether the machine of a workspace has a network interface.
pub(crate) fn has_network(record: &WorkspaceRecord) -> bool {
    record.network == crate::spec::NetworkMode::User.name()
}
