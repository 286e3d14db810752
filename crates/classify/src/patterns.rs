//! The classifier that comes with Larder: one table of shapes and words.

use std::ops::Range;

use regex::Regex;

use crate::checks::{is_card, is_iban, is_phone};
use crate::{Classifier, Found, Kind};

/// What a match has to be besides; it is told the text before it, and the match.
type Check = fn(&str, &str) -> bool;

/// One shape or list of words.
struct Pattern {
    kind: Kind,
    regex: Regex,
    /// What a match has to be besides.
    check: Check,
}

/// Shapes with check digits, and words. Building it compiles the table: keep one.
pub struct Patterns(Vec<Pattern>);

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patterns").field("patterns", &self.0.len()).finish_non_exhaustive()
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self::new()
    }
}

impl Patterns {
    /// The table, compiled.
    pub fn new() -> Self {
        let (beginnings, whole) = words();
        let words = [(Kind::Health, always as Check, beginnings), (Kind::Health, always, whole)];
        // A test sees that each line is a rule that compiles.
        let rules = lines(RULES).filter_map(rule).chain(words);
        Self(rules.filter_map(compiled).collect())
    }
}

/// A line's kind, check and regular expression.
fn rule(line: &str) -> Option<(Kind, Check, String)> {
    let mut parts = line.splitn(3, '\t');
    let (kind, check) = (Kind::from_name(parts.next()?)?, check_named(parts.next()?)?);
    Some((kind, check, parts.next()?.to_owned()))
}

