//! Keys that are understood and whose part is not built yet. They are refused where they stand: a workspace that silently lacks what its
//! file asks for is worse than none.

use super::{NotBuilt, Placed, WorkspaceSpec};
use crate::Error;
use std::path::Path;

const LEAVE_OUT: &str = "leave it out";
const FIXED: &str =
    "leave it out: every guest is alone on its link, with the same addresses, and asks the host's resolver";
const MODES: &str =
    "`user` gives it the host's network through a gateway, without privileges; `isolated` gives it none";

type Asked = Option<Placed<NotBuilt>>;

/// Refuses the first of them.
pub(super) fn refuse(spec: &WorkspaceSpec, path: &Path) -> Result<(), Error> {
    let network = &spec.network;
    let mode = network.mode.filter(|mode| !mode.value.is_supported());
    let mode_name = mode.map_or("network.mode".to_owned(), |mode| format!("network.mode: {}", mode.value.name()));
    let asked: [(&str, Asked, &'static str); 14] = [
        (&mode_name, mode.map(|mode| unbuilt(&mode)), MODES),
        ("network.dns", network.dns, FIXED),
        ("network.routes", network.routes, FIXED),
        ("network.ip", network.ip, FIXED),
        ("network.subnet", network.subnet, FIXED),
        ("network.gateway", network.gateway, FIXED),
        ("network.ipv6", network.ipv6, FIXED),
        ("network.ipv6Subnet", network.ipv6_subnet, FIXED),
        ("network.ipv6Gateway", network.ipv6_gateway, FIXED),
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
