//! The table of `docs/lifecycle.md`.

use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../../../../../docs/lifecycle.md");

/// What an operation makes of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The workspace is in this state afterwards; `absent` if there is none.
    Becomes(String),
    /// Nothing changes, and that is no error.
    Same,
    /// Nothing changes, and the operation fails.
    Refused,
}

/// Outcomes by operation and state.
pub(super) struct Table {
    pub(super) states: Vec<String>,
    rows: BTreeMap<String, BTreeMap<String, Outcome>>,
}

impl Table {
    pub(super) fn read() -> Table {
        let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with("| operation"));
        let states: Vec<String> = cells(lines.next().unwrap()).into_iter().skip(1).collect();
        let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| {
            let mut row = cells(line);
            let operation = row.remove(0).replace('`', "");
            assert_eq!(row.len(), states.len(), "{line}");
            (operation, states.iter().cloned().zip(row.iter().map(|cell| outcome(cell, &states))).collect())
        });
        Table { rows: rows.collect(), states: states.clone() }
    }

    pub(super) fn operations(&self) -> Vec<&str> {
        self.rows.keys().map(String::as_str).collect()
    }

    pub(super) fn outcome(&self, operation: &str, state: &str) -> &Outcome {
        &self.rows[operation][state]
    }
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn outcome(cell: &str, states: &[String]) -> Outcome {
    match cell {
        "=" => Outcome::Same,
        "refused" => Outcome::Refused,
        state => {
            assert!(states.iter().any(|known| known == state), "`{state}` is no state");
            Outcome::Becomes(state.to_owned())
        }
    }
}

/// A test of real machines shows that the program does as the table says; this one that the library's own table allows it.
#[test]
fn every_transition_of_the_table_is_one_the_library_allows() {
    let table = Table::read();
    let phase = |state: &str| microagent::Phase::ALL.into_iter().find(|phase| phase.to_string() == state);
    for operation in table.operations() {
        for state in &table.states {
            let Outcome::Becomes(next) = table.outcome(operation, state) else { continue };
            let (Some(from), Some(to)) = (phase(state), phase(next)) else { continue };
            let directly = from.may_become(to);
            let through = |between: microagent::Phase| from.may_become(between) && between.may_become(to);
            let allowed = directly || through(microagent::Phase::Starting) || through(microagent::Phase::Stopping);
            assert!(allowed, "`{operation}` takes {from} to {to}");
        }
    }
}
