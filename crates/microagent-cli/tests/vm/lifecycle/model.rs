//! Operations at random, each compared with the table.

use super::machine;
use super::table::{Outcome, Table};
use crate::host::{BUSYBOX, Host, Ran};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How many operations are performed.
const OPERATIONS: usize = 500;
const NAMES: [&str; 3] = ["one", "two", "three"];
const ABSENT: &str = "absent";
/// Another sequence of operations: `MICROAGENT_TEST_SEED`.
const SEED: &str = "MICROAGENT_TEST_SEED";

/// One workspace as the model has it.
#[derive(Clone, Debug)]
struct Model {
    state: String,
    /// What was written to it and flushed last.
    written: Option<u64>,
}

/// xorshift64*, by which the sequence is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = usize::try_from(self.next() % from.len() as u64).unwrap();
        &from[index]
    }
}

struct Performance {
    host: Host,
    table: Table,
    models: [Model; NAMES.len()],
    history: String,
    tried: BTreeSet<(String, String)>,
}

impl Performance {
    /// Performs one operation on one workspace, and compares.
    fn step(&mut self, operation: &str, index: usize, number: u64) {
        let (name, before) = (NAMES[index], self.models[index].clone());
        let _ = writeln!(self.history, "{operation} {name} ({})", before.state);
        self.tried.insert((operation.to_owned(), before.state.clone()));
        let expected = self.table.outcome(operation, &before.state).clone();
        let ran = self.perform(operation, name, &before, number);
        if let Some(ran) = &ran {
            let refused = ran.status != 0;
            assert_eq!(refused, expected == Outcome::Refused, "{}{}\n{}", self.history, ran.stderr, ran.text());
        }
        if let Outcome::Becomes(state) = &expected {
            self.models[index].state.clone_from(state);
            if state == ABSENT {
                self.models[index].written = None;
            }
        }
        if operation == "exec" && expected == Outcome::Same {
            self.compare_content(index, ran.as_ref().unwrap());
            self.models[index].written = Some(number);
        }
        let seen = self.state(name);
        assert_eq!(seen, self.models[index].state, "after:\n{}", self.history);
    }

    fn perform(&self, operation: &str, name: &str, before: &Model, number: u64) -> Option<Ran> {
        let runs = matches!(before.state.as_str(), "running" | "paused");
        let reason = ["--reason", "the model", "--yes"];
        Some(match operation {
            "create" => self.host.microagent(["create", name, "--image", BUSYBOX, "--profile", "tiny"]),
            "kill" | "quarantine" => self.host.microagent([operation, name].iter().chain(&reason)),
            "delete --yes" => self.host.microagent(["delete", name, "--yes"]),
            "delete --force" => self.host.microagent(["delete", name, "--yes", "--force"]),
            "exec" => {
                // Says what was there, and leaves something new, for good.
                let line = format!("cat /mark 2>/dev/null; echo {number} > /mark && sync");
                self.host.microagent(["exec", name, "--", "/bin/sh", "-c", &line])
            }
            "cp" => {
                let copy = self.host.state().join("copied");
                self.host.microagent(["cp", &format!("{name}:/etc/passwd"), copy.to_str().unwrap()])
            }
            "snapshot create" => self.host.microagent(["snapshot", "create", name]),
            "gc" => self.host.microagent(["gc"]),
            "the supervisor dies" if runs => {
                machine::kill(machine::supervisor(&self.host, name));
                return None;
            }
            "the engine dies" if runs => {
                machine::kill(machine::engine(&self.host, name));
                // Its supervisor is about to write it down.
                self.host.microagent(["wait", name]).expect(1);
                return None;
            }
            "the supervisor dies" | "the engine dies" => return None,
            verb => self.host.microagent([verb, name]),
        })
    }

    fn compare_content(&self, index: usize, ran: &Ran) {
        let found = ran.text().trim().parse().ok();
        assert_eq!(found, self.models[index].written, "what was flushed is not there:\n{}", self.history);
    }

    /// The operations that change something about a workspace in `state`, and were not tried yet.
    fn untried(&self, state: &str) -> Vec<String> {
        let changes = |operation: &&str| matches!(self.table.outcome(operation, state), Outcome::Becomes(_));
        let operations = self.table.operations().into_iter().filter(changes).map(str::to_owned);
        operations.filter(|operation| !self.tried.contains(&(operation.clone(), state.to_owned()))).collect()
    }

    /// The state of a workspace, as the program tells it.
    fn state(&self, name: &str) -> String {
        let ran = self.host.microagent(["--json", "status", name]);
        if ran.status != 0 {
            assert!(ran.stderr.contains("workspace_not_found"), "{}", ran.stderr);
            return ABSENT.to_owned();
        }
        ran.json()["phase"].as_str().unwrap().to_owned()
    }
}

#[test]
fn five_hundred_random_operations_do_as_the_table_says() {
    let seed = std::env::var(SEED).map_or(0x006d_6963_726f, |seed| seed.parse().unwrap());
    let mut random = Random(seed);
    let model = Model { state: ABSENT.to_owned(), written: None };
    let models = [model.clone(), model.clone(), model];
    let mut performance = Performance {
        host: Host::new(),
        table: Table::read(),
        models,
        history: format!("{SEED}={seed}\n"),
        tried: BTreeSet::new(),
    };
    let operations: Vec<String> = performance.table.operations().into_iter().map(str::to_owned).collect();
    for number in 0..OPERATIONS as u64 {
        let index = usize::try_from(random.next() % NAMES.len() as u64).unwrap();
        let state = performance.models[index].state.clone();
        // What is refused or changes nothing is most of the table and little of a life: much of it is passed over.
        let untried = performance.untried(&state);
        let operation = loop {
            if !untried.is_empty() && random.next().is_multiple_of(3) {
                break random.choose(&untried).clone();
            }
            // One operation leads there, and many away.
            if state == "running" && random.next().is_multiple_of(4) {
                break "pause".to_owned();
            }
            let operation = random.choose(&operations);
            let eventful = matches!(performance.table.outcome(operation, &state), Outcome::Becomes(_));
            let ends = operation.starts_with("delete") || operation == "quarantine";
            let passed_over = match state.as_str() {
                // There is but one way out.
                "quarantined" if eventful => 1,
                // The end of a life comes seldom, or lives are short.
                _ if ends => 8,
                "running" if operation == "exec" => 1,
                _ if eventful => 1,
                _ => 5,
            };
            if random.next().is_multiple_of(passed_over) {
                break operation.clone();
            }
        };
        performance.step(&operation, index, number);
    }
    for state in &performance.table.states {
        assert_eq!(performance.untried(state), [""; 0], "never tried on a workspace that is {state}");
    }
    for name in NAMES {
        performance.host.microagent(["delete", name, "--yes", "--force"]).expect(0);
    }
    performance.host.await_no_engine();
    performance.host.assert_nothing_left();
}
