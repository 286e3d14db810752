use std::collections::BTreeSet;

use crate::Text;
use crate::text::words;

const CHARS: usize = 160;
const LEAD: usize = 40;
const PLACES_MAX: usize = 200;

/// A line from where most of the query's words stand together in the body; without any there,
/// its beginning, or the title if there is no body. At most 162 characters, `…` included.
pub fn snippet(text: &Text, query: &str) -> String {
    let body = if text.body.trim().is_empty() { &text.title } else { &text.body };
    // One lower-case character for each, so that positions agree.
    let plain: Vec<char> = body.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let lowered: Vec<char> = plain.iter().copied().map(lower).collect();
    let wanted: Vec<Vec<char>> = words(query)
        .flat_map(|word| word.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().map(lower).collect())
        .collect();
    let places = places(&lowered, &wanted);
    let distinct_from = |start: usize| {
        let near = places.iter().filter(|(at, _)| (start..start + CHARS - LEAD).contains(at));
        near.map(|(_, word)| word).collect::<BTreeSet<_>>().len()
    };
    let best = places.iter().map(|(at, _)| *at).rev().max_by_key(|at| distinct_from(*at));
    let best = best.unwrap_or(0);
    // Begin at the beginning of a word.
    let earliest = best.saturating_sub(LEAD);
    let is_start = |at: &usize| *at == 0 || plain.get(at - 1) == Some(&' ');
    let start = (earliest..=best).find(is_start).unwrap_or(best);
    let end = plain.len().min(start + CHARS);
    let window: String = plain.get(start..end).unwrap_or(&[]).iter().collect();
    let mut line = window.split_whitespace().collect::<Vec<_>>().join(" ");
    if start > 0 {
        line.insert(0, '…');
    }
    if end < plain.len() {
        line.push('…');
    }
    line
}

/// Where words begin that begin like a wanted one, with its number.
fn places(lower: &[char], wanted: &[Vec<char>]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut in_word = false;
    for (at, c) in lower.iter().enumerate() {
        let starts = c.is_alphanumeric() && !in_word;
        in_word = c.is_alphanumeric();
        if !starts {
            continue;
        }
        let rest = lower.get(at..).unwrap_or(&[]);
        places.extend(
            wanted
                .iter()
                .enumerate()
                .filter(|(_, word)| rest.starts_with(word))
                .map(|(n, _)| (at, n)),
        );
        if places.len() >= PLACES_MAX {
            break;
        }
    }
    places
}

fn lower(c: char) -> char {
    let mut lowered = c.to_lowercase();
    match (lowered.next(), lowered.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str, query: &str) -> String {
        snippet(&Text { title: "The title".to_owned(), body: body.to_owned() }, query)
    }

    #[test]
    fn it_shows_where_the_words_stand_together() {
        let body =
            format!("Soup. {} then fish\n in  SOUP, and {}", "x ".repeat(200), "y ".repeat(200));
        let line = of(&body, "fish sou");
        assert!(line.starts_with('…') && line.ends_with('…'), "{line}");
        assert!(line.contains("then fish in SOUP, and y"), "{line}");
        assert!(line.chars().count() <= CHARS + 2);
    }

    #[test]
    fn without_a_match_it_shows_the_beginning() {
        assert_eq!(of("One two", "three"), "One two");
        assert_eq!(of("  ", "\0\""), "The title");
        assert_eq!(of("", ""), "The title");
        assert_eq!(snippet(&Text::default(), "x"), "");
    }
}
