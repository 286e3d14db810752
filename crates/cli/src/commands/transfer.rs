//! `larder copy` and `larder move`: documents from one space to another.

use clap::Args;
use larder::{Band, SpaceKind};
use larder_types::{CollectionName, SpaceName};
use serde_json::json;

use super::device::OfBand;
use super::documents::pick;
use crate::args::{Pick, collection};
use crate::exit::{Exit, Failure};
use crate::home::Call;

#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// The document's id, or the path it was imported from
    #[arg(value_name = "ID-OR-PATH")]
    pub(crate) document: String,
    /// The space that it is in
    #[arg(long, value_name = "SPACE")]
    pub(crate) from: SpaceName,
    /// The space that it is to be in
    #[arg(long, value_name = "SPACE")]
    pub(crate) to: SpaceName,
    /// The collection whose `path` fields are looked through
    #[arg(long, default_value = "files", value_parser = collection)]
    pub(crate) collection: CollectionName,
    /// How sensitive it is there [default: as here, or as new documents there if that is more]
    #[arg(long, value_name = "BAND")]
    pub(crate) band: Option<OfBand>,
    /// It is BLACK, on this device alone, and is to leave it: other devices get it
    #[arg(long)]
    pub(crate) leaves_device: bool,
}

pub(crate) async fn run(call: &Call<'_>, args: &Transfer, moves: bool) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let from = profile.space(&args.from).await?;
    let to = profile.space(&args.to).await?;
    // What was moved before is in the trash: named by its id, it is told once more.
    let object = if let Ok(object) = args.document.parse() {
        object
    } else {
        let (document, collection) = (args.document.clone(), args.collection.clone());
        pick(&from, &Pick { space: args.from.clone(), document, collection }).await?.object
    };
    let mut band = args.band.map(Into::into);
    let is_black = from.document(object).await?.is_some_and(|found| found.band == Band::Black);
    let stays = to.name().kind() == SpaceKind::Black || band == Some(Band::Black);
    if is_black && !stays {
        if !args.leaves_device {
            let message = format!(
                "document {object} is BLACK: it is on this device alone. In {} other devices get \
                 it, and what they have read nobody takes back. If you mean it: --leaves-device, \
                 with --band unless it is to be red",
                args.to
            );
            return Err(Failure::error(Exit::Usage, message));
        }
        band = band.or(Some(Band::Red));
    }
    let done = if moves {
        from.move_to(object, &to, band).await?
    } else {
        from.copy_to(object, &to, band).await?
    };
    let receipt = |receipt: &larder::Receipt| {
        let device = receipt.device.to_string();
        json!({ "device": device, "seq": receipt.seq, "entry": receipt.entry.to_string() })
    };
    let event = if moves { "moved" } else { "copied" };
    out.json(&json!({
        "event": event,
        "id": done.object.to_string(),
        "from": object.to_string(),
        "created": receipt(&done.created),
        "trashed": done.trashed.as_ref().map(receipt),
        "correlation": done.correlation.to_string(),
        "was_there": done.was_there,
        "lacking": done.lacking.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))?;
    out.line(&format!(
        "{event} {object} to {} as {}, entry {} there{}",
        args.to,
        done.object,
        done.created.seq,
        done.trashed.map_or_else(String::new, |trashed| {
            format!("; here it is in the trash, entry {}", trashed.seq)
        })
    ))?;
    for id in &done.lacking {
        out.note(&format!(
            "blob {id} was not copied: nothing is known of it on this device. It has not arrived \
             yet, or is above this device's clearance: sync and copy again, or copy on a device \
             that has it"
        ));
    }
    profile.close().await?;
    Ok(Exit::Done)
}
