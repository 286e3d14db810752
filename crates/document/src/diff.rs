//! The shortest edit between two sequences (Myers, "An O(ND) Difference Algorithm and Its
//! Variations", 1986), given up in favour of one large replacement when it would be a long one:
//! so a diff takes time and memory in proportion to its input.

use std::ops::Range;

/// How many insertions and deletions a diff may find before it replaces the whole middle.
const EDITS_MAX: usize = 400;

/// Old items that new ones take the place of; either range may be empty, not both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hunk {
    pub(crate) old: Range<usize>,
    pub(crate) new: Range<usize>,
}

/// Replacement of `delete` characters from character `at` of the old text on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Splice {
    pub(crate) at: usize,
    pub(crate) delete: usize,
    pub(crate) insert: String,
}

/// The hunks that turn `old` into `new`, in order.
pub(crate) fn hunks<T>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<Hunk> {
    let front = old.iter().zip(new).take_while(|(a, b)| same(a, b)).count();
    let (old_rest, new_rest) = (old.get(front..).unwrap_or(&[]), new.get(front..).unwrap_or(&[]));
    let back =
        old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let old_mid = old_rest.get(..old_rest.len() - back).unwrap_or(&[]);
    let new_mid = new_rest.get(..new_rest.len() - back).unwrap_or(&[]);
    if old_mid.is_empty() && new_mid.is_empty() {
        return Vec::new();
    }
    let whole = || vec![Hunk { old: 0..old_mid.len(), new: 0..new_mid.len() }];
    let found = if old_mid.is_empty() || new_mid.is_empty() {
        whole()
    } else {
        myers(old_mid, new_mid, same).unwrap_or_else(whole)
    };
    let shift = |range: Range<usize>| range.start + front..range.end + front;
    found.into_iter().map(|h| Hunk { old: shift(h.old), new: shift(h.new) }).collect()
}

/// The splices that turn one text into another, in order: first by lines, then by words within
/// the lines that differ, then by what is left of a word without its common beginning and end.
pub(crate) fn splices(old: &str, new: &str) -> Vec<Splice> {
    let mut found = Vec::new();
    let mut at = 0;
    let lines = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    walk(&lines, &mut |old, new| {
        let words = (words(old), words(new));
        walk(&words, &mut |old, new| {
            if old == new {
                at += old.chars().count();
                return;
            }
            let front = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
            let (old_len, new_len) = (old.chars().count(), new.chars().count());
            let shorter = old_len.min(new_len) - front;
            let back = old.chars().rev().zip(new.chars().rev()).take(shorter);
            let back = back.take_while(|(a, b)| a == b).count();
            found.push(Splice {
                at: at + front,
                delete: old_len - front - back,
                insert: new.chars().skip(front).take(new_len - front - back).collect(),
            });
            at += old_len;
        });
    });
    found
}

/// Calls `visit` with the text of each stretch that stays and of each that differs, in order.
fn walk(tokens: &(Vec<&str>, Vec<&str>), visit: &mut dyn FnMut(&str, &str)) {
    let text = |tokens: &[&str], range: Range<usize>| {
        tokens.get(range).map(<[&str]>::concat).unwrap_or_default()
    };
    let (old, new) = (&tokens.0, &tokens.1);
    let mut done = 0;
    for hunk in hunks(old, new, |a, b| a == b) {
        let kept = text(old, done..hunk.old.start);
        visit(&kept, &kept);
        done = hunk.old.end;
        visit(&text(old, hunk.old), &text(new, hunk.new));
    }
    let kept = text(old, done..old.len());
    visit(&kept, &kept);
}

/// Runs of letters and digits, and every other character by itself.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if first.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(len);
        words.push(word);
        rest = after;
    }
    words
}

/// `None` if more than [`EDITS_MAX`] edits are needed.
#[expect(
    clippy::indexing_slicing,
    reason = "diagonals lie within ±edits, and positions are checked against both lengths"
)]
fn myers<T>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> Option<Vec<Hunk>> {
    let edits_max = EDITS_MAX.min(old.len() + new.len());
    // reach[edits_max + 1 + k]: how far into `old` a path on diagonal k = x - y has come.
    let zero = edits_max + 1;
    let mut reach = vec![0_usize; 2 * zero + 1];
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=edits_max {
        rounds.push(reach[zero - edits..=zero + edits].to_vec());
        for diagonal in (zero - edits..=zero + edits).step_by(2) {
            let down = diagonal == zero - edits
                || (diagonal != zero + edits && reach[diagonal - 1] < reach[diagonal + 1]);
            let mut x = if down { reach[diagonal + 1] } else { reach[diagonal - 1] + 1 };
            if x + zero < diagonal || x > old.len() {
                continue;
            }
            let mut y = x + zero - diagonal;
            while x < old.len() && y < new.len() && same(&old[x], &new[y]) {
                x += 1;
                y += 1;
            }
            reach[diagonal] = x;
            if x >= old.len() && y >= new.len() {
                return Some(backtrack(&rounds, edits, (old.len(), new.len())));
            }
        }
    }
    None
}

