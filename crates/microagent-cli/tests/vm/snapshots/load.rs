//! A database that is written to while its machine is written down.

use super::shell;
use crate::host::{CLIENTS, Host};
use microagent_testing::{run, tool};

/// Moves money from one account to another, for ever: the sum stays the same.
const BANK: &str = r"
import os, sqlite3
base = sqlite3.connect('/bank.db', isolation_level=None)
base.execute('pragma journal_mode=wal')
base.execute('create table if not exists accounts (id integer primary key, money integer)')
base.execute('begin')
for account in range(100):
    base.execute('insert or ignore into accounts values (?, 1000)', (account,))
base.execute('commit')
moves = 0
while True:
    base.execute('begin immediate')
    base.execute('update accounts set money = money - 7 where id = ?', (moves % 100,))
    base.execute('update accounts set money = money + 7 where id = ?', ((moves * 31 + 1) % 100,))
    base.execute('commit')
    moves += 1
    open('/moves.new', 'w').write(str(moves))
    os.rename('/moves.new', '/moves')
";

const AUDIT: &str = "import sqlite3; base = sqlite3.connect('/bank.db', timeout=60); \
                     print(base.execute('pragma integrity_check').fetchone()[0], \
                     base.execute('select sum(money) from accounts').fetchone()[0])";

#[test]
fn a_database_is_whole_in_every_copy_that_was_taken_while_it_was_written_to() {
    let host = Host::new();
    host.import_clients();
    host.microagent(["create", "bank", "--image", CLIENTS, "--profile", "small"]).expect(0);
    host.microagent(["start", "bank"]).expect(0);
    host.microagent(["exec", "bank", "--detach", "--", "python3", "-c", BANK]).expect(0);
    let moved = |name: &str| -> u32 {
        shell(&host, name, "while [ ! -s /moves ]; do sleep 0.1; done; cat /moves").trim().parse().unwrap()
    };
    for round in 0..2 {
        let before = moved("bank");
        let tag = format!("round{round}");
        host.microagent(["snapshot", "create", "bank", &tag]).expect(0);
        let copy = format!("copy{round}");
        host.microagent(["snapshot", "fork", &format!("bank:{tag}"), "--name", &copy]).expect(0);
        assert!(moved(&copy) >= before, "the copy goes on");
        let audit = host.microagent(["exec", &copy, "--", "python3", "-c", AUDIT]).expect(0).text();
        assert_eq!(audit, "ok 100000\n");
        host.microagent(["halt", &copy]).expect(0);
        // Its file system is whole, too.
        let disk = host.state().join("workspaces").join(&copy).join("rootfs.ext4");
        run(tool("e2fsck").args(["-f", "-n"]).arg(disk));
        host.microagent(["delete", &copy, "--yes"]).expect(0);
    }
    // The disk alone, as after a power cut.
    host.microagent(["create", "again", "--from-snapshot", "bank:round1", "--disk-only"]).expect(0);
    host.microagent(["start", "again"]).expect(0);
    let audit = host.microagent(["exec", "again", "--", "python3", "-c", AUDIT]).expect(0).text();
    assert_eq!(audit, "ok 100000\n");
    host.microagent(["delete", "bank", "again", "--force"]).expect(0);
}
