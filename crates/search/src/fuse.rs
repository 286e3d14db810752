use std::collections::HashMap;

use crate::Hit;

const K: u32 = 60;

/// One list out of several, each best first: reciprocal rank fusion with k = 60 (Cormack, Clarke
/// and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
/// Methods", 2009). Scores of the lists need not be comparable. Equals come in order of their row
/// numbers; a document named twice in one list counts there once.
pub fn fuse(lists: &[Vec<Hit>]) -> Vec<Hit> {
    let mut scores: HashMap<i64, (f64, usize)> = HashMap::new();
    for (number, list) in lists.iter().enumerate() {
        for (hit, rank) in list.iter().zip(K + 1..) {
            let (score, counted) = scores.entry(hit.document).or_insert((0.0, 0));
            if *counted <= number {
                *score += 1.0 / f64::from(rank);
                *counted = number + 1;
            }
        }
    }
    let mut hits: Vec<Hit> =
        scores.into_iter().map(|(document, (score, _))| Hit { document, score }).collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)));
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(documents: &[i64]) -> Vec<Hit> {
        documents.iter().map(|document| Hit { document: *document, score: 0.0 }).collect()
    }

    #[test]
    fn what_several_lists_name_comes_first() {
        let fused = fuse(&[list(&[1, 2, 3]), list(&[4, 2, 2]), vec![]]);
        let order: Vec<i64> = fused.iter().map(|hit| hit.document).collect();
        assert_eq!(order, [2, 1, 4, 3]);
        assert!((fused[0].score - 2.0 / 62.0).abs() < 1e-12);
        assert!(fuse(&[]).is_empty());
    }
}
