//! What is said about many measurements of the same thing.

use serde::{Serialize, Serializer};

/// The spread of some measurements. Percentiles are by nearest rank: always one of the measurements, never something between two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// The smallest.
    pub min: f64,
    /// At least half of them are no larger.
    pub p50: f64,
    /// At least 95 of a hundred are no larger; with fewer than twenty it is the largest.
    pub p95: f64,
    /// The largest.
    pub max: f64,
    /// Their sum divided by their number.
    pub mean: f64,
}

impl Statistics {
    /// The spread of `values`; `None` when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Statistics> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let percentile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
        #[allow(clippy::cast_precision_loss, reason = "no more measurements than a float can count")]
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        Some(Statistics { min, p50: percentile(50), p95: percentile(95), max, mean: round(mean) })
    }
}

/// To a thousandth: of a millisecond, a KiB or a percent, more digits are noise.
pub(super) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Something for each phase, in the order of the phases; a map in JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByPhase<T>(pub Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for ByPhase<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(phase, value)| (phase, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_measurement_of_the_nearest_rank() {
        let of = |count: u32| Statistics::of((1..=count).rev().map(f64::from)).unwrap();
        assert_eq!(of(1), Statistics { min: 1.0, p50: 1.0, p95: 1.0, max: 1.0, mean: 1.0 });
        assert_eq!(of(4), Statistics { min: 1.0, p50: 2.0, p95: 4.0, max: 4.0, mean: 2.5 });
        assert_eq!(of(9), Statistics { min: 1.0, p50: 5.0, p95: 9.0, max: 9.0, mean: 5.0 });
        assert_eq!(of(100), Statistics { min: 1.0, p50: 50.0, p95: 95.0, max: 100.0, mean: 50.5 });
    }

    #[test]
    fn nothing_measured_has_no_spread() {
        assert_eq!(Statistics::of([]), None);
    }
}
