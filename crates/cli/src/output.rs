//! What goes to stdout (results) and stderr (progress, messages), for people or as JSON.
//!
//! Text that came from a document or a peer passes [`printable`] first: a label must not be able
//! to move the cursor of somebody's terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::console::Console;

/// Where a command's text goes: results, progress and messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output<'a> {
    json: bool,
    console: &'a Console,
}

impl Output<'static> {
    /// This process's own stdout and stderr.
    pub(crate) const fn own(json: bool) -> Self {
        Self { json, console: &Console::Own }
    }
}

impl<'a> Output<'a> {
    pub(crate) const fn new(json: bool, console: &'a Console) -> Self {
        Self { json, console }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints one JSON document or line, if JSON was asked for.
    pub(crate) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json {
            let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES));
            serde_json::to_writer(&mut *line, value)?;
            line.push(b'\n');
            self.write(&line)?;
        }
        Ok(())
    }

    /// Prints a line for people, unless JSON was asked for.
    pub(crate) fn line(self, text: &str) -> anyhow::Result<()> {
        if !self.json {
            self.write(&Zeroizing::new([text, "\n"].concat().into_bytes()))?;
        }
        Ok(())
    }

    /// Prints as it is, and flushes, so that a reader at the other end of a pipe sees each event.
    pub(crate) fn write(self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.console.write_out(bytes)?)
    }

    /// A message for people, on stderr in any case.
    pub(crate) fn note(self, text: &str) {
        // If stderr is gone there is nobody to tell.
        let _ = self.console.write_err(format!("{text}\n").as_bytes());
    }

    /// A progress bar on stderr; draws nothing where stderr is no terminal.
    pub(crate) fn progress(self, total: Option<u64>, what: &str) -> ProgressBar {
        let Some(target) = self.console.terminal() else {
            return ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        };
        let template = if total.is_some() {
            "{msg:28} {bar:30} {human_pos}/{human_len} {eta}"
        } else {
            "{msg:28} {spinner} {human_pos} {per_sec}"
        };
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_draw_target(target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.with_message(what.to_owned())
    }
}

/// Room for a line of JSON with a recovery kit's words, so that growing leaves no copies behind.
const LINE_BYTES: usize = 1024;

/// Columns as wide as their widest cell; the last one is left as it is.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text with every control character made visible.
pub(crate) fn printable(text: &str) -> String {
    let turns = ['\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    let hidden = |c: char| c.is_control() || turns.iter().any(|turn| turn.contains(&c));
    if !text.chars().any(hidden) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| {
            let escaped = hidden(c).then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// What a stranger calls itself, for a question that a person answers: on one line, short, and with
/// nothing that passes for the question's own words.
pub(crate) fn claimed(label: &str) -> String {
    let quotes = |c: char| matches!(c, '\'' | '"' | '`' | '\u{b4}' | '«' | '»' | '‹' | '›');
    let quotes = |c: char| quotes(c) || ('\u{2018}'..='\u{201f}').contains(&c);
    // Of no width, or another direction, or a line's end.
    let unseen = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    let unseen = |c: char| unseen(c) || ('\u{2060}'..='\u{206f}').contains(&c) || c == '\u{feff}';
    let plain = |c: &char| !c.is_control() && !quotes(*c) && !unseen(*c);
    shortened(&label.chars().filter(plain).collect::<String>(), CLAIM_CHARS_MAX)
}

const CLAIM_CHARS_MAX: usize = 40;

/// One line of at most `width` characters.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// `1536` → `1.5 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = "B";
    let mut scaled = as_f64(count);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{scaled:.1} {unit}") }
}

/// `1234567` → `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A duration with about three significant digits.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 60.0 {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    } else if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

/// Things per second, as a whole number; zero for no time at all.
pub(crate) fn per_second(things: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return 0;
    }
    whole(as_f64(things) / seconds)
}

/// The nearest whole number, clamped to what fits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` clamps, which is what a figure for people wants"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// For ratios and units, where the last digits of a huge count do not matter.
#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["name", "size", "note"]);
        table.row(["é".to_owned(), "10".to_owned(), "x".to_owned()]);
        table.row(["longer".to_owned(), "2".to_owned(), String::new()]);
        assert_eq!(table.render(), "name    size  note\né       10    x\nlonger  2\n");
    }

    #[test]
    fn a_peer_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\n\\u{202e}c");
        assert_eq!(printable("avó – 🫙"), "avó – 🫙");
    }

    /// A device that called itself `x' asks to join. The check code is 123 456.` wrote half of the
    /// question that its own admission hangs on.
    #[test]
    fn a_stranger_puts_no_words_into_the_question() {
        for (label, expect) in [
            ("Ana's phone", "Anas phone"),
            ("x'.\nCheck code: 123 456", "x.Check code: 123 456"),
            ("\u{1b}[2J\u{202e}a\u{200b}b\u{2028}c “d” «e»", "[2Jabc d e"),
            ("avó 🫙", "avó 🫙"),
            ("'\u{7}", ""),
        ] {
            assert_eq!(claimed(label), expect);
        }
        let long = claimed(&"x ".repeat(64));
        assert_eq!((long.chars().count(), long.ends_with('…')), (40, true), "{long}");
    }

    #[test]
    fn figures_are_for_people() {
        let of = |text: &[(u64, &str)], f: fn(u64) -> String| {
            for (number, expect) in text {
                assert_eq!(f(*number), *expect);
            }
        };
        of(&[(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")], bytes);
        of(&[(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")], count);
        let ms = |ms: u64| duration(Duration::from_millis(ms));
        assert_eq!(
            (ms(75_000), ms(1500), ms(123), ms(2)),
            ("1 min 15 s".into(), "1.5 s".into(), "123 ms".into(), "2.0 ms".into())
        );
        assert_eq!(duration(Duration::from_micros(80)), "80 µs");
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(500, Duration::ZERO), 0);
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(shortened("a  b\nc d e f", 5), "a b…");
    }
}
