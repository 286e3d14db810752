//! Search by words, by likeness, and with an embedder of one's own: `cargo run --example search`.
#![allow(clippy::print_stdout, reason = "it is to be seen")]

use std::sync::Arc;

use larder::{EmbedError, Embedder, Options, Profile, Query, Space, UnitOfWork};
use serde_json::json;

const NOTES: [(&str, &str); 5] = [
    ("Sourdough", "Feed the starter, knead, let it rise overnight, bake hot"),
    ("Lentil soup", "Onions, carrots, lentils, an hour on the stove"),
    ("Boiler", "Serviced in March; the pressure falls when it is cold outside"),
    ("Bicycle", "New tyres, and the chain wants oil"),
    ("Heat pump", "Three quotes; the radiators have to be larger"),
];

/// Counts words of a few topics. A real one asks a model; the trait is the same.
struct Topics;

const TOPICS: [&[&str]; 3] = [
    &["bake", "knead", "soup", "stove", "lentils", "starter", "supper", "bread"],
    &["boiler", "heat", "radiators", "pressure", "cold", "warm"],
    &["bicycle", "tyres", "chain", "ride"],
];

impl Embedder for Topics {
    fn id(&self) -> &'static str {
        "topics-v1"
    }

    fn dimensions(&self) -> usize {
        TOPICS.len()
    }

    fn embed_batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let embed = |text: &&str| {
            let text = text.to_lowercase();
            let count = |words: &&[&str]| words.iter().filter(|word| text.contains(**word)).count();
            TOPICS
                .iter()
                .map(|words| f32::from(u8::try_from(count(words)).unwrap_or(255)))
                .collect()
        };
        Ok(texts.iter().map(embed).collect())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The built-in embedder compares hashed runs of letters: no model, and it forgives spelling.
    let profile = Profile::in_memory(Options::default()).await?;
    let space = filled(&profile).await?;
    show(&space, "words:", Query::text("knead")).await?;
    show(&space, "the start of a word:", Query::text("lent")).await?;
    show(&space, "likeness, misspelt:", Query::similar("bycicle chane")).await?;
    show(&space, "both, in one collection:", Query::both("pressure").collection("notes")).await?;
    profile.close().await?;

    // One of the app's own knows what belongs together.
    let profile = Profile::in_memory(Options::default().embedder(Arc::new(Topics))).await?;
    let space = filled(&profile).await?;
    show(&space, "by topic:", Query::similar("warm in winter, though it is cold").limit(2)).await?;
    show(&space, "by topic:", Query::similar("bread and supper").limit(2)).await?;
    profile.close().await?;
    Ok(())
}

async fn filled(profile: &Profile) -> anyhow::Result<Space> {
    let space = profile.create_space(&"personal:notes".parse()?).await?;
    let mut unit = UnitOfWork::new();
    for (title, body) in NOTES {
        unit.create("notes", &json!({ "title": title, "body": body }))?;
    }
    space.commit(unit).await?;
    Ok(space)
}

async fn show(space: &Space, what: &str, query: Query) -> anyhow::Result<()> {
    println!("{what}");
    for found in space.search(query).await? {
        let title = found.document.value.get("title").and_then(|title| title.as_str());
        println!("  {:.3}  {}: {}", found.score, title.unwrap_or_default(), found.snippet.trim());
    }
    Ok(())
}
