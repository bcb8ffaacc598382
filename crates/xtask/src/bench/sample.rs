//! Measurements of one thing, and of several in turns.

use std::array;
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

/// Runs `command` to its end and returns how many milliseconds that took.
pub(super) fn time(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    tool::capture(command)?;
    Ok(milliseconds_since(begun))
}

/// Milliseconds since `begun`.
pub(super) fn milliseconds_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// Something that can be measured again and again, in milliseconds.
pub(super) type Side<'a> = &'a dyn Fn() -> Result<f64>;

/// Measures each of `sides` as often as `times` says: one after the other, forwards and backwards in turn.
pub(super) fn in_turns<const N: usize>(times: usize, sides: [Side<'_>; N]) -> Result<[Sample; N]> {
    let mut samples = array::from_fn(|_| Sample::default());
    for turn in 0..times {
        for place in 0..N {
            let side = if turn % 2 == 0 { place } else { N - 1 - place };
            samples[side].add(sides[side]()?);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn one_slow_measurement_does_not_move_the_median() {
        let mut sample = Sample::default();
        for milliseconds in [3.0, 900.0, 1.0, 2.0, 2.5] {
            sample.add(milliseconds);
        }
        assert_eq!(sample.to_string(), "2.5 (1.0-900.0)");
    }

    #[test]
    fn no_side_always_comes_first() {
        let order = RefCell::new(String::new());
        let side = |name: char| {
            order.borrow_mut().push(name);
            Ok(0.0)
        };
        in_turns(3, [&|| side('a'), &|| side('b')]).unwrap();
        assert_eq!(order.into_inner(), "abbaab");
    }
}
