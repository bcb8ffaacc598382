//! Measurements of one thing.

use std::fmt;
use std::process::Command;
use std::time::Instant;

use crate::{Result, tool};

/// Measurements of one thing, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    measured: Vec<f64>,
}

impl Sample {
    /// Adds a measurement.
    pub(super) fn add(&mut self, milliseconds: f64) {
        let position = self.measured.partition_point(|other| *other < milliseconds);
        self.measured.insert(position, milliseconds);
    }

    /// Runs `command` to its end and adds the time it took.
    pub(super) fn time(&mut self, command: &mut Command) -> Result<()> {
        let begun = Instant::now();
        tool::capture(command)?;
        self.add(begun.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// The measurement in the middle.
    pub(super) fn median(&self) -> f64 {
        self.measured.get(self.measured.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [smallest, largest] = [self.measured.first(), self.measured.last()].map(|end| end.unwrap_or(&f64::NAN));
        write!(out, "{:.1} ({smallest:.1}-{largest:.1})", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_measurement_does_not_move_the_median() {
        let mut sample = Sample::default();
        for milliseconds in [3.0, 900.0, 1.0, 2.0, 2.5] {
            sample.add(milliseconds);
        }
        assert_eq!(sample.to_string(), "2.5 (1.0-900.0)");
    }
}
