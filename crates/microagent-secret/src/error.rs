//! Everything that can be wrong with references, and with the places that they name.

use crate::{HelperError, Name, Reference, VaultError};
use microagent_protocol::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;

/// The error of this crate. There is a value in none of them, nor anything that could be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More bytes than a value may have.
    #[error("a secret is longer than 1 MiB")]
    TooLong,
    /// Text is wanted.
    #[error("a secret is not UTF-8 text")]
    NotText,
    /// Not the name of a variable.
    #[error("not the name of a variable: letters, digits and `_`, no digit first, at most 128")]
    BadName,
    /// No scheme, or none that is known. A value was pasted, perhaps.
    #[error("not a reference to a secret: it starts with none of `env:`, `file:`, `dotenv:`, `vault:` and `helper:`")]
    NoReference,
    /// A scheme, and not what belongs after it.
    #[error("not a reference of the scheme `{scheme}`: {reason}")]
    BadReference {
        /// The scheme.
        scheme: &'static str,
        /// What is wrong with the rest.
        reason: &'static str,
    },
    /// Not a name, `=` and a reference.
    #[error("not a name, `=` and a reference to a secret")]
    BadBinding,
    /// Something about the secret of that name.
    #[error("the secret `{name}` cannot be had")]
    Binding {
        /// The name of the binding.
        name: Name,
        /// Why not.
        source: Box<Error>,
    },
    /// Two bindings have one name.
    #[error("the secret `{name}` is given twice")]
    Twice {
        /// The name.
        name: Name,
    },
    /// There is a value and nothing in it.
    #[error("the value of `{reference}` is empty")]
    Empty {
        /// Where it is.
        reference: String,
    },
    /// `env:` names a variable that is not set.
    #[error("the variable of `env:{variable}` is not set")]
    Unset {
        /// The variable.
        variable: Name,
    },
    /// A path starts with `~/`, and there is no home directory.
    #[error("`HOME` is not set, and a path starts with `~/`")]
    NoHome,
    /// A file cannot be read.
    #[error("cannot {doing} `{path}`")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something is at the path that is not read.
    #[error("`{path}` cannot hold a secret: {reason}")]
    BadFile {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A line of a dotenv file is malformed.
    #[error("line {line} of `{path}` is malformed: {reason}")]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, the first being 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A dotenv file does not have the key.
    #[error("there is no `{key}` in `{path}`")]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: Name,
    },
    /// The file that a reference names does not give the value.
    #[error("cannot resolve `{reference}`")]
    Unreadable {
        /// The reference.
        reference: Reference,
        /// Why not.
        source: Box<Error>,
    },
    /// Vault does not give the value.
    #[error("cannot resolve `{reference}`")]
    Vault {
        /// The reference.
        reference: Reference,
        /// Why not.
        source: VaultError,
    },
    /// The helper does not give the value.
    #[error("cannot resolve `{reference}`")]
    Helper {
        /// The reference.
        reference: Reference,
        /// Why not.
        source: HelperError,
    },
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::TooLong => "secret_too_long",
            Error::NotText => "secret_not_text",
            Error::BadName => "secret_name_invalid",
            Error::NoReference | Error::BadReference { .. } => "secret_reference_invalid",
            Error::BadBinding => "secret_binding_invalid",
            Error::Binding { source, .. } | Error::Unreadable { source, .. } => source.code(),
            Error::Twice { .. } => "secret_given_twice",
            Error::Empty { .. } => "secret_empty",
            Error::Unset { .. } => "secret_variable_unset",
            Error::NoHome => "secret_home_unset",
            Error::File { .. } => "secret_file",
            Error::BadFile { .. } => "secret_file_invalid",
            Error::BadLine { .. } => "secret_dotenv_invalid",
            Error::NoKey { .. } => "secret_dotenv_key_missing",
            Error::Vault { source, .. } => source.code(),
            Error::Helper { source, .. } => source.code(),
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Binding { source, .. } | Error::Unreadable { source, .. } => source.kind(),
            Error::Vault { source, .. } => source.kind(),
            Error::Helper { source, .. } => source.kind(),
            Error::File { source, .. } => kind_of(source),
            Error::Unset { .. } | Error::NoKey { .. } => FaultKind::NotFound,
            Error::TooLong | Error::NotText | Error::Empty { .. } => FaultKind::Invalid,
            _ => FaultKind::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Binding { source, .. } | Error::Unreadable { source, .. } => return source.hint(),
            Error::Vault { source, .. } => return source.hint(),
            Error::Helper { source, .. } => return source.hint(),
            Error::NoReference => "a value itself is never given: put it in a variable or a file, and name that",
            Error::BadReference { scheme, .. } => match *scheme {
                "env" => "as in `env:GITHUB_TOKEN`",
                "file" => "as in `file:~/.config/token`",
                "dotenv" => "as in `dotenv:.env#GITHUB_TOKEN`",
                "vault" => "as in `vault:secret/data/github#token`: the path of the API, and a field",
                _ => "as in `helper:github/token`",
            },
            Error::BadBinding => "as in `GITHUB_TOKEN=env:GITHUB_TOKEN`; a value itself is never given",
            Error::Unset { .. } => "set and export the variable",
            Error::BadLine { .. } => "write `KEY='value'`; a value of several lines goes into a file of its own",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What sort of failure one of the system is.
pub(crate) fn kind_of(error: &io::Error) -> FaultKind {
    match error.kind() {
        io::ErrorKind::NotFound => FaultKind::NotFound,
        io::ErrorKind::PermissionDenied => FaultKind::Denied,
        _ => FaultKind::Permanent,
    }
}
