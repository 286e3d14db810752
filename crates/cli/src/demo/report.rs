//! What the demo found out: checks that passed or failed, and figures.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::{Output, duration, shortened};

/// One check and its outcome.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    ms: u64,
}

/// Prints each check as it is made; keeps all for the JSON document and the exit code.
#[derive(Debug)]
pub(crate) struct Report {
    out: Output<'static>,
    checks: Vec<Check>,
    figures: Map<String, Value>,
    lines: Vec<(&'static str, String)>,
    since: Instant,
}

impl Report {
    pub(crate) fn new(out: Output<'static>) -> Self {
        let (checks, figures, lines) = (Vec::new(), Map::new(), Vec::new());
        Self { out, checks, figures, lines, since: Instant::now() }
    }

    pub(crate) fn heading(&mut self, text: &str) -> anyhow::Result<()> {
        self.since = Instant::now();
        self.out.line(&format!("\n{text}"))
    }

    /// A check that took the time since the one before it, or since its heading.
    pub(crate) fn check(
        &mut self,
        name: &'static str,
        ok: bool,
        detail: impl Into<String>,
    ) -> anyhow::Result<Duration> {
        let detail = detail.into();
        let took = self.since.elapsed();
        let mark = if ok { "✓" } else { "✗ FAILED:" };
        let text = shortened(&detail, 88);
        self.out.line(&format!("  {mark} {text:<78}  {:>9}", duration(took)))?;
        self.checks.push(Check { name, ok, detail, ms: milliseconds(took) });
        self.since = Instant::now();
        Ok(took)
    }

    /// A line that checks nothing.
    pub(crate) fn tell(&self, text: &str) -> anyhow::Result<()> {
        self.out.line(&format!("    {text}"))
    }

    /// A figure: for JSON under a name that says its unit, for people as a line.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    pub(crate) fn figure_line(&mut self, about: &'static str, text: impl Into<String>) {
        self.lines.push((about, text.into()));
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The figures and the verdict; as JSON, everything in one document.
    pub(crate) fn finish(&self, total: Duration, kept: Option<&str>) -> anyhow::Result<()> {
        let failed = self.checks.iter().filter(|check| !check.ok).count();
        self.out.line("\nFigures")?;
        for (about, text) in &self.lines {
            self.out.line(&format!("  {about:<34}{text}"))?;
        }
        let checks = self.checks.len();
        self.out.line(&match failed {
            0 => format!("\nAll {checks} checks passed in {}.", duration(total)),
            _ => format!("\n{failed} of {checks} checks FAILED ({}).", duration(total)),
        })?;
        if let Some(dir) = kept {
            self.out.line(&format!("Kept in {dir}: passphrase.txt opens both profiles."))?;
        }
        self.out.json(&serde_json::json!({
            "ok": failed == 0,
            "checks": self.checks,
            "figures": self.figures,
            "ms": milliseconds(total),
            "kept": kept,
        }))
    }
}

pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_check_fails_the_report() {
        let mut report = Report::new(Output::own(true));
        assert!(report.is_ok());
        report.check("first", true, "fine").unwrap();
        report.check("second", false, "not fine").unwrap();
        report.check("third", true, "fine").unwrap();
        assert!(!report.is_ok());
    }
}
