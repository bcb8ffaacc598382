//! What a caller says about network and secrets, and whether it makes sense.

use crate::Error;
use crate::spec::NetworkMode;
use microagent_egress::{Host, Inside, Mode, PolicyFile, Rules};
use microagent_intercept::SwapConfig;
use microagent_secret::{Binding, Reference};
use microagent_state::{ForwardRecord, MediationRecord, SecretsRecord};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Network of a workspace.
#[derive(Clone, Debug, Default)]
pub struct NetworkOptions {
    /// How it is connected.
    pub mode: NetworkMode,
    /// Ports of the host that lead into it.
    pub forwards: Vec<ForwardRecord>,
    /// What may leave it.
    pub egress: Rules,
    /// Credentials that are put into its requests on their way out. Their hosts are allowed.
    pub swaps: SwapConfig,
    /// Services of the host that it reaches.
    pub mediations: Vec<MediationRecord>,
}

/// Secrets of a workspace.
#[derive(Clone, Debug, Default)]
pub struct SecretOptions {
    /// Those that become files below `/run/secrets`.
    pub files: Vec<Binding>,
    /// Those that are fetched when they are needed.
    pub on_demand: Vec<Binding>,
    /// Files of `KEY=value` lines, each line a secret.
    pub env_files: Vec<PathBuf>,
    /// Whether each access is written down.
    pub audit: bool,
}

impl NetworkOptions {
    /// Adds what a policy file lists.
    pub fn add_policy(&mut self, path: &Path) -> Result<(), Error> {
        PolicyFile::load(path)?.add_to(&mut self.egress);
        Ok(())
    }

    /// Adds the credentials of a configuration file. Relative paths in it start where it is.
    pub fn add_swaps(&mut self, path: &Path) -> Result<(), Error> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().unwrap_or(Path::new("/"));
        self.merge_swaps(SwapConfig::load(path)?, base)
    }

    /// Adds the credential of a provider: `PROVIDER[=ref]`. A relative path in it starts at `base`.
    pub fn add_provider(&mut self, text: &str, base: &Path) -> Result<(), Error> {
        self.merge_swaps(SwapConfig::provider(text)?, base)
    }

    fn merge_swaps(&mut self, mut swaps: SwapConfig, base: &Path) -> Result<(), Error> {
        for reference in swaps.references_mut() {
            *reference = rooted_reference(reference, base)?;
        }
        Ok(self.swaps.merge(swaps)?)
    }

    /// The rules that follow, if all of it makes sense together.
    pub(crate) fn check(&self) -> Result<Rules, Error> {
        if !self.mode.is_supported() {
            return Err(Error::NetworkUnsupported { mode: self.mode.name() });
        }
        let bad = |option, value: String, reason: &str| Error::BadOption { option, value, reason: reason.to_owned() };
        for (index, forward) in self.forwards.iter().enumerate() {
            if forward.host_port != 0 && self.forwards[..index].iter().any(|other| other.listens() == forward.listens())
            {
                return Err(bad("--publish", forward.to_string(), "the port of the host leads somewhere already"));
            }
        }
        for (index, mediation) in self.mediations.iter().enumerate() {
            if self.mediations[..index].iter().any(|other| other.port == mediation.port) {
                let value = format!("{}={}", mediation.port, mediation.target);
                return Err(bad("--mediation", value, "the number leads somewhere already"));
            }
        }
        let mut rules = self.egress.clone();
        if self.mode == NetworkMode::Isolated {
            if rules != Rules::default() || !self.swaps.is_empty() {
                let reason = "a machine without a network interface has nothing that could leave it";
                return Err(bad("--network", self.mode.name().to_owned(), reason));
            }
            return Ok(rules);
        }
        if rules.mode == Mode::Off && !self.swaps.is_empty() {
            let reason = "credentials are put into connections that are looked into, and in this mode none is";
            return Err(bad("--egress", rules.mode.to_string(), reason));
        }
        for host in self.swaps.hosts() {
            if let Some(passed) = rules.passthrough.iter().find(|passed| passed.meets(&host)) {
                let reason = "a credential is put in there, for which its connections are looked into";
                return Err(bad("--egress-passthrough", passed.to_string(), reason));
            }
            if !rules.allow.contains(&host) {
                rules.allow.push(host);
            }
        }
        rules.check()?;
        check_addresses("--egress-allow", &rules.allow)?;
        check_addresses("--egress-passthrough", &rules.passthrough)?;
        Ok(rules)
    }

    /// Fails where a variable in `env` would show the guest what a swap keeps from it.
    pub(crate) fn check_environment(&self, env: &BTreeMap<String, String>) -> Result<(), Error> {
        for (name, placeholder) in self.swaps.environment() {
            if env.get(&name).is_some_and(|value| *value != placeholder) {
                let reason = "a credential is swapped in for it, and the guest would have the value itself".to_owned();
                return Err(Error::BadOption { option: "--env", value: name, reason });
            }
        }
        Ok(())
    }
}

