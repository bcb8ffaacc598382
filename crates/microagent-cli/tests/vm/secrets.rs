//! Secrets: in the guest for whom they are meant, and nowhere on the host.

use crate::host::{BUSYBOX, Host, Ran};
use std::fs;
use std::path::Path;

const VALUE: &str = "s3cr3t-val7e-of-this-t3st";
/// One that stands in the environment of commands of other tests, at the same time.
const OTHER: &str = "an0ther-val7e-of-an0ther-t3st";

/// Every file below `directory` that holds `value`.
pub(crate) fn holders(directory: &Path, value: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            holders(&path, value, found);
        } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| memchr::memmem::find(&bytes, value).is_some()) {
            found.push(path);
        }
    }
}

fn holds(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, VALUE.as_bytes()).is_some()
}

#[test]
fn a_secret_is_a_file_of_its_user_and_nowhere_on_the_host() {
    let host = Host::new();
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("value");
    fs::write(&file, format!("{VALUE}\n")).unwrap();
    let secret = format!("TOKEN=file:{}", file.display());
    let create = ["create", "--name", "keeper", "--profile", "tiny", "--user", "agent", "--secret", &secret];
    host.microagent(create.iter().chain(&["--secrets-audit", "--image", BUSYBOX])).expect(0);
    host.microagent(["start", "keeper"]).expect(0);
    let ran = host.microagent([
        "exec",
        "keeper",
        "sh",
        "-c",
        "cat /run/secrets/TOKEN; stat -c %a:%u /run/secrets/TOKEN /run/secrets",
    ]);
    assert_eq!(ran.expect(0).text(), format!("{VALUE}400:1000\n700:1000\n"));
    // While the machine runs: in no file of ours, no argument and no environment. Its disk is a file of ours, too.
    let mut found = Vec::new();
    holders(host.state(), VALUE.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let path = process.path().join(file);
            assert!(!fs::read(&path).is_ok_and(|bytes| holds(&bytes)), "{}", path.display());
        }
    }
    let audit = host.microagent(["secret", "audit", "keeper"]).expect(0).text();
    assert!(audit.contains("delivered") && audit.contains("TOKEN"), "{audit}");
    // Another value at the next start.
    fs::write(&file, "changed").unwrap();
    host.microagent(["halt", "keeper"]).expect(0);
    host.microagent(["start", "keeper"]).expect(0);
    let ran = host.microagent(["exec", "keeper", "cat", "/run/secrets/TOKEN"]).expect(0);
    assert_eq!(ran.text(), "changed");
    // One that cannot be had keeps the machine from starting, and its reference is named.
    host.microagent(["halt", "keeper"]).expect(0);
    fs::remove_file(&file).unwrap();
    let refused = host.microagent(["start", "keeper"]);
    assert!(refused.status != 0 && refused.stderr.contains("value"), "{}", refused.stderr);
}

#[test]
fn a_run_is_given_secrets_of_its_environment_and_leaves_none() {
    let host = Host::new();
    let mut run = host.command([
        "run",
        "--quiet",
        "--profile",
        "tiny",
        "--network",
        "isolated",
        "--secret",
        "TOKEN=env:THE_TOKEN",
        "--image",
        BUSYBOX,
        "--exec",
        "wc -c < /run/secrets/TOKEN; env | grep -c TOKEN",
    ]);
    let ran: Ran = run.env("THE_TOKEN", OTHER).output().unwrap().into();
    assert_eq!(ran.expect(0).text(), format!("{}\n0\n", OTHER.len()));
    let mut found = Vec::new();
    holders(host.state(), OTHER.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    host.assert_nothing_left();
}

#[test]
fn a_secret_that_cannot_be_had_is_named_by_where_it_should_be() {
    let host = Host::new();
    let refused = host.microagent(["run", "--secret", "TOKEN=env:NO_SUCH_VARIABLE", BUSYBOX, "true"]);
    assert!(refused.status != 0 && refused.stderr.contains("NO_SUCH_VARIABLE"), "{}", refused.stderr);
    // What was pasted in the place of a reference is not repeated.
    let refused = host.microagent(["run", "--secret", &format!("TOKEN={OTHER}"), BUSYBOX, "true"]).expect(2);
    assert!(!refused.stderr.contains(OTHER), "{}", refused.stderr);
    let checked = host.microagent(["--json", "secret", "check", "TOKEN=env:NO_SUCH_VARIABLE"]).expect(1).json();
    assert_eq!((checked[0]["name"].as_str(), checked[0]["ok"].as_bool()), (Some("TOKEN"), Some(false)));
    host.assert_nothing_left();
}

#[test]
fn a_secret_on_demand_is_handed_out_by_name_and_written_to_no_file() {
    let host = Host::new();
    host.import_clients();
    let get = |name: &str| {
        format!(
            "curl -s -o /dev/stdout -w ' %{{http_code}}\\n' --unix-socket $MICROAGENT_SECRETS_SOCK http://secrets/{name}"
        )
    };
    let line = format!("{}; {}; ls /run/secrets 2>/dev/null | wc -l", get("TOKEN"), get("OTHER"));
    let demand = ["--secret-on-demand", "TOKEN=env:THE_TOKEN", "--secrets-audit", "--keep", "--name", "asker"];
    let run = ["run", "--quiet", "--profile", "tiny", "--network", "isolated"];
    let image = ["--image", crate::host::CLIENTS, "--exec", &line];
    let mut command = host.command(run.iter().chain(&demand).chain(&image));
    let ran: Ran = command.env("THE_TOKEN", OTHER).output().unwrap().into();
    let said = ran.expect(0).text();
    let expected = format!("{OTHER} 200\nno secret of that name is declared\n 403\n0\n");
    assert_eq!(said, expected);
    let audit = host.microagent(["secret", "audit", "asker"]).expect(0).text();
    assert!(audit.contains("fetched") && audit.contains("denied") && audit.contains("OTHER"), "{audit}");
}