fn compiled((kind, check, regex): (Kind, Check, String)) -> Option<Pattern> {
    Some(Pattern { kind, regex: Regex::new(&regex).ok()?, check })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The words of health: one expression for beginnings, one for whole words.
fn words() -> (String, String) {
    let (beginnings, whole): (Vec<&str>, Vec<&str>) =
        lines(HEALTH).partition(|word| word.ends_with('*'));
    let any = |words: Vec<&str>| {
        let words = words.into_iter().map(|word| regex::escape(word.trim_end_matches('*')));
        words.collect::<Vec<_>>().join("|")
    };
    (format!("(?i)\\b(?:{})", any(beginnings)), format!("(?i)\\b(?:{})\\b", any(whole)))
}

/// Where the word ends in which a match does.
fn end_of_word(text: &str, end: usize) -> usize {
    let rest = text.get(end..).unwrap_or("");
    let begun = text.get(..end).is_some_and(|before| before.ends_with(char::is_alphanumeric));
    let more = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    if begun { end + more } else { end }
}

impl Classifier for Patterns {
    fn classify(&self, text: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for Pattern { kind, regex, check } in &self.0 {
            let matches = regex.find_iter(text);
            let matches =
                matches.filter(|m| check(text.get(..m.start()).unwrap_or(""), m.as_str()));
            let at = |m: regex::Match<'_>| m.start()..end_of_word(text, m.end());
            found.extend(matches.map(|m| Found { kind: *kind, at: at(m) }));
        }
        drop_contacts_in_accounts(&mut found);
        // What several rules find is one.
        found.sort_unstable_by_key(|found| (found.kind, found.at.start));
        found.dedup_by(|later, before| {
            let is_one = later.kind == before.kind && later.at.start < before.at.end;
            before.at.end = if is_one { before.at.end.max(later.at.end) } else { before.at.end };
            is_one
        });
        found
    }
}

/// The digits of an account look like a telephone's.
fn drop_contacts_in_accounts(found: &mut Vec<Found>) {
    let accounts = found.iter().filter(|found| found.kind == Kind::Financial);
    let mut accounts: Vec<Range<usize>> = accounts.map(|found| found.at.clone()).collect();
    accounts.sort_unstable_by_key(|at| at.start);
    // Apart from each other, so that their ends ascend as well.
    accounts.dedup_by(|later, before| {
        let touches = later.start < before.end;
        before.end = if touches { before.end.max(later.end) } else { before.end };
        touches
    });
    found.retain(|found| {
        let next = accounts.partition_point(|at| at.end <= found.at.start);
        let is_within = accounts.get(next).is_some_and(|at| at.start < found.at.end);
        found.kind != Kind::Contact || !is_within
    });
}

fn check_named(name: &str) -> Option<Check> {
    Some(match name {
        "always" => always,
        "card" => card,
        "iban" => iban,
        "phone" => phone,
        "town" => town,
        "house" => house,
        "code" => code,
        "uncommon" => uncommon,
        _ => return None,
    })
}

const fn always(_: &str, _: &str) -> bool {
    true
}

fn card(_: &str, text: &str) -> bool {
    is_card(text)
}

fn iban(_: &str, text: &str) -> bool {
    is_iban(text)
}

/// Not the rest of a longer number.
fn phone(before: &str, text: &str) -> bool {
    let before = before.trim_end_matches([' ', '-', '/', '.']);
    is_phone(text) && !before.ends_with(|c: char| c.is_ascii_digit())
}

/// After a street, or on a line of its own: five digits and a word may be anything.
fn town(before: &str, _: &str) -> bool {
    let before = before.trim_end_matches(' ');
    before.is_empty() || before.ends_with([',', '\n', ';', ':'])
}

/// Not a day of a month.
fn house(_: &str, text: &str) -> bool {
    let months = [
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ];
    !months.iter().any(|month| text.contains(month))
}

/// No word of every day that ends like an illness or a medicine.
fn uncommon(_: &str, text: &str) -> bool {
    let common = ["graffitis", "co-op", "gravitis", "sympathie", "antipathie", "nostalgie"];
    let text = text.to_lowercase();
    !common.iter().any(|word| text == *word)
}

/// A code that opens something.
fn code(before: &str, _: &str) -> bool {
    let before = before.trim_end_matches([' ', '-']).to_lowercase();
    let others =
        ["sort", "post", "postal", "zip", "area", "bar", "promo", "discount", "qr", "dress", "tax"];
    !others.iter().any(|other| before.ends_with(other))
}

const RULES: &str = include_str!("../rules.txt");
const HEALTH: &str = include_str!("../health.txt");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind::{Contact, Credentials, Financial, Health};

    fn kinds(text: &str) -> Vec<Kind> {
        let mut kinds: Vec<Kind> =
            Patterns::new().classify(text).into_iter().map(|found| found.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    #[test]
    fn every_line_of_the_table_is_a_rule_and_all_words_are_in() {
        assert_eq!(Patterns::new().0.len(), lines(RULES).count() + 2);
        for word in lines(HEALTH) {
            assert!(kinds(word.trim_end_matches('*')).contains(&Health), "{word}");
        }
    }

    #[test]
    fn what_has_a_check_digit_is_found_only_with_the_right_one() {
        assert_eq!(kinds("DE89 3704 0044 0532 0130 00"), [Financial]);
        assert_eq!(kinds("DE88 3704 0044 0532 0130 00"), []);
        assert_eq!(kinds("4111 1111 1111 1111"), [Financial]);
        assert_eq!(kinds("4111 1111 1111 1112"), []);
    }

    #[test]
    fn a_text_may_hold_several_kinds_and_none() {
        let text = "Passwort: Seeadler77, Insulin im Kühlschrank, +49 171 2345678";
        assert_eq!(kinds(text), [Contact, Health, Credentials]);
        assert_eq!(kinds(""), []);
        assert_eq!(kinds("Mehl, Wasser, Salz"), []);
    }

    #[test]
    fn places_are_within_the_text_and_on_borders_of_characters() {
        let patterns = Patterns::new();
        for text in ["é Lindenstraße 14 é", "ä: a@b.example ü", "🦀 PIN 4826 🦀"] {
            let found = patterns.classify(text);
            assert!(!found.is_empty());
            for found in found {
                assert!(text.get(found.at).is_some());
            }
        }
    }

    /// What patterns like to try again and again.
    #[test]
    fn hostile_text_takes_linear_time() {
        let patterns = Patterns::new();
        let time = |bytes: usize| {
            let begun = std::time::Instant::now();
            for piece in ["0 1-", "a.a@", "DE89 37 ", "salary ", "code ", "a straße "] {
                let text = piece.repeat(bytes / piece.len());
                assert!(patterns.classify(&text).len() <= bytes);
            }
            begun.elapsed()
        };
        time(1000);
        let (short, long) = (time(4000), time(40_000));
        println!("{short:?}, ten times as much {long:?}");
        assert!(long < short * 60, "{short:?} and {long:?}");
    }
}
