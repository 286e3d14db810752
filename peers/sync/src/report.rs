//! The table: Larder's figure, the other side's, their ratio, and what was aimed at.

use std::fmt::Write as _;

use crate::compare::{Machine, Rounds, Row};
use crate::workloads::{Compared, Line, Side};

/// The table, and what one has to know to read it.
pub(crate) fn render(machine: &Machine, rows: &[Row], markdown: bool) -> String {
    let mut text = preamble(machine);
    let header = ["workload", "what", "larder", "beside", "ratio or figure", "aim", ""];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for row in rows {
        table.extend(row.workload.lines.iter().filter_map(|line| cells(row, line)));
    }
    print(&mut text, &table, markdown);
    text.push('\n');
    let is_there = |side: &Side| rows.iter().any(|row| row.sides.contains_key(side));
    for side in Side::ALL.into_iter().filter(is_there) {
        let _ = writeln!(text, "- {}: {}.", side.name(), side.about());
    }
    text
}

/// What did not work.
pub(crate) fn failures(row: &Row) -> Vec<String> {
    let of = |(side, rounds): (&Side, &Rounds)| -> Vec<String> {
        let errors = rounds.iter().filter_map(|outcome| outcome.as_ref().err());
        errors.map(|error| format!("{}, {}: {error}", row.workload.name, side.name())).collect()
    };
    row.sides.iter().flat_map(of).collect()
}

fn preamble(machine: &Machine) -> String {
    let [before, after] = machine.fsync.map(|fsync| {
        format!("{:.3} (p95 {:.3})", fsync.p50.as_secs_f64() * 1e3, fsync.p95.as_secs_f64() * 1e3)
    });
    let [idle, busy] = &machine.load;
    let quick = if machine.quick { "QUICK: these figures mean nothing.\n" } else { "" };
    format!(
        "{quick}{} cores, {}; load {idle} at the start, {busy} at the end; fsync of 4 KiB p50 \
         {before} ms at the start, {after} ms at the end.\n\
         Median (min..max) of {} rounds; a ratio is of the same round.\n\n",
        machine.cores, machine.cpu, machine.rounds,
    )
}

/// One line of the table; none if the side beside which it stands is not there.
fn cells(row: &Row, line: &Line) -> Option<Vec<String>> {
    let metric = |side: Side| -> Vec<f64> {
        let rounds = row.sides.get(&side).into_iter().flatten();
        rounds.filter_map(|outcome| outcome.as_ref().ok()?.get(line.metric).copied()).collect()
    };
    let ours = metric(Side::Larder);
    let (beside, compared) = match line.compared {
        Compared::Alone => ("–".to_owned(), ours.clone()),
        Compared::Ratio(side) => {
            row.sides.get(&side)?;
            let theirs = metric(side);
            let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
            (format!("{} {}", side.name(), figure(&theirs, line.unit)), ratios)
        }
    };
    let aim = line.aim.map_or_else(|| "–".to_owned(), |aim| format!("≤ {aim}"));
    let verdict = match (line.aim, Spread::of(&compared)) {
        (_, None) => "failed",
        (Some(aim), Some(spread)) if spread.median > aim => "missed",
        (Some(_), Some(_)) => "met",
        (None, Some(_)) => "",
    };
    Some(vec![
        row.workload.name.to_owned(),
        line.title.to_owned(),
        figure(&ours, line.unit),
        beside,
        Spread::of(&compared).map_or_else(missing, |s| s.shown()),
        aim,
        verdict.to_owned(),
    ])
}

fn figure(values: &[f64], unit: &str) -> String {
    Spread::of(values)
        .map_or_else(missing, |spread| format!("{} {unit}", number(spread.median)))
        .trim_end()
        .to_owned()
}

fn number(value: f64) -> String {
    let places = if value.abs() >= 100.0 { 0 } else { 2 };
    format!("{value:.places$}")
}

fn missing() -> String {
    "–".to_owned()
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = *values.get(values.len() / 2)?;
        Some(Self { min, median, max })
    }

    fn shown(&self) -> String {
        format!("{} ({}..{})", number(self.median), number(self.min), number(self.max))
    }
}

fn print(text: &mut String, table: &[Vec<String>], markdown: bool) {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| table.iter().filter_map(move |row| row.get(at)).map(|cell| cell.chars().count()))
        .map(|widths| widths.max().unwrap_or(0))
        .collect();
    for (number, row) in table.iter().enumerate() {
        if markdown {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(columns));
            }
        } else {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line: Vec<String> = cells.collect();
            let _ = writeln!(text, "{}", line.join("  ").trim_end());
        }
    }
}
