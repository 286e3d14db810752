//! Precision and recall of [`Patterns`] on the corpus, kind by kind.
//!
//! ```text
//! cargo run -p larder-classify --example measure            # the half it was tuned on
//! cargo run -p larder-classify --example measure held-out   # the other half
//! ```
//!
//! A place counts as found if something of its kind overlaps it. Something found that overlaps no
//! place of its kind is false.
#![allow(clippy::expect_used, reason = "a program for developers")]

use std::collections::BTreeMap;
use std::ops::Range;

use larder_classify::{Classifier, Kind, Patterns};

const TUNED: &str = include_str!("../corpus/tuned.txt");
const HELD_OUT: &str = include_str!("../corpus/held_out.txt");

#[derive(Default)]
struct Tally {
    labels: u32,
    found: u32,
    reported: u32,
    right: u32,
}

struct Sentence {
    language: String,
    text: String,
    labels: Vec<(Kind, Range<usize>)>,
}

fn parse(line: &str) -> Sentence {
    let (language, mut rest) = line.split_once('|').expect("a language first");
    let (mut text, mut labels) = (String::new(), Vec::new());
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (label, after) = after.split_once('}').expect("a label ends");
        let (kind, what) = label.split_once(':').expect("a label has a kind");
        let from = text.len();
        text.push_str(what);
        labels.push((Kind::from_name(kind).expect("a kind"), from..text.len()));
        rest = after;
    }
    text.push_str(rest);
    Sentence { language: language.to_owned(), text, labels }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn main() {
    let held_out = std::env::args().nth(1).is_some_and(|arg| arg == "held-out");
    let shows_misses = std::env::args().any(|arg| arg == "--misses");
    let (name, corpus) = if held_out { ("held out", HELD_OUT) } else { ("tuned", TUNED) };
    let lines = corpus.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sentences: Vec<Sentence> = lines.map(parse).collect();
    let patterns = Patterns::new();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for Sentence { language, text, labels } in &sentences {
        let found = patterns.classify(text);
        for (kind, label) in labels {
            let is_found = found.iter().any(|f| f.kind == *kind && overlap(&f.at, label));
            if !is_found && shows_misses {
                println!("missed {kind}: {text}");
            }
            for row in [kind.name(), language, "all"] {
                let tally = tallies.entry(row.to_owned()).or_default();
                tally.labels += 1;
                tally.found += u32::from(is_found);
            }
        }
        for found in &found {
            let is_right = labels.iter().any(|(k, at)| *k == found.kind && overlap(&found.at, at));
            if !is_right && shows_misses {
                println!("false {}: {text}", found.kind);
            }
            for row in [found.kind.name(), language, "all"] {
                let tally = tallies.entry(row.to_owned()).or_default();
                tally.reported += 1;
                tally.right += u32::from(is_right);
            }
        }
    }
    let without = sentences.iter().filter(|sentence| sentence.labels.is_empty()).count();
    println!("{name}: {} sentences, {without} of them with nothing personal", sentences.len());
    println!("{:<12} {:>6} {:>10} {:>8}", "", "labels", "precision", "recall");
    for (name, tally) in tallies {
        let Tally { labels, found, reported, right } = tally;
        let share = |part: u32, of: u32| f64::from(part) / f64::from(of.max(1));
        let (precision, recall) = (share(right, reported), share(found, labels));
        println!("{name:<12} {labels:>6} {precision:>10.3} {recall:>8.3}");
    }
}
