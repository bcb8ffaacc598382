//! What a file may say. The comments are the descriptions of the published schema.

use super::health::HealthKeys;
use super::{NotBuilt, Placed, Setup};
use microagent_state::MountMode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

type Unbuilt = Option<Placed<NotBuilt>>;

/// A workspace, as `microagent.yaml` or the JSON of a request describes it. Every key may be left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(title = "microagent workspace")]
pub struct WorkspaceSpec {
    /// Name of the workspace.
    pub name: Option<String>,
    /// The same as `name`, as requests call it.
    pub id: Option<String>,
    /// Image reference.
    pub image: Option<String>,
    /// Root file system to use instead of an image, ext4 or EROFS. It is never written to.
    pub rootfs: Option<PathBuf>,
    /// Kernel image to boot instead of the installed one.
    pub kernel: Option<PathBuf>,
    /// Resource profile: tiny, small, medium or large.
    pub profile: Option<String>,
    /// When `supervise` starts the workspace again.
    pub restart: Option<RestartPolicy>,
    /// Command of every start, instead of the image's entry point. Split into words as a shell does.
    pub entrypoint: Option<String>,
    /// Shell command line of every start.
    pub service: Option<String>,
    /// Whether every start runs the image's own entry point and command.
    pub image_command: Option<bool>,
    /// Shell of interactive sessions, a path in the guest.
    pub shell: Option<String>,
    /// Guest host name.
    pub hostname: Option<String>,
    /// Label that is kept with the workspace and means nothing here.
    pub role: Option<String>,
    /// Working directory of commands.
    pub workdir: Option<String>,
    /// `USER[:GROUP]` of commands.
    pub user: Option<String>,
    /// Commands that are run as root, in order, once.
    pub setup: Option<Setup>,
    /// Shell scripts of the host that are run after `setup` in the same way.
    pub setup_files: Vec<PathBuf>,
    /// Files of the host that are put into the workspace before its set-up.
    pub files: Vec<InjectedFile>,
    /// Environment of commands, on top of the image's.
    #[schemars(with = "BTreeMap<String, Scalar>")]
    pub env: BTreeMap<String, String>,
    /// Size of the machine, where it differs from the profile's.
    pub resources: ResourceKeys,
    /// Network of the machine.
    pub network: NetworkKeys,
    /// What may leave it.
    pub egress: EgressKeys,
    /// Secrets that become files below `/run/secrets`: `scheme:reference` by name.
    pub secrets: BTreeMap<String, String>,
    /// Secrets that are fetched when they are needed, in the same way.
    pub secrets_on_demand: BTreeMap<String, String>,
    /// Files of `KEY=value` lines, each line a secret.
    pub secrets_env_files: Vec<PathBuf>,
    /// Whether each access to a secret is written down.
    pub secrets_audit: Option<bool>,
    /// Existing ext4 disks.
    pub disks: Vec<AttachedDisk>,
    /// Tar archives that become disks.
    pub bundles: Vec<AttachedDisk>,
    /// Named volumes.
    pub volumes: Vec<AttachedVolume>,
    /// Guest paths that are artifacts.
    pub outputs: Vec<OutputPath>,
    /// Time after its start at which the workspace is halted.
    pub ttl: Option<Ttl>,
    /// What tells whether the workspace is well.
    #[serde(deserialize_with = "super::health::checked")]
    pub health: Option<HealthKeys>,
    /// Services of the host that the workspace reaches, one or several.
    pub mediation: Option<Mediations>,
    /// Model that is served to the guest.
    pub model: Unbuilt,
    /// How that is served.
    pub model_runner: Unbuilt,
    /// What the guest may ask of it.
    pub model_mediation: Unbuilt,
    /// Why a risky composition is wanted.
    pub acknowledge_capability_risk: Unbuilt,
    /// What makes the file an agent's.
    pub agent: Unbuilt,
    /// Where relative paths start.
    #[serde(skip)]
    pub base: PathBuf,
}

/// A scalar: what it is written as counts.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum Scalar {
    Text(String),
    Number(f64),
    Boolean(bool),
}

/// When `supervise` starts a workspace again that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Not at all.
    Never,
    /// When it failed.
    OnFailure,
    /// When it ended by itself, however it did.
    Always,
}

impl RestartPolicy {
    /// The policy as flags and records call it.
    pub const fn name(self) -> &'static str {
        match self {
            RestartPolicy::Never => "never",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Always => "always",
        }
    }
}

/// Size of a machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceKeys {
    /// RAM in MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: Option<u32>,
    /// Virtual processors.
    pub cpu_count: Option<u32>,
    /// Size of the writable disk in MiB.
    #[serde(rename = "sizeMiB")]
    pub size_mib: Option<u64>,
    /// Least room on the writable disk in MiB, where its size is not given.
    #[serde(rename = "headroomMiB")]
    pub headroom_mib: Option<u64>,
}

/// Network of a machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkKeys {
    /// How it is connected.
    pub mode: Option<Placed<NetworkMode>>,
    /// Ports of the host that lead into the guest.
    pub forwards: Option<Vec<Forward>>,
    /// Name servers.
    pub dns: Unbuilt,
    /// Routes.
    pub routes: Unbuilt,
    /// Address of the guest.
    pub ip: Unbuilt,
    /// Its network.
    pub subnet: Unbuilt,
    /// Its gateway.
    pub gateway: Unbuilt,
    /// Address of the guest.
    pub ipv6: Unbuilt,
    /// Its network.
    #[serde(rename = "ipv6Subnet")]
    pub ipv6_subnet: Unbuilt,
    /// Its gateway.
    #[serde(rename = "ipv6Gateway")]
    pub ipv6_gateway: Unbuilt,
}

