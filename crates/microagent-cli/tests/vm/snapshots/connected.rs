//! What becomes of connections, and of trust, where a machine goes on.

use crate::host::{BUSYBOX, CLIENTS, Host, Ran};
use crate::network::internet;
use microagent_testing::Internet;

#[track_caller]
fn on(host: &Host, internet: &Internet, arguments: &[&str]) -> String {
    Ran::from(host.command_on(internet, arguments).output().unwrap()).expect(0).text()
}

#[track_caller]
fn shell(host: &Host, internet: &Internet, name: &str, line: &str) -> String {
    on(host, internet, &["exec", name, "--", "sh", "-c", line])
}

#[test]
fn a_copy_has_a_link_of_its_own_and_connections_of_then_do_not_go_on() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    on(&host, &internet, &["create", "box", "--image", BUSYBOX, "--profile", "tiny"]);
    on(&host, &internet, &["start", "box"]);
    // One that is open while the machine is written down: it ends where its server does not know of it.
    let hold = "mknod /in p; (exec 3<>/in; nc api.example 80 <&3 > /answer; echo ended > /ended)";
    on(&host, &internet, &["exec", "box", "--detach", "--", "sh", "-c", hold]);
    shell(
        &host,
        &internet,
        "box",
        "until netstat -tn 2>/dev/null | grep -q ESTAB || grep -q ' 01 ' /proc/net/tcp; do sleep 0.1; done",
    );
    on(&host, &internet, &["snapshot", "create", "box", "open"]);
    on(&host, &internet, &["snapshot", "fork", "box:open", "--name", "copy"]);
    let ask = "printf 'GET /headers HTTP/1.0\\r\\nHost: api.example\\r\\n\\r\\n' > /in; \
               until [ -s /answer ] || [ -e /ended ]; do sleep 0.1; done; \
               if [ -s /answer ]; then echo answered; else echo ended; fi";
    assert_eq!(shell(&host, &internet, "copy", ask), "ended\n", "the copy's gateway knows nothing of it");
    assert_eq!(shell(&host, &internet, "box", ask), "answered\n", "the source's is what it was");
    for name in ["copy", "box"] {
        let again = shell(&host, &internet, name, "wget -qO- http://api.example/headers > /dev/null && echo through");
        assert_eq!(again, "through\n", "{name}");
    }
    on(&host, &internet, &["delete", "box", "copy", "--force"]);
}

#[test]
fn programs_that_trusted_the_gateway_go_on_trusting_it() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    host.import_clients();
    let create = ["create", "box", "--image", CLIENTS, "--profile", "tiny", "--egress", "strict"];
    on(&host, &internet, &[&create[..], &["--egress-allow", "api.example"]].concat());
    on(&host, &internet, &["start", "box"]);
    // It reads what it trusts once, when it starts.
    let client = "import ssl, urllib.request as request, os, time\n\
                  context = ssl.create_default_context()\n\
                  open('/ready', 'w').write('ready')\n\
                  while not os.path.exists('/go'): time.sleep(0.1)\n\
                  said = request.urlopen('https://api.example/headers', context=context).status\n\
                  open('/said.new', 'w').write(str(said)); os.rename('/said.new', '/said')\n";
    on(&host, &internet, &["exec", "box", "--detach", "--", "python3", "-c", client]);
    shell(&host, &internet, "box", "until [ -s /ready ]; do sleep 0.1; done");
    on(&host, &internet, &["snapshot", "create", "box", "trusting"]);
    on(&host, &internet, &["snapshot", "fork", "box:trusting", "--name", "copy"]);
    for name in ["copy", "box"] {
        let said = shell(&host, &internet, name, "echo > /go; until [ -s /said ]; do sleep 0.1; done; cat /said");
        assert_eq!(said, "200", "{name}");
    }
    on(&host, &internet, &["delete", "box", "copy", "--force"]);
}
