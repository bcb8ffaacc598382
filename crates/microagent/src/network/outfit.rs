//! Everything a machine is given besides its disks.
//!
//! It is made ready before the machine is launched, so that what cannot be had is told before anything runs: secrets are resolved, ports
//! taken, rules checked. When the machine is there, its link is connected to a gateway; when its guest is up, secrets are delivered and
//! ports opened.

use super::forwards::{Forwards, Held};
use super::secrets::Resolved;
use super::variables::{self, intercepts};
use super::{has_network, mediation};
use crate::Error;
use microagent_egress::{Log, Policy, Summary};
use microagent_gateway::address::{GATEWAY, GUEST, PREFIX};
use microagent_gateway::{Connection, Dialer, Gateway, Intercept, Options, dns::Resolver, proxy::Proxies};
use microagent_intercept::{Authority, Connect, Interceptor, KeptAuthority, Roots, SwapConfig, Swaps};
use microagent_machine::Channel;
use microagent_machine::engine::Machine;
use microagent_protocol::{Boot, Network, ON_DEMAND};
use microagent_secret::Sources;
use microagent_state::{ForwardRecord, MediationRecord, Workspace, WorkspaceRecord};
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// How every guest is connected: each is alone on its link, so all have the same addresses.
pub(crate) const GUEST_NETWORK: Network =
    Network { address: GUEST, prefix: PREFIX, gateway: GATEWAY, resolver: GATEWAY };

/// What a machine is brought up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its service or its command.
    Work,
    /// Its set-up steps: nobody is to reach it yet.
    SetUp,
    /// Its files: it has nothing to do with the world.
    Maintenance,
}

/// What the programs of a machine that goes on from a snapshot know of the world.
#[derive(Default)]
pub(crate) struct Before {
    /// What it takes to be the authority that they trust.
    pub(crate) authority: Option<KeptAuthority>,
    /// Whether they have a socket for secrets on demand.
    pub(crate) on_demand: bool,
}

/// What a machine is given.
#[derive(Default)]
pub(crate) struct Outfit {
    gateway: Option<Parts>,
    trust: Vec<String>,
    /// What it takes to be the authority that its programs trust.
    authority: Option<KeptAuthority>,
    java_home: Option<String>,
    secrets: Option<Resolved>,
    /// Whether its guest has the socket for those on demand from before.
    answers: bool,
    held: Vec<Held>,
    mediations: Vec<MediationRecord>,
}

/// What a gateway is made of. A machine that does not come up is followed by another, which gets a gateway of its own.
struct Parts {
    policy: Policy,
    log: Arc<Log>,
    resolver: Resolver,
    proxies: Proxies,
    intercept: Option<Arc<Looker>>,
}

/// The interceptor, as the gateway knows it.
struct Looker(Interceptor);

impl Intercept for Looker {
    fn take(&self, connection: Connection, guest: UnixStream, upstream: OwnedFd) {
        let Connection { name, address, tls } = connection;
        self.0.take(microagent_intercept::Connection { name, address, tls }, guest, upstream);
    }
}

/// The host's way to the endpoints that give out tokens, as the interceptor knows it.
#[derive(Debug)]
struct Way(Dialer);

impl Connect for Way {
    fn connect(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        self.0.connect(host, port)
    }
}

/// What connects a machine with the world, until this is dropped.
#[derive(Default)]
pub(crate) struct Lines {
    _forwards: Forwards,
    /// What the ports of the host are that lead into it.
    pub(crate) mappings: Vec<ForwardRecord>,
}

