//! Keys that are understood and whose part is not built yet. They are refused where they stand: a workspace that silently lacks what its
//! file asks for is worse than none.

use super::{NetworkMode, NotBuilt, Placed, WorkspaceSpec};
use crate::Error;
use std::path::Path;

const LEAVE_OUT: &str = "leave it out";
const NO_NETWORK: &str = "leave it out: today's machines have no network interface, as with `mode: isolated`";

type Asked = Option<Placed<NotBuilt>>;

/// Refuses the first of them.
pub(super) fn refuse(spec: &WorkspaceSpec, path: &Path) -> Result<(), Error> {
    let network = &spec.network;
    let mode = network.mode.filter(|mode| mode.value != NetworkMode::Isolated);
    let mode_name = mode.map_or("network.mode".to_owned(), |mode| format!("network.mode: {}", mode.value.name()));
    let forwards = network.forwards.as_ref().filter(|forwards| !forwards.value.is_empty());
    let health = spec.health.as_ref();
    let asked: [(&str, Asked, &'static str); 18] = [
        (&mode_name, mode.map(|mode| unbuilt(&mode)), NO_NETWORK),
        ("network.forwards", forwards.map(unbuilt), NO_NETWORK),
        ("network.dns", network.dns, NO_NETWORK),
        ("network.routes", network.routes, NO_NETWORK),
        ("network.ip", network.ip, NO_NETWORK),
        ("network.subnet", network.subnet, NO_NETWORK),
        ("network.gateway", network.gateway, NO_NETWORK),
        ("network.ipv6", network.ipv6, NO_NETWORK),
        ("network.ipv6Subnet", network.ipv6_subnet, NO_NETWORK),
        ("network.ipv6Gateway", network.ipv6_gateway, NO_NETWORK),
        ("health.httpGet", health.and_then(|health| health.http_get), "probe with a command: `exec: [...]`"),
        ("health.port", health.and_then(|health| health.port), "probe with a command: `exec: [...]`"),
        ("mediation", spec.mediation, LEAVE_OUT),
        ("model", spec.model, LEAVE_OUT),
        ("modelRunner", spec.model_runner, LEAVE_OUT),
        ("modelMediation", spec.model_mediation, LEAVE_OUT),
        ("acknowledgeCapabilityRisk", spec.acknowledge_capability_risk, LEAVE_OUT),
        ("agent", spec.agent, LEAVE_OUT),
    ];
    let first = asked.into_iter().filter_map(|(key, asked, hint)| Some((asked?, key, hint)));
    match first.min_by_key(|(asked, ..)| (asked.line, asked.column)) {
        None => Ok(()),
        Some((asked, key, hint)) => Err(Error::SpecNotBuilt {
            path: path.to_owned(),
            line: asked.line,
            column: asked.column,
            key: key.to_owned(),
            hint,
        }),
    }
}

fn unbuilt<T>(asked: &Placed<T>) -> Placed<NotBuilt> {
    Placed { value: NotBuilt, line: asked.line, column: asked.column }
}