/// Fails where an address is listed that no list can allow. A name is asked for it only when it is looked up.
fn check_addresses(option: &'static str, hosts: &[Host]) -> Result<(), Error> {
    for host in hosts {
        if let Host::Address(address) = host
            && let Some(class) = Inside::of(*address, &[]).filter(|class| !class.can_be_listed())
        {
            let reason =
                format!("it is {class}, which no list can allow; `--mediation` leads to a service of the host");
            return Err(Error::BadOption { option, value: host.to_string(), reason });
        }
    }
    Ok(())
}

impl SecretOptions {
    /// As they are recorded, if no two have one name, however they are given.
    pub(crate) fn check(&self) -> Result<SecretsRecord, Error> {
        let mut record =
            SecretsRecord { env_files: self.env_files.clone(), audit: self.audit, ..SecretsRecord::default() };
        for (option, bindings, to) in [
            ("--secret", &self.files, &mut record.files),
            ("--secret-on-demand", &self.on_demand, &mut record.on_demand),
        ] {
            for binding in bindings {
                let before = to.insert(binding.name.to_string(), binding.reference.to_string());
                let is_file = option == "--secret-on-demand" && self.files.iter().any(|file| file.name == binding.name);
                if before.is_some() || is_file {
                    let reason = "another secret has that name".to_owned();
                    return Err(Error::BadOption { option, value: binding.name.to_string(), reason });
                }
            }
        }
        Ok(record)
    }
}

/// A binding whose reference means the same file wherever it is resolved: a relative path in it starts at `base`.
pub fn rooted(binding: &Binding, base: &Path) -> Result<Binding, Error> {
    Ok(Binding { name: binding.name.clone(), reference: rooted_reference(&binding.reference, base)? })
}

fn rooted_reference(reference: &Reference, base: &Path) -> Result<Reference, Error> {
    let text = reference.to_string();
    let rooted = ["file:", "dotenv:"].iter().find_map(|scheme| {
        let path = text.strip_prefix(scheme)?;
        let is_relative = !path.starts_with(['/', '~']);
        is_relative.then(|| format!("{scheme}{}", base.join(path).display()))
    });
    Ok(rooted.unwrap_or(text).parse()?)
}

/// Reads `[HOST:]HOSTPORT:GUESTPORT[/tcp]`. An address of IPv6 stands in brackets. Without a host it is loopback.
pub fn parse_forward(text: &str) -> Result<ForwardRecord, Error> {
    let bad =
        |reason: &str| Error::BadOption { option: "--publish", value: text.to_owned(), reason: reason.to_owned() };
    let ports = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => text.strip_suffix("/tcp").unwrap_or(text),
        Some((_, "udp" | "sctp")) => return Err(bad("only TCP ports are published")),
        Some(_) => return Err(bad("a mapping is `[HOST:]HOSTPORT:GUESTPORT[/tcp]`")),
    };
    let shape = || bad("a mapping is `[HOST:]HOSTPORT:GUESTPORT[/tcp]`");
    let (rest, guest) = ports.rsplit_once(':').ok_or_else(shape)?;
    let (host, host_port) = match rest.rsplit_once(':') {
        Some((host, port)) => (parse_host(host).ok_or_else(|| bad("the host is to be an address of this host"))?, port),
        None => (IpAddr::V4(Ipv4Addr::LOCALHOST), rest),
    };
    let guest_port = guest.parse().ok().filter(|&port| port != 0).ok_or_else(|| bad("a port is from 1 to 65535"))?;
    let host_port =
        host_port.parse().map_err(|_| bad("a port of the host is from 0 to 65535; 0 takes one that is free"))?;
    Ok(ForwardRecord { host, host_port, guest_port })
}

