//! What goes wrong with Vault.

use crate::Error;
use microagent_protocol::{Fault, FaultKind};
use std::time::Duration;

/// What goes wrong with Vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// No server is named.
    #[error("`VAULT_ADDR` is not set")]
    NoAddress,
    /// There is no token.
    #[error("there is no token: neither `VAULT_TOKEN` nor the file `~/.vault-token`")]
    NoToken,
    /// A setting makes no sense.
    #[error("`{setting}` is {reason}")]
    BadSetting {
        /// The variable.
        setting: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token and the value would be for everybody on the way to read.
    #[error("`VAULT_ADDR` is of `http` and not of this host")]
    NotEncrypted,
    /// A file that a setting names cannot be read.
    #[error(transparent)]
    File(Box<Error>),
    /// 403.
    #[error("Vault denies it (403)")]
    Denied,
    /// 404.
    #[error("Vault has nothing at this path (404)")]
    Missing,
    /// The newest version was deleted or destroyed.
    #[error("the newest version of it in Vault is deleted")]
    Deleted,
    /// 400.
    #[error("Vault does not understand the request (400)")]
    BadRequest,
    /// 503.
    #[error("Vault is sealed or down for maintenance (503)")]
    Sealed,
    /// 3xx. The token is not taken to another server.
    #[error("Vault sends the request to another server")]
    Redirected,
    /// A status that goes away by itself.
    #[error("Vault cannot answer now ({status})")]
    Busy {
        /// The status.
        status: u16,
    },
    /// A status that is none of Vault's for a read.
    #[error("Vault answers with status {status}")]
    Unexpected {
        /// The status.
        status: u16,
    },
    /// The secret does not have the field.
    #[error("the secret in Vault has no field `{field}`")]
    NoField {
        /// The field.
        field: String,
    },
    /// The field is null, a list or an object.
    #[error("the field `{field}` of the secret in Vault is neither text nor a number")]
    NotText {
        /// The field.
        field: String,
    },
    /// Not what version 2 of the key-value engine answers.
    #[error("the answer is not one of version 2 of Vault's key-value engine")]
    BadAnswer,
    /// More than is read.
    #[error("the answer of Vault is larger than 1 MiB")]
    TooLong,
    /// No answer, or no end of it.
    #[error("Vault did not answer within {deadline:?}")]
    TimedOut {
        /// How long it had.
        deadline: Duration,
    },
    /// No connection, or none that holds.
    #[error("cannot reach Vault at `VAULT_ADDR`")]
    Unreachable {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<Error> for VaultError {
    fn from(error: Error) -> VaultError {
        VaultError::File(Box::new(error))
    }
}

impl Fault for VaultError {
    fn code(&self) -> &str {
        match self {
            VaultError::NoAddress => "secret_vault_address_unset",
            VaultError::NoToken => "secret_vault_token_missing",
            VaultError::BadSetting { .. } => "secret_vault_setting_invalid",
            VaultError::NotEncrypted => "secret_vault_not_encrypted",
            VaultError::File(error) => error.code(),
            VaultError::Denied => "secret_vault_denied",
            VaultError::Missing => "secret_vault_path_missing",
            VaultError::Deleted => "secret_vault_version_deleted",
            VaultError::BadRequest => "secret_vault_bad_request",
            VaultError::Sealed => "secret_vault_sealed",
            VaultError::Redirected => "secret_vault_redirected",
            VaultError::Busy { .. } => "secret_vault_busy",
            VaultError::Unexpected { .. } => "secret_vault_status",
            VaultError::NoField { .. } => "secret_vault_field_missing",
            VaultError::NotText { .. } => "secret_vault_field_not_text",
            VaultError::BadAnswer => "secret_vault_answer_invalid",
            VaultError::TooLong => "secret_vault_answer_too_long",
            VaultError::TimedOut { .. } => "secret_vault_timed_out",
            VaultError::Unreachable { .. } => "secret_vault_unreachable",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            VaultError::NoAddress
            | VaultError::NoToken
            | VaultError::BadSetting { .. }
            | VaultError::NotEncrypted
            | VaultError::BadRequest => FaultKind::Usage,
            VaultError::File(error) => error.kind(),
            VaultError::Denied => FaultKind::Denied,
            VaultError::Missing | VaultError::Deleted | VaultError::NoField { .. } => FaultKind::NotFound,
            VaultError::Sealed
            | VaultError::Busy { .. }
            | VaultError::TimedOut { .. }
            | VaultError::Unreachable { .. } => FaultKind::Transient,
            VaultError::Redirected | VaultError::Unexpected { .. } => FaultKind::Permanent,
            VaultError::NotText { .. } | VaultError::BadAnswer | VaultError::TooLong => FaultKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            VaultError::NoAddress => "set `VAULT_ADDR`, as in `https://vault.example.com:8200`",
            VaultError::NoToken => "log in with `vault login`, or set `VAULT_TOKEN`",
            VaultError::NotEncrypted => "use `https`; `http` is for a server at a loopback address",
            VaultError::Denied => "the token may have expired, or its policy does not grant `read` on this path",
            VaultError::Missing => "look at mount and path with `vault kv get`, and at `VAULT_NAMESPACE`",
            VaultError::Deleted => "bring it back with `vault kv undelete`, or write a new version",
            VaultError::BadRequest => "look at the path and at `VAULT_NAMESPACE`",
            VaultError::Sealed => "unseal Vault, or wait",
            VaultError::Redirected => "set `VAULT_ADDR` to the server that is active",
            VaultError::NoField { .. } => "the fields are shown by `vault kv get`",
            VaultError::BadAnswer => {
                "only version 2 of the key-value engine is read: look at `vault secrets list -detailed`"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
