//! A certificate authority, and what it and others say about the servers.

use std::path::Path;

use crate::tool::{run, tool};

/// Wildcards cover one label, and some clients want two labels behind the star: hence the single names.
const NAMES: &str = "DNS:*.example, DNS:*.example.com, DNS:example.com, DNS:api.example, DNS:pinned.example, \
                     DNS:other.example, DNS:www.example, DNS:evil.example, DNS:alias.example, IP:192.0.2.10";

/// Leaves `ca.crt`, and `server.pem`, `expired.pem` and `wrong.pem` with their keys, in `directory`.
pub(super) fn make(directory: &Path) {
    let configuration = format!(
        "[req]\ndistinguished_name = name\n[name]\n\
         [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n\
         subjectKeyIdentifier = hash\n\
         [server]\n{SERVER}subjectAltName = {NAMES}\n\
         [wrong]\n{SERVER}subjectAltName = DNS:somewhere-else.invalid\n\
         [ca]\ndefault_ca = records\n\
         [records]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\npolicy = any\n\
         [any]\ncommonName = supplied\n"
    );
    std::fs::write(directory.join("openssl.cnf"), configuration).expect("writing the configuration of openssl");
    std::fs::write(directory.join("index"), "").expect("writing the index of openssl");
    let openssl = |arguments: &str| run(tool("openssl").current_dir(directory).args(arguments.split(' ')));
    let new_key = "-config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {new_key} -extensions authority -days 2 -subj /CN=test-CA -keyout ca.key -out ca.crt"));
    openssl(&format!("req {new_key} -subj /CN=test-server -keyout server.key -out server.csr"));
    let sign = "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile openssl.cnf";
    openssl(&format!("{sign} -extensions server -out server.crt"));
    openssl(&format!("{sign} -extensions wrong -out wrong.crt"));
    // Only this command dates back.
    let sign = "ca -config openssl.cnf -batch -notext -cert ca.crt -keyfile ca.key -in server.csr -extensions server";
    openssl(&format!("{sign} -startdate 20200101000000Z -enddate 20200102000000Z -out expired.crt"));
    let read = |name: String| std::fs::read(directory.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in ["server", "expired", "wrong"] {
        let chain = [read(format!("{name}.crt")), read("server.key".to_owned())].concat();
        std::fs::write(directory.join(format!("{name}.pem")), chain).expect("writing a certificate with its key");
    }
}

/// The extensions of every server certificate; the strictest clients want all of them.
const SERVER: &str = "basicConstraints = CA:FALSE\nkeyUsage = critical, digitalSignature\n\
                      extendedKeyUsage = serverAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n";
