//! A profile, a space, a document, a search and a receipt: `cargo run --example quickstart`.
#![allow(clippy::print_stdout, reason = "it is to be seen")]

use larder::{Options, Profile, Query, UnitOfWork, Unlock, Zeroizing};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Recipe {
    title: String,
    minutes: u32,
    steps: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let passphrase = || Unlock::Passphrase(Zeroizing::new("correct horse".to_owned()));
    let options = Options::default().label("Ana's laptop");
    let profile = Profile::create(home.path(), passphrase(), options).await?;
    let space = profile.create_space(&"shared:household".parse()?).await?;

    // A document is any value that serialises to a JSON object.
    let bread = Recipe {
        title: "Bread".into(),
        minutes: 240,
        steps: vec!["Knead flour, water and salt".into(), "Wait".into(), "Bake".into()],
    };
    let (id, receipt) = space.create("recipes", &bread).await?;
    println!("committed as entry {} of this device, durably", receipt.seq);

    // Many at once: all of them, or none.
    let mut unit = UnitOfWork::new();
    unit.put("recipes", id, &Recipe { minutes: 200, ..bread })?;
    unit.create("lists", &serde_json::json!({ "title": "Shopping", "items": ["flour", "salt"] }))?;
    unit.actor("ana");
    let receipt = space.commit(unit).await?;

    // Anyone can check a receipt, with public keys alone.
    receipt.verify()?;
    println!("{}", receipt.to_tlog_proof());

    // By words and by likeness at once; typing errors do no harm.
    for found in space.search(Query::both("kneed flour")).await? {
        println!("found in {}: {}", found.document.collection, found.snippet.trim());
    }
    profile.close().await?;

    // All of it is encrypted in the folder, and there again with the passphrase.
    let profile = Profile::open(home.path(), passphrase(), Options::default()).await?;
    let space = profile.space(&"shared:household".parse()?).await?;
    let bread: Option<Recipe> = space.get(id).await?;
    println!("after opening again: {bread:?}");
    profile.close().await?;
    Ok(())
}
