//! What is promised, and whether it holds.

use std::fmt;

/// A promise about one figure, and what was measured.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    what: &'static str,
    unit: &'static str,
    /// The most it may be.
    limit: f64,
    /// What it is, or why that could not be measured.
    measured: Result<f64, String>,
}

impl Goal {
    /// `measured` is to be at most `limit`, both in `unit`.
    pub(super) fn at_most(limit: f64, unit: &'static str, what: &'static str, measured: f64) -> Goal {
        Goal { what, unit, limit, measured: Ok(measured) }
    }

    /// A goal whose other side could not be measured.
    pub(super) fn unmeasured(limit: f64, unit: &'static str, what: &'static str, why: &str) -> Goal {
        Goal { what, unit, limit, measured: Err(why.to_owned()) }
    }

    fn verdict(&self) -> &'static str {
        match self.measured {
            Ok(measured) if measured <= self.limit => "PASS",
            // A figure that is no number is no success.
            Ok(_) => "MISS",
            Err(_) => "UNMEASURED",
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Goal { what, unit, limit, measured } = self;
        let figure = measured.as_ref().map_or("-".to_owned(), |figure| format!("{figure:.2} {unit}"));
        write!(out, "{what:<62}{figure:>12}{:>12}  {}", format!("{limit} {unit}"), self.verdict())?;
        measured.as_ref().map_or_else(|why| write!(out, " ({why})"), |_| Ok(()))
    }
}

/// Prints the table of all goals.
pub(super) fn print(goals: &[Goal]) {
    println!("\n{:<62}{:>12}{:>12}  verdict", "goal", "measured", "at most");
    for goal in goals {
        println!("{goal}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_up_to_its_limit_and_never_by_what_is_no_number() {
        let verdict = |measured| Goal::at_most(0.5, "x", "a", measured).verdict();
        assert_eq!([0.1, 0.5, 0.51, f64::NAN].map(verdict), ["PASS", "PASS", "MISS", "MISS"]);
        let shown = Goal::unmeasured(0.5, "x", "a", "no network").to_string();
        assert!(shown.ends_with("UNMEASURED (no network)"), "{shown}");
    }
}
