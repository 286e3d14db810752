//! `larder classify`: which documents hold personal data, and of what kind.

use clap::Args;
use larder::{Classifier, CollectionName, Cursor, Patterns, PersonalKind, SpaceName};
use serde_json::{Value, json};

use crate::commands::title;
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{count, counted, printable};

#[derive(Debug, Args)]
pub(crate) struct Classify {
    /// The space
    pub(crate) space: SpaceName,
    /// Only documents of this collection
    #[arg(long)]
    pub(crate) collection: Option<CollectionName>,
}

pub(crate) async fn run(call: &Call<'_>, args: &Classify) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let patterns = Patterns::new();
    let collection = args.collection.as_ref().map(ToString::to_string);
    let (mut after, mut seen, mut with): (Option<Cursor>, u64, u64) = (None, 0, 0);
    loop {
        let page = space.list(collection.as_deref(), after, PAGE_DOCUMENTS).await?;
        for document in &page.documents {
            seen += 1;
            let mut found = [0_u64; PersonalKind::ALL.len()];
            for (key, value) in &document.value {
                look(&patterns, key, value, &mut found);
            }
            let kinds: Vec<(&str, u64)> = PersonalKind::ALL
                .iter()
                .zip(found)
                .filter_map(|(kind, count)| (count > 0).then_some((kind.name(), count)))
                .collect();
            if kinds.is_empty() {
                continue;
            }
            with += 1;
            let object = document.object.to_string();
            let by_kind: serde_json::Map<String, Value> =
                kinds.iter().map(|(kind, count)| ((*kind).to_owned(), json!(count))).collect();
            out.json(&json!({
                "event": "found", "id": object, "collection": document.collection.to_string(),
                "title": title(&document.value), "kinds": by_kind,
            }))?;
            let kinds = kinds.iter().map(|(kind, found)| format!("{kind} ({})", count(*found)));
            let title = printable(&title(&document.value));
            out.line(&format!("{object}  {title}: {}", kinds.collect::<Vec<_>>().join(", ")))?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    out.json(&json!({ "event": "classified", "documents": seen, "with": with }))?;
    out.line(&format!(
        "{} looked through, {} with something that looks personal. Others may hold some as well.",
        counted(seen, "document", "documents"),
        count(with)
    ))?;
    profile.close().await?;
    Ok(Exit::Done)
}

/// Counts what a value holds, by kind. A document's nesting is bounded when it is written.
fn look(patterns: &Patterns, key: &str, value: &Value, found: &mut [u64]) {
    match value {
        Value::String(text) => count_in(patterns, &format!("{key}: {text}"), found),
        Value::Number(number) => count_in(patterns, &format!("{key}: {number}"), found),
        Value::Array(values) => values.iter().for_each(|value| look(patterns, key, value, found)),
        Value::Object(object) => {
            object.iter().for_each(|(key, value)| look(patterns, key, value, found));
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn count_in(patterns: &Patterns, text: &str, found: &mut [u64]) {
    for personal in patterns.classify(text) {
        let at = PersonalKind::ALL.iter().position(|kind| *kind == personal.kind);
        if let Some(count) = at.and_then(|at| found.get_mut(at)) {
            *count += 1;
        }
    }
}

const PAGE_DOCUMENTS: usize = 256;