/// Network mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// No network interface.
    Isolated,
    /// The host's network through a gateway in user space.
    #[default]
    User,
    /// The host's network through address translation.
    Nat,
    /// A place of its own on a network of the host.
    Bridged,
}

impl NetworkMode {
    /// Whether it can be had.
    pub const fn is_supported(self) -> bool {
        matches!(self, NetworkMode::Isolated | NetworkMode::User)
    }

    /// The mode as flags and records call it.
    pub const fn name(self) -> &'static str {
        match self {
            NetworkMode::Isolated => "isolated",
            NetworkMode::User => "user",
            NetworkMode::Nat => "nat",
            NetworkMode::Bridged => "bridged",
        }
    }
}

/// A port of the host that leads into the guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    /// Protocol: `tcp`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Address of the host; loopback when absent.
    #[serde(default)]
    pub host: Option<String>,
    /// Port of the host; 0 takes one that is free.
    pub host_port: u16,
    /// Port of the guest.
    pub guest_port: u16,
}

/// What may leave a workspace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EgressKeys {
    /// What becomes of what is not listed: guarded, strict or off.
    pub mode: Option<EgressMode>,
    /// Hosts that are allowed, and whose TLS is ended at the gateway: a name, `.name` for all below it, or an address.
    pub allow: Vec<String>,
    /// Hosts that are allowed, and passed on as they are.
    pub passthrough: Vec<String>,
    /// Files with more of both.
    pub policy: Vec<PathBuf>,
    /// File that says which credentials are put into requests.
    pub swap_config: Option<PathBuf>,
    /// Providers whose credential is put into requests, as `PROVIDER[=scheme:reference]`.
    pub cred_swap: Vec<String>,
}

/// What becomes of what is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EgressMode {
    /// The public internet is allowed, and nothing inside.
    Guarded,
    /// Nothing is allowed.
    Strict,
    /// Everything is allowed, and nothing looked at.
    Off,
}

impl From<EgressMode> for microagent_egress::Mode {
    fn from(mode: EgressMode) -> microagent_egress::Mode {
        match mode {
            EgressMode::Guarded => microagent_egress::Mode::Guarded,
            EgressMode::Strict => microagent_egress::Mode::Strict,
            EgressMode::Off => microagent_egress::Mode::Off,
        }
    }
}

/// One service of the host, or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Mediations {
    /// One.
    One(MediatedService),
    /// Several.
    Several(Vec<MediatedService>),
}

/// A service of the host that a workspace reaches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MediatedService {
    /// Its number in the workspace.
    pub port: u16,
    /// `HOST:PORT` of the service.
    pub target: String,
    /// Whether it leads there at all; it does when absent.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Whether the workspace starts only when the service can be reached; it does when absent.
    #[serde(default)]
    pub required: Option<bool>,
    /// The same.
    #[serde(default)]
    pub fail_closed: Option<bool>,
}

/// A file of the host that is put into a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InjectedFile {
    /// The file.
    pub src: PathBuf,
    /// Its absolute path in the guest.
    pub dst: String,
    /// Its mode in octal, as in `"0755"`; what `src` has without anybody's right to write but its owner's when absent.
    #[serde(default)]
    pub mode: Option<String>,
}

/// A disk of the host, or an archive that becomes one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachedDisk {
    /// Its name among the disks of the workspace.
    pub name: String,
    /// The ext4 disk, or the tar archive.
    pub path: PathBuf,
    /// Where the guest mounts it.
    pub mountpoint: String,
    /// What the guest may do with it; `rw` for a disk and `ro` for an archive when absent.
    #[serde(default)]
    pub mode: Option<AttachedMode>,
}

/// A named volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachedVolume {
    /// Its name.
    pub name: String,
    /// Where the guest mounts it.
    pub mountpoint: String,
    /// What the guest may do with it; `rw` when absent.
    #[serde(default)]
    pub mode: Option<AttachedMode>,
}

/// What a guest may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// Only read it.
    Ro,
    /// Read and write it.
    Rw,
}

impl From<AttachedMode> for MountMode {
    fn from(mode: AttachedMode) -> MountMode {
        match mode {
            AttachedMode::Ro => MountMode::ReadOnly,
            AttachedMode::Rw => MountMode::ReadWrite,
        }
    }
}

/// A guest path that is an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputPath {
    /// Name of the artifact.
    pub name: String,
    /// Absolute path in the guest.
    pub path: String,
}

/// A time: a number of seconds, or a number with a unit as in `90s`, `30m` or `12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Duration);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ttl, D::Error> {
        struct Time;

        impl Visitor<'_> for Time {
            type Value = Ttl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds, or a time as in `30m` or `12h`")
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Ttl, E> {
                self.visit_str(&seconds.to_string())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Ttl, E> {
                super::parse_duration(text).map(Ttl).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Time).map_err(D::Error::custom)
    }
}

impl JsonSchema for Ttl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Ttl")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "A number of seconds, or a time as in `90s`, `30m` or `12h`.",
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^[0-9]+(ms|s|m|h)?$" }],
        })
    }
}
