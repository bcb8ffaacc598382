//! Where values come from.

use crate::environment::Environment;
use crate::read::{regular, without_line_end};
use crate::reference::Place;
use crate::{Binding, Error, Name, Reference, Secret, dotenv, helper, vault};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long Vault and a helper have for an answer: a person waits for it, and a start of a machine does.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Where values come from: the variables, the directory that paths start at, and how long to wait.
///
/// `VAULT_ADDR`, `VAULT_TOKEN` (or the file `~/.vault-token`), `VAULT_NAMESPACE` and `VAULT_CACERT` mean what they mean
/// to Vault's own command. `MICROAGENT_SECRET_HELPER` is the absolute path of the program that `helper:` references are
/// given to, as its one argument.
#[derive(Debug)]
pub struct Sources {
    environment: Environment,
    base: PathBuf,
    deadline: Duration,
}

impl Sources {
    /// The environment of this process, and its working directory.
    pub fn of_process() -> Sources {
        Sources::of(Environment::Process)
    }

    /// These variables instead, for references, for settings and for the helper alike.
    pub fn of_variables<N: Into<String>, V: Into<Vec<u8>>>(variables: impl IntoIterator<Item = (N, V)>) -> Sources {
        let hold = |(name, value): (N, V)| (name.into(), Zeroizing::new(value.into()));
        Sources::of(Environment::Given(variables.into_iter().map(hold).collect()))
    }

    fn of(environment: Environment) -> Sources {
        Sources { environment, base: PathBuf::new(), deadline: DEADLINE }
    }

    /// Lets relative paths start at `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Sources {
        Sources { base: base.to_owned(), ..self }
    }

    /// Waits for so long instead of [`DEADLINE`].
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Sources {
        Sources { deadline, ..self }
    }

    /// The value behind `reference`. Blocks, for Vault and a helper at most for the deadline.
    pub fn resolve(&self, reference: &Reference) -> Result<Secret, Error> {
        let unreadable = |error| Error::Unreadable { reference: reference.clone(), source: Box::new(error) };
        let secret = match reference.place() {
            Place::Env(variable) => match self.environment.get(variable.as_str()) {
                Some(value) => Secret::of(&value)?,
                None => return Err(Error::Unset { variable: variable.clone() }),
            },
            Place::File(path) => self.file(path).map_err(unreadable)?,
            Place::Dotenv { path, key } => {
                self.path(path).and_then(|path| dotenv::find(&path, key)).map_err(unreadable)?
            }
            Place::Vault { path, field } => vault::fetch(self, path, field)
                .map_err(|source| Error::Vault { reference: reference.clone(), source })?,
            Place::Helper(argument) => helper::run(&self.environment, argument, self.deadline)
                .map_err(|source| Error::Helper { reference: reference.clone(), source })?,
        };
        if secret.expose().is_empty() {
            return Err(Error::Empty { reference: reference.to_string() });
        }
        Ok(secret)
    }

    /// The values of all of `bindings`, or the first error, which names the binding.
    pub fn resolve_all(&self, bindings: &[Binding]) -> Result<BTreeMap<Name, Secret>, Error> {
        // One of the two is a mistake, and which one nobody can say.
        let mut names = BTreeSet::new();
        if let Some(again) = bindings.iter().find(|binding| !names.insert(&binding.name)) {
            return Err(Error::Twice { name: again.name.clone() });
        }
        let mut secrets = BTreeMap::new();
        for Binding { name, reference } in bindings {
            let of_it = |error| Error::Binding { name: name.clone(), source: Box::new(error) };
            secrets.insert(name.clone(), self.resolve(reference).map_err(of_it)?);
        }
        Ok(secrets)
    }

    fn file(&self, written: &str) -> Result<Secret, Error> {
        Secret::of(without_line_end(&regular(&self.path(written)?)?))
    }

    /// The path that `written` means.
    pub(crate) fn path(&self, written: &str) -> Result<PathBuf, Error> {
        match written.strip_prefix("~/") {
            Some(rest) => self.home().map(|home| home.join(rest)).ok_or(Error::NoHome),
            None => Ok(self.base.join(written)),
        }
    }

    /// The home directory of the user.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.environment.setting("HOME").map(|home| PathBuf::from(OsString::from_vec(home.to_vec())))
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }
}
