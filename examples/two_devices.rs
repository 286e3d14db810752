//! Two devices, one space: joined by invitation over real QUIC, edited apart, merged:
//! `cargo run --example two_devices`.
#![allow(clippy::print_stdout, reason = "it is to be seen")]
#![allow(clippy::indexing_slicing, reason = "of a value made a line above")]

use anyhow::Context;
use larder::{Options, Profile, Secret, SpaceName, Unlock};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let homes = tempfile::tempdir()?;
    // An app keeps 32 bytes like these in the system's keychain; or it asks for a passphrase.
    let key = |byte| Unlock::Key(Secret::new([byte; 32]));
    let options = |label: &str| Options::default().label(label);
    let laptop = Profile::create(homes.path().join("laptop"), key(1), options("Laptop")).await?;
    let phone = Profile::create(homes.path().join("phone"), key(2), options("Phone")).await?;

    let name: SpaceName = "shared:household".parse()?;
    let here = laptop.create_space(&name).await?;
    let list = json!({
        "title": "Shopping",
        "shop": "the market",
        "body": "flour\nwater\nsalt\n",
    });
    let (id, _) = here.create("lists", &list).await?;

    // The text goes to the other device by hand: a message, a QR code, paper.
    laptop.listen(Some("127.0.0.1:0".parse()?)).await?;
    let mut invitation = laptop.invite(&name).await?;
    println!("invitation: {}", invitation.text);
    let joining = phone.begin_join(&invitation.text).await?;
    let request = invitation.request().await?;
    // Both screens show six digits. A person who sees that they are the same says yes.
    println!("{} asks to join: {} = {}", request.label, request.check_code, joining.check_code());
    anyhow::ensure!(request.check_code == joining.check_code(), "somebody is in between");
    let (joined, there) = tokio::try_join!(request.approve(), joining.approved())?;
    println!("{} joined", joined.label);
    sync(&phone).await?;
    println!("the phone has: {}", value(&there, id).await?);

    // Apart: different fields, and different places in the same text.
    let mut mine = list.clone();
    mine["shop"] = json!("the corner shop");
    mine["body"] = json!("flour (2 kg)\nwater\nsalt\n");
    here.put("lists", id, &mine).await?;
    let mut theirs = list;
    theirs["title"] = json!("For Sunday");
    theirs["body"] = json!("flour\nwater\nsea salt\n");
    there.put("lists", id, &theirs).await?;
    sync(&phone).await?;
    println!("merged:        {}", value(&here, id).await?);
    anyhow::ensure!(here.digest().await? == there.digest().await?, "the two differ");

    // From here on as it happens.
    let follower = phone.clone();
    let following = tokio::spawn(async move { follower.follow().await });
    let mut changed = there.changed();
    let (bread, _) = here.create("recipes", &json!({ "title": "Bread" })).await?;
    while there.document(bread).await?.is_none() {
        changed.changed().await?;
    }
    println!("pushed:        {}", value(&there, bread).await?);

    phone.close().await?;
    following.await??;
    laptop.close().await?;
    Ok(())
}

async fn sync(profile: &Profile) -> anyhow::Result<()> {
    for report in profile.sync().await? {
        for space in report.outcome? {
            println!(
                "synced {} with {}: {} entries in, {} out",
                space.space, report.label, space.entries_in, space.entries_out
            );
        }
    }
    Ok(())
}

async fn value(space: &larder::Space, id: larder::ObjectId) -> anyhow::Result<Value> {
    space.get(id).await?.context("it is not there")
}
