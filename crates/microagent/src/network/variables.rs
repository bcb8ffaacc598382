//! What the commands of a workspace find in their environment because of its network and its secrets.

use microagent_intercept::SwapConfig;
use microagent_protocol::{ON_DEMAND, PRIVATE, TRUST};
use microagent_state::WorkspaceRecord;
use std::collections::BTreeMap;

/// By which programs are told where certificates are: OpenSSL and most others; curl; Python's requests, and pip; Node; Git; the AWS tools;
/// Deno.
const TRUST_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
];

/// The variable that names the socket of secrets on demand.
const SECRETS_SOCKET: &str = "MICROAGENT_SECRETS_SOCK";

/// Whether connections of the workspace are looked into, so that its programs have to trust who does.
pub(crate) fn intercepts(record: &WorkspaceRecord) -> bool {
    super::has_network(record) && record.egress.intercepts_any()
}

/// Where the commands of the workspace are told that Java is.
pub(super) fn java_home(record: &WorkspaceRecord) -> Option<String> {
    let environment = crate::plan::environment(record, &record.env);
    environment.iter().find_map(|pair| pair.strip_prefix("JAVA_HOME=")).map(str::to_owned)
}

/// The variables, which those of the user override.
pub(crate) fn variables(record: &WorkspaceRecord) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if intercepts(record) {
        variables.extend(TRUST_VARIABLES.map(|name| (name.to_owned(), TRUST.to_owned())));
        if let Ok(swaps) = serde_json::from_value::<SwapConfig>(record.swaps.clone()) {
            variables.extend(swaps.environment());
        }
    }
    if !record.secrets.on_demand.is_empty() {
        variables.insert(SECRETS_SOCKET.to_owned(), format!("{PRIVATE}/{ON_DEMAND}.sock"));
    }
    for mediation in &record.mediations {
        let name = format!("MICROAGENT_MEDIATION_{}", mediation.port);
        variables.insert(name, format!("{PRIVATE}/{}.sock", mediation.socket()));
    }
    variables
}
