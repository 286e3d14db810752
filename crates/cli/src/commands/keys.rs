//! `larder rekey`, `larder purge`: new keys for what is on disk.

use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use crate::args::{Purge, Rekey};
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{bytes, counted, duration};

pub(crate) async fn rekey(call: &Call<'_>, args: &Rekey) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let spaces = match &args.space {
        Some(name) => vec![profile.space(name).await?],
        None => profile.spaces().await?,
    };
    if spaces.is_empty() {
        out.line("No spaces, so there is no key to renew.")?;
    }
    for space in spaces {
        let bar = out.progress(Some(0), &format!("renewing {}", space.name()));
        let begun = Instant::now();
        let mut written = 0;
        let renewed = space
            .rekey(|done, total| {
                written = done;
                bar.set_length(total);
                bar.set_position(done);
            })
            .await;
        bar.finish_and_clear();
        renewed.with_context(|| format!("{} keeps the key that it has", space.name()))?;
        let took = begun.elapsed();
        out.json(&json!({
            "event": "rekeyed", "space": space.name().to_string(), "bytes": written,
            "ms": u64::try_from(took.as_millis())?,
        }))?;
        out.line(&format!(
            "{} is under a new key: {} written in {}.",
            space.name(),
            bytes(written),
            duration(took)
        ))?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn purge(call: &Call<'_>, args: &Purge) -> anyhow::Result<Exit> {
    let out = call.out;
    let bar = out.progress(Some(0), "writing anew");
    let mut written = 0;
    let begun = Instant::now();
    let purged = call
        .purge(args, |done, total| {
            written = done;
            bar.set_length(total);
            bar.set_position(done);
        })
        .await;
    bar.finish_and_clear();
    let (purged, is_new) = purged.context("the profile was not purged")?;
    let took = begun.elapsed();
    out.json(&json!({
        "event": "purged", "spaces": purged.spaces, "bytes": written,
        "new_passphrase": is_new, "ms": u64::try_from(took.as_millis())?,
    }))?;
    out.line(&format!(
        "Purged: the profile and {} are under new keys, {} written in {}.",
        counted(purged.spaces, "space", "spaces"),
        bytes(written),
        duration(took)
    ))?;
    out.line(if is_new {
        "The new passphrase counts from now on. Copies made before still open with the old one."
    } else {
        "The passphrase is the same. Copies made before still open with it."
    })?;
    Ok(Exit::Done)
}