fn parse_host(text: &str) -> Option<IpAddr> {
    if text == "localhost" {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Reads `PORT=HOST:PORT`.
pub fn parse_mediation(text: &str) -> Result<MediationRecord, Error> {
    let bad =
        |reason: &str| Error::BadOption { option: "--mediation", value: text.to_owned(), reason: reason.to_owned() };
    let (port, target) = text.split_once('=').ok_or_else(|| bad("a mediation is `PORT=HOST:PORT`"))?;
    let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(|| bad("a number is from 1 to 65535"))?;
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    match target.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) => {}
        _ => return Err(bad("the service is `HOST:PORT`")),
    }
    Ok(MediationRecord { port, target: target.to_owned(), optional: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_as_it_is_written() {
        for (text, listens, guest) in [
            ("8080:80", "127.0.0.1:8080", 80),
            ("0.0.0.0:0:80/tcp", "0.0.0.0:0", 80),
            ("[::1]:8080:80", "[::1]:8080", 80),
            ("localhost:1:2", "127.0.0.1:1", 2),
        ] {
            let forward = parse_forward(text).unwrap();
            assert_eq!((forward.listens().to_string().as_str(), forward.guest_port), (listens, guest), "{text}");
        }
    }

    #[test]
    fn a_mapping_that_cannot_be_meant_is_refused() {
        for text in [
            "",
            "80",
            ":80",
            "80:",
            "8080:0",
            "70000:80",
            "8080:80/udp",
            "8080:80/x",
            "host:80:80",
            "::1:80:80",
            "-1:2",
        ] {
            assert!(parse_forward(text).is_err(), "{text}");
        }
        for text in ["", "1", "0=a:1", "1=a", "1=:1", "1=a:0", "x=a:1", "70000=a:1"] {
            assert!(parse_mediation(text).is_err(), "{text}");
        }
        assert_eq!(parse_mediation("2048=127.0.0.1:9900").unwrap().socket(), "mediation-2048");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let check = |change: &dyn Fn(&mut NetworkOptions)| {
            let mut options = NetworkOptions::default();
            change(&mut options);
            options.check()
        };
        assert!(
            check(&|options| options.add_provider("openai", Path::new("/")).unwrap()).unwrap().allow[0]
                .has_name("api.openai.com")
        );
        let openai = |options: &mut NetworkOptions| options.add_provider("openai", Path::new("/")).unwrap();
        assert!(check(&|options| (options.mode, ()) = (NetworkMode::Isolated, openai(options))).is_err());
        assert!(check(&|options| (options.egress.mode, ()) = (Mode::Off, openai(options))).is_err());
        let passed = |options: &mut NetworkOptions| options.egress.passthrough.push(".openai.com".parse().unwrap());
        assert!(check(&|options| (openai(options), passed(options)).0).is_err());
        // A host of those that a credential is for.
        let below = |options: &mut NetworkOptions| options.egress.passthrough.push("a.x.example".parse().unwrap());
        let entry = serde_json::json!({ "type": "static", "domains": [".x.example"], "header": "A", "format": "{key}", "key_ref": "env:X" });
        let suffixed: SwapConfig = serde_json::from_value(serde_json::json!({ "swaps": { "x": entry } })).unwrap();
        assert!(check(&|options| (options.swaps = suffixed.clone(), below(options)).0).is_err());
        let below = |options: &mut NetworkOptions| options.egress.passthrough.push(".a.x.example".parse().unwrap());
        assert!(check(&|options| (options.swaps = suffixed.clone(), below(options)).0).is_err());
        assert!(check(&|options| options.mode = NetworkMode::Nat).is_err());
        for (host, is_refused) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("169.254.169.254", true),
            ("10.0.0.1", false),
            ("192.0.2.1", false),
            ("localhost", false),
        ] {
            let host: Host = host.parse().unwrap();
            assert_eq!(check(&|options| options.egress.allow.push(host.clone())).is_err(), is_refused, "{host}");
            assert_eq!(check(&|options| options.egress.passthrough.push(host.clone())).is_err(), is_refused, "{host}");
        }
        let variable = |name: &str| {
            let mut options = NetworkOptions::default();
            openai(&mut options);
            options.check_environment(&BTreeMap::from([(name.to_owned(), "sk-1".to_owned())]))
        };
        let error = variable("OPENAI_API_KEY").unwrap_err().to_string();
        assert!(error.contains("OPENAI_API_KEY") && !error.contains("sk-1"), "{error}");
        assert!(variable("OPENAI_BASE_URL").is_ok());
        let twice = parse_forward("8080:80").unwrap();
        assert!(check(&|options| options.forwards = vec![twice, twice]).is_err());
        let free = parse_forward("0:80").unwrap();
        assert!(check(&|options| options.forwards = vec![free, free]).is_ok());
    }

    #[test]
    fn a_secret_has_its_name_alone_however_it_is_given() {
        let binding = |name: &str| -> Binding { format!("{name}=env:X").parse().unwrap() };
        let check = |files: &[&str], on_demand: &[&str]| {
            let bindings = |names: &[&str]| names.iter().map(|name| binding(name)).collect();
            SecretOptions { files: bindings(files), on_demand: bindings(on_demand), ..SecretOptions::default() }.check()
        };
        assert!(check(&["A"], &["B"]).is_ok());
        for (files, on_demand) in [(&["A", "A"][..], &[][..]), (&[], &["A", "A"]), (&["A"], &["A"])] {
            assert!(check(files, on_demand).is_err(), "{files:?} {on_demand:?}");
        }
    }
}
