//! Two tables from the measurements: time and space, each against plain SQLite.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::compare::{Machine, Rounds, Row};
use crate::side::Side;
use crate::workloads::{Compared, Measured, Outcome};

/// Both tables, and what one has to know to read them.
pub(crate) fn render(machine: &Machine, rows: &[Row], markdown: bool) -> String {
    let mut text = preamble(machine, rows);

    let mut table = vec![header(&["workload", "plain, ms"], &["", ": CPU"], &["aim"])];
    table.extend(rows.iter().map(time_row));
    text.push_str(&print(&table, markdown));

    let mut table = vec![header(&["space, once the work is done", "plain, MiB"], &[""], &[])];
    // What several workloads read is listed once.
    let fixture = |row: &Row| row.workload.fixture;
    for together in rows.chunk_by(|a, b| fixture(a).is_some() && fixture(a) == fixture(b)) {
        table.extend(together.first().into_iter().flat_map(space_rows));
    }
    if table.len() > 1 {
        text.push('\n');
        text.push_str(&print(&table, markdown));
    }
    text
}

/// What did not work, or worked differently from plain SQLite.
pub(crate) fn failures(rows: &[Row]) -> Vec<String> {
    let mut failures = Vec::new();
    for row in rows {
        let mut answers = BTreeSet::new();
        for (side, rounds) in &row.sides {
            let errors = rounds.iter().filter_map(|outcome| outcome.as_ref().err());
            failures.extend(
                errors.map(|error| format!("{}, {}: {error}", row.workload.name, side.name())),
            );
            answers.extend(measured(rounds).map(|measured| measured.answer));
        }
        if answers.len() > 1 {
            failures.push(format!("{}: the sides found {answers:?}", row.workload.name));
        }
    }
    failures
}

fn preamble(machine: &Machine, rows: &[Row]) -> String {
    let [before, after] = machine.fsync.map(|fsync| fsync.as_secs_f64() * 1e3);
    let [idle, busy] = &machine.load;
    let versions: Vec<String> = Side::ALL
        .into_iter()
        .filter_map(|side| {
            let mut rounds = rows.iter().filter_map(|row| row.sides.get(&side));
            let version = rounds.find_map(|rounds| Some(measured(rounds).next()?.sqlite.clone()));
            Some(format!("{} {}", side.title(), version?))
        })
        .collect();
    format!(
        "{} cores, {}; load {idle} at the start, {busy} at the end; fsync of 4 KiB p50 {before:.3} \
         ms at the start, {after:.3} ms at the end.\nSQLite's version: {}.\n\
         Against plain, median (min..max) of {} rounds; CPU is user and system time.\n\n",
        machine.cores,
        machine.cpu,
        versions.join(", "),
        machine.rounds,
    )
}

const OTHERS: [Side; 3] = [Side::Larder, Side::LarderAwsLc, Side::Sqlcipher];

fn header(first: &[&str], of_each: &[&str], last: &[&str]) -> Vec<String> {
    let mut cells: Vec<String> = first.iter().map(ToString::to_string).collect();
    for side in OTHERS {
        cells.extend(of_each.iter().map(|what| format!("{}{what}", side.title())));
    }
    cells.extend(last.iter().map(ToString::to_string));
    cells
}

fn time_row(row: &Row) -> Vec<String> {
    let none = Rounds::new();
    let plain = row.sides.get(&Side::Plain).unwrap_or(&none);
    let wall = |measured: &Measured| measured.wall_ms;
    let cpu = |measured: &Measured| measured.cpu_ms;
    let time = Spread::of(measured(plain).map(wall)).map_or_else(missing, |spread| {
        format!("{:.*}", if spread.median < 10.0 { 2 } else { 0 }, spread.median)
    });
    let mut cells = vec![row.workload.title.to_owned(), time];
    for side in OTHERS {
        let rounds = row.sides.get(&side);
        for of in [&wall as &dyn Fn(&Measured) -> f64, &cpu] {
            cells.push(match rounds {
                Some(rounds) => time_cell(row.workload.compared, plain, rounds, of),
                None => missing(),
            });
        }
    }
    cells.push(row.workload.aim.to_owned());
    cells
}

fn time_cell(
    compared: Compared,
    plain: &Rounds,
    side: &Rounds,
    of: &dyn Fn(&Measured) -> f64,
) -> String {
    if side.iter().any(Result::is_err) {
        return "failed".to_owned();
    }
    if side.iter().any(|outcome| matches!(outcome, Ok(Outcome::Refused(_)))) {
        return "refused".to_owned();
    }
    let pairs = plain.iter().zip(side).filter_map(|pair| match pair {
        (Ok(Outcome::Measured(plain)), Ok(Outcome::Measured(side))) => Some((of(plain), of(side))),
        _ => None,
    });
    let spread = Spread::of(pairs.map(|(plain, side)| match compared {
        Compared::Ratio => side / plain,
        Compared::Difference => side - plain,
    }));
    let Some(Spread { min, median, max }) = spread else { return missing() };
    match compared {
        Compared::Ratio => format!("{median:.2} ({min:.2}..{max:.2})"),
        Compared::Difference => format!("{median:+.2} ({min:+.2}..{max:+.2}) ms"),
    }
}

/// The sizes of the last round; they hardly differ between rounds.
fn space_rows(row: &Row) -> Vec<Vec<String>> {
    let last = |side: Side| row.sides.get(&side).and_then(|rounds| measured(rounds).last());
    let space_row = |kind: &str, bytes: fn(&Measured) -> u64| {
        let plain = mebibytes(last(Side::Plain).map(bytes).filter(|bytes| *bytes > 0)?);
        let mut cells = vec![format!("{}: {kind}", row.workload.title), format!("{plain:.2}")];
        cells.extend(OTHERS.map(|side| {
            let ratio = last(side).map(|measured| mebibytes(bytes(measured)) / plain);
            ratio.map_or_else(missing, |ratio| format!("{ratio:.3}"))
        }));
        Some(cells)
    };
    let database = space_row("database", |measured| measured.database_bytes);
    let wal = space_row("WAL", |measured| measured.wal_bytes);
    database.into_iter().chain(wal).collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files, for three digits")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn measured(rounds: &Rounds) -> impl Iterator<Item = &Measured> {
    rounds.iter().filter_map(|outcome| match outcome {
        Ok(Outcome::Measured(measured)) => Some(measured),
        _ => None,
    })
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
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = *values.get(values.len() / 2)?;
        Some(Self { min, median, max })
    }
}

fn print(table: &[Vec<String>], markdown: bool) -> String {
    let mut text = String::new();
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| table.iter().filter_map(move |row| row.get(at)).map(|cell| cell.chars().count()))
        .map(|widths| widths.max().unwrap_or(0))
        .collect();
    for (number, row) in table.iter().enumerate() {
        if markdown {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.saturating_sub(1)));
            }
        } else {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line: Vec<String> = cells.collect();
            let _ = writeln!(text, "{}", line.join("  ").trim_end());
        }
    }
    text
}
