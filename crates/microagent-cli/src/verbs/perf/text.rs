//! Measurements for people: a table of the spread, and what it was measured on.

use crate::output::{Text, labelled};
use crate::table;
use crate::verbs::status::resources;
use microagent::Start;
use microagent::perf::{
    ExecMeasurement, Footprint, Iteration, Measurement, Memory, PerfHost, Statistics, Steady, Subject, Summary,
};
use std::io::{self, Write};

const SPREAD: [&str; 5] = ["MIN", "P50", "P95", "MAX", "MEAN"];

impl Text for Measurement {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Summary { count, failures, phases_ms, total_ms } = &self.summary;
        let phases = phases_ms.0.iter().map(|(phase, spread)| (*phase, Some(*spread)));
        let total = (phases_ms.0.len() > 1).then_some(("total", *total_ms));
        spreads(out, "PHASE (ms)", phases.chain(total))?;
        for iteration in &self.iterations {
            if let Some(failure) = &iteration.failure {
                writeln!(out, "Iteration {} failed: {}", iteration.index, failure.message)?;
            }
        }
        labelled(out, &[("Iterations", format!("{count}, {failures} of them failed{}", starts(&self.iterations)))])?;
        circumstances(out, &self.subject, &self.host, &self.boundary)
    }
}

impl Text for ExecMeasurement {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.measurement.text(out)?;
        let guest = &self.guest;
        labelled(
            out,
            &[
                ("In the guest", format!("{} ms for each of {} processes", milliseconds(guest.mean_ms), guest.count)),
                ("Measured there", guest.boundary.clone()),
                ("Ratio", format!("{:.2}", self.ratio)),
            ],
        )
    }
}

impl Text for Footprint {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |what: String, memory: Memory| {
            let Memory { pss_kib, rss_kib, private_dirty_kib } = memory;
            vec![what, pss_kib.to_string(), rss_kib.to_string(), private_dirty_kib.to_string()]
        };
        let engines = self.engines.iter().map(|engine| row(format!("engine {}", engine.pid), engine.memory));
        let sums = [row("all engines".to_owned(), self.total), row("this program".to_owned(), self.own)];
        table::write(out, &["PROCESS (KiB)", "PSS", "RSS", "PRIVATE"], engines.chain(sums).collect())?;
        labelled(out, &[("Machines", self.summary.count.to_string())])?;
        circumstances(out, &self.subject, &self.host, &self.boundary)
    }
}

impl Text for Steady {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let summary = &self.summary;
        spreads(out, "", [("CPU (%)", summary.cpu_percent), ("PSS (KiB)", summary.pss_kib)])?;
        labelled(out, &[("Samples", summary.count.to_string())])?;
        circumstances(out, &self.subject, &self.host, &self.boundary)
    }
}

fn spreads<'a>(
    out: &mut dyn Write,
    what: &str,
    rows: impl IntoIterator<Item = (&'a str, Option<Statistics>)>,
) -> io::Result<()> {
    let rows = rows.into_iter().map(|(name, spread)| {
        let cells = match spread {
            Some(Statistics { min, p50, p95, max, mean }) => [min, p50, p95, max, mean].map(milliseconds),
            None => SPREAD.map(|_| "-".to_owned()),
        };
        [name.to_owned()].into_iter().chain(cells).collect()
    });
    table::write(out, &[&[what][..], &SPREAD].concat(), rows.collect())
}

fn circumstances(out: &mut dyn Write, subject: &Subject, host: &PerfHost, boundary: &str) -> io::Result<()> {
    let load = |load: Option<f64>| load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
    let engine = match &host.engine_version {
        Some(version) => format!("{} {version}", host.engine),
        None => host.engine.clone(),
    };
    let PerfHost { cores, kernel, backend, .. } = host;
    let processor = host.processor.as_deref().unwrap_or("unknown processor");
    labelled(
        out,
        &[
            ("Machine", format!("{} {} {}", subject.image, subject.profile, resources(subject.resources))),
            ("Host", format!("{cores} cores, {processor}, Linux {kernel}, {engine} ({backend})")),
            ("Load", format!("{} before, {} after", load(host.load_before), load(host.load_after))),
            ("Measured", boundary.to_owned()),
        ],
    )
}

/// How the machines came up, where that is known.
fn starts(iterations: &[Iteration]) -> String {
    let count = |wanted: Start| iterations.iter().filter(|iteration| iteration.start == Some(wanted)).count();
    let names = [(Start::Warm, "warm"), (Start::Cold, "cold"), (Start::MadeTemplate, "made a template")];
    let told: Vec<String> = names
        .into_iter()
        .map(|(start, name)| (count(start), name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}

/// Three digits are more than any of these figures is good for.
fn milliseconds(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_as_many_as_they_need() {
        let shown = [0.0, 0.126, 12.34, 99.96, 2263.4].map(milliseconds);
        assert_eq!(shown, ["0.00", "0.13", "12.3", "100.0", "2263"]);
    }
}