/// Follows the rounds back from the end, gathering neighbouring edits into hunks.
#[expect(clippy::indexing_slicing, reason = "round d holds the 2d + 1 diagonals around zero")]
fn backtrack(rounds: &[Vec<usize>], edits: usize, end: (usize, usize)) -> Vec<Hunk> {
    let mut found: Vec<Hunk> = Vec::new();
    let (mut x, mut y) = end;
    for edit in (1..=edits).rev() {
        // Before round `edit`, entry i of its copy is diagonal i - edit.
        let before = &rounds[edit];
        let diagonal = x + edit - y;
        let down =
            diagonal == 0 || (diagonal != 2 * edit && before[diagonal - 1] < before[diagonal + 1]);
        let from_x = if down { before[diagonal + 1] } else { before[diagonal - 1] };
        let from_y = from_x + edit - if down { diagonal + 1 } else { diagonal - 1 };
        let (old_end, new_end) = if down { (from_x, from_y + 1) } else { (from_x + 1, from_y) };
        match found.last_mut() {
            Some(later) if later.old.start == old_end && later.new.start == new_end => {
                later.old.start = from_x;
                later.new.start = from_y;
            }
            _ => found.push(Hunk { old: from_x..old_end, new: from_y..new_end }),
        }
        (x, y) = (from_x, from_y);
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(old: &str, splices: &[Splice]) -> String {
        let mut chars: Vec<char> = old.chars().collect();
        for splice in splices.iter().rev() {
            chars.splice(splice.at..splice.at + splice.delete, splice.insert.chars());
        }
        chars.into_iter().collect()
    }

    fn patched(old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut items = old.to_vec();
        for hunk in hunks(old, new, |a, b| a == b).into_iter().rev() {
            items.splice(hunk.old, new[hunk.new].iter().copied());
        }
        items
    }

    proptest! {
        #[test]
        fn hunks_turn_old_into_new(old in "[abc]{0,30}", new in "[abc]{0,30}") {
            prop_assert_eq!(patched(old.as_bytes(), new.as_bytes()), new.as_bytes());
        }

        #[test]
        fn splices_turn_old_into_new(old in "[ab \né🎈]{0,60}", new in "[ab \né🎈]{0,60}") {
            prop_assert_eq!(apply(&old, &splices(&old, &new)), new);
        }

        #[test]
        fn myers_is_shortest(old in "[ab]{0,12}", new in "[ab]{0,12}") {
            let (old, new) = (old.as_bytes(), new.as_bytes());
            let edits: usize =
                hunks(old, new, |a, b| a == b).iter().map(|h| h.old.len() + h.new.len()).sum();
            let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
            for (i, a) in old.iter().enumerate() {
                for (j, b) in new.iter().enumerate() {
                    common[i + 1][j + 1] = if a == b {
                        common[i][j] + 1
                    } else {
                        common[i][j + 1].max(common[i + 1][j])
                    };
                }
            }
            prop_assert_eq!(edits, old.len() + new.len() - 2 * common[old.len()][new.len()]);
        }
    }

    #[test]
    fn only_the_letters_that_differ_are_touched() {
        let found = splices("Milk, eggs\nBread\n", "Milk, 12 eggs\nBreads\n");
        let splice = |at, delete, insert: &str| Splice { at, delete, insert: insert.to_owned() };
        assert_eq!(found, [splice(6, 0, "12 "), splice(16, 0, "s")]);
        assert_eq!(splices("hel", "hello"), [splice(3, 0, "lo")]);
        assert_eq!(splices("same", "same"), []);
    }

    #[test]
    fn texts_with_nothing_in_common_are_replaced_whole() {
        let old = (0..50_000).map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
        let new = (70_000..120_000).map(|i| i.to_string()).collect::<Vec<_>>().join("x ");
        let found = splices(&old, &new);
        assert_eq!(found.len(), 1);
        assert_eq!(apply(&old, &found), new);
    }
}
