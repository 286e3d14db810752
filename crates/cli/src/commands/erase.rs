//! `larder erase` and `larder erasures`: what goes from every device, and who has done it.

use anyhow::Context;
use clap::Args;
use larder::{ErasureInfo, ErasureStage, ObjectId};
use larder_types::SpaceName;
use serde_json::json;

use crate::args::Pick;
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{Table, printable};

#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// You are sure: nobody can bring it back
    #[arg(long, required = true)]
    pub(crate) for_ever: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Erasures {
    /// The space
    pub(crate) space: SpaceName,
}

pub(crate) async fn erase(call: &Call<'_>, args: &Erase) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.pick.space).await?;
    // What was deleted before has an id and nothing else.
    let object = match args.pick.document.parse::<ObjectId>() {
        Ok(object) => object,
        Err(_) => super::documents::pick(&space, &args.pick).await?.object,
    };
    let receipt = space.erase(object).await.context("nothing was erased")?;
    let info = space.erasures().await?.into_iter().find(|info| info.object == object);
    let waits = info.as_ref().map_or(0, |info| waiting(info).count());
    out.json(&json!({
        "event": "erased",
        "id": object.to_string(),
        "seq": receipt.seq,
        "entry": receipt.entry.to_string(),
        "erasure": info,
    }))?;
    out.line(&format!("erased {object}, entry {} of this device", receipt.seq))?;
    if waits > 0 {
        out.note(&format!(
            "{waits} of the devices have yet to do it, when they sync next: larder erasures {}",
            args.pick.space
        ));
    }
    profile.close().await?;
    Ok(Exit::Done)
}

fn waiting(info: &ErasureInfo) -> impl Iterator<Item = &larder::ErasedBy> {
    info.devices.iter().filter(|by| by.stage != ErasureStage::Done)
}

pub(crate) async fn erasures(call: &Call<'_>, args: &Erasures) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let all = space.erasures().await?;
    let mut table = Table::new(&["document", "erased", "device", "has done it"]);
    for info in &all {
        out.json(info)?;
        for by in &info.devices {
            let stage = match by.stage {
                ErasureStage::Done => "yes",
                ErasureStage::Heard => "not yet: it has heard of it",
                _ => "not known to have heard of it",
            };
            let at = info.at.to_string();
            let at = at.split('.').next().unwrap_or(&at).replace('T', " ");
            table.row([info.object.to_string(), at, printable(&by.label), stage.to_owned()]);
        }
    }
    if all.is_empty() {
        out.line(&format!("Nothing was erased in {}.", args.space))?;
    } else {
        out.line(table.render().trim_end())?;
    }
    let open = all.iter().filter(|info| !info.is_done()).count();
    if open > 0 {
        out.note("A device does it when it hears of it: larder sync");
    }
    profile.close().await?;
    Ok(Exit::Done)
}