impl Outfit {
    /// Makes ready what the machine of `record` is given for `purpose`.
    /// `before` is what its programs know where it goes on from a snapshot.
    pub(crate) fn prepare(
        workspace: &Workspace,
        record: &WorkspaceRecord,
        purpose: Purpose,
        before: Option<&Before>,
    ) -> Result<Outfit, Error> {
        if purpose == Purpose::Maintenance {
            return Ok(Outfit::default());
        }
        let held = match purpose {
            Purpose::Work => record.forwards.iter().map(|forward| Held::new(*forward)).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        mediation::check(&record.mediations)?;
        let has_secrets = !record.secrets.is_empty();
        let answers = before.is_some_and(|before| before.on_demand);
        let secrets =
            if has_secrets { Some(Resolved::new(&record.secrets, workspace)?) } else { answers.then(Resolved::none) };
        let kept = before.and_then(|before| before.authority.as_ref());
        let (mut gateway, mut trust, mut authority) = (None, Vec::new(), None);
        if has_network(record) {
            let log = Arc::new(Log::open(&workspace.egress_log())?);
            let (resolver, proxies) = (Resolver::of_host(), Proxies::of_environment()?);
            let intercept = looker(record, &log, Dialer::new(resolver.clone(), proxies.clone()), kept)?;
            if let Some((_, certificate, keep)) = &intercept {
                trust.push(certificate.clone());
                authority = Some(keep.clone());
            }
            gateway = Some(Parts {
                policy: Policy::new(record.egress.clone(), own_addresses()?)?,
                log,
                resolver,
                proxies,
                intercept: intercept.map(|(looker, ..)| looker),
            });
        }
        let (mediations, java_home) = (record.mediations.clone(), variables::java_home(record));
        Ok(Outfit { gateway, trust, authority, java_home, secrets, answers, held, mediations })
    }

    /// Enters what the guest is told of it when it boots.
    pub(crate) fn enter(&self, boot: &mut Boot) {
        boot.network = self.gateway.as_ref().map(|_| GUEST_NETWORK);
        boot.trust.clone_from(&self.trust);
        if !self.trust.is_empty() {
            boot.roots = host_roots();
            boot.java_home.clone_from(&self.java_home);
        }
        boot.secrets = self.secrets.as_ref().is_some_and(Resolved::has_files);
        boot.sockets = self.mediations.iter().map(MediationRecord::socket).collect();
        if self.secrets.as_ref().is_some_and(Resolved::has_on_demand) {
            boot.sockets.push(ON_DEMAND.to_owned());
        }
    }

    /// Connects the machine's link. The gateway is there for as long as it is held.
    pub(crate) fn connect(&self, machine: &mut Machine) -> Result<Option<Gateway>, Error> {
        let (Some(parts), Some(link)) = (&self.gateway, machine.take_link()) else { return Ok(None) };
        let intercept = parts.intercept.clone().map(|looker| looker as Arc<dyn Intercept>);
        let options = Options {
            policy: parts.policy.clone(),
            log: Arc::clone(&parts.log),
            resolver: parts.resolver.clone(),
            proxies: parts.proxies.clone(),
            intercept,
        };
        Ok(Some(Gateway::start(link.into(), options)?))
    }

    /// Gives `user` of the guest, which is up, its secrets.
    pub(crate) fn deliver(&self, channel: &Channel, user: &str) -> Result<(), Error> {
        self.secrets.as_ref().map_or(Ok(()), |secrets| secrets.deliver(channel, user))
    }

    /// Opens everything that leads into the machine and out of it.
    pub(crate) fn open(&self, channel: &Channel) -> Result<Lines, Error> {
        if let Some(secrets) = self.secrets.as_ref().filter(|secrets| self.answers || secrets.has_on_demand()) {
            secrets.serve(channel);
        }
        for mediation in &self.mediations {
            mediation::serve(channel, mediation);
        }
        let mappings = self.held.iter().map(Held::mapping).collect();
        Ok(Lines { _forwards: Forwards::open(&self.held, channel)?, mappings })
    }

    /// What it takes to be the authority that its programs trust, where they trust one.
    pub(crate) fn authority(&self) -> Option<KeptAuthority> {
        self.authority.clone()
    }

    /// Whether the guest was given any secret, or may ask for one.
    pub(crate) fn has_secrets(&self) -> bool {
        self.secrets.is_some()
    }

    /// Whether secrets lie in files of the guest.
    pub(crate) fn has_secret_files(&self) -> bool {
        self.secrets.as_ref().is_some_and(Resolved::has_files)
    }

    /// What went out by now, and what did not.
    pub(crate) fn summary(&self) -> Option<Summary> {
        self.gateway.as_ref().map(|parts| parts.log.summary())
    }
}

/// The interceptor of a workspace whose connections are looked into, the certificate to trust, and what it takes to be trusted again.
fn looker(
    record: &WorkspaceRecord,
    log: &Arc<Log>,
    dialer: Dialer,
    kept: Option<&KeptAuthority>,
) -> Result<Option<(Arc<Looker>, String, KeptAuthority)>, Error> {
    if !intercepts(record) {
        return Ok(None);
    }
    let swaps = match serde_json::from_value::<SwapConfig>(record.swaps.clone()) {
        Ok(config) => config.resolve(&Sources::of_process())?,
        Err(_) if record.swaps.is_null() => Swaps::none(),
        Err(error) => {
            let reason = format!("`swaps` cannot be read: {error}");
            return Err(microagent_state::Error::BadRecord { path: "workspace.json".into(), reason }.into());
        }
    };
    let authority = kept.map_or_else(|| Authority::new(record.name.as_str()), Authority::of)?;
    let (certificate, keep) = (authority.certificate_pem().to_owned(), authority.keep());
    let (log, roots, connect) = (Arc::clone(log), Roots::of_host(), Arc::new(Way(dialer)));
    let options = microagent_intercept::Options { authority, swaps, log, roots, connect };
    Ok(Some((Arc::new(Looker(Interceptor::start(options)?)), certificate, keep)))
}

/// Where distributions keep the certificates they trust: Debian, Arch and Alpine; Fedora and its relatives; SUSE.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// Largest of them that is passed on.
const MAX_ROOTS: usize = 1 << 20;

/// The certificates that this host trusts. Without any, a guest whose image has none either trusts nobody but the gateway.
fn host_roots() -> String {
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let places = named.into_iter().chain(ROOTS.map(std::path::PathBuf::from));
    let found = places.filter_map(|path| std::fs::read_to_string(path).ok());
    found.into_iter().find(|roots| roots.len() <= MAX_ROOTS).unwrap_or_default()
}

/// The addresses of this host, which no guest is to reach.
fn own_addresses() -> Result<Vec<IpAddr>, Error> {
    let found = if_addrs::get_if_addrs().map_err(|source| Error::OwnAddresses { source })?;
    Ok(found.iter().map(if_addrs::Interface::ip).collect())
}
