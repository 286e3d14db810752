//! `larder erase` and `larder erasures`: what goes from every device, and who has done it.

use anyhow::Context;
use clap::Args;
use larder::{ErasureInfo, ErasureStage, ObjectId};
use larder_types::{CollectionName, SpaceName};
use serde_json::json;

use crate::args::{Pick, collection};
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{Table, counted, printable};

#[derive(Debug, Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// You are sure: nobody can bring it back
    #[arg(long, required = true)]
    pub(crate) for_ever: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Redact {
    /// The space
    pub(crate) space: SpaceName,
    /// The document's id, or the path it was imported from
    #[arg(value_name = "ID-OR-PATH")]
    pub(crate) document: String,
    /// What is to go: the name of a field, or a JSON pointer such as /health/diagnosis or /lines/2
    #[arg(value_name = "PART", required = true, value_parser = part)]
    pub(crate) parts: Vec<Part>,
    /// The collection whose `path` fields are looked through
    #[arg(long, default_value = "files", value_parser = collection)]
    pub(crate) collection: CollectionName,
    /// You are sure: nobody can bring it back
    #[arg(long, required = true)]
    pub(crate) for_ever: bool,
}

/// A part of a document: the names of members that lead there.
#[derive(Debug, Clone)]
pub(crate) struct Part(Vec<String>);

fn part(text: &str) -> Result<Part, String> {
    let unescaped = |name: &str| name.replace("~1", "/").replace("~0", "~");
    match text.strip_prefix('/') {
        Some(pointer) => Ok(Part(pointer.split('/').map(unescaped).collect())),
        None if text.is_empty() => Err("name a field".to_owned()),
        None => Ok(Part(vec![text.to_owned()])),
    }
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
    let left = space.redacted_as(object).await?;
    out.json(&json!({
        "event": "erased",
        "id": object.to_string(),
        "redacted_as": left.map(|left| left.to_string()),
        "seq": receipt.seq,
        "entry": receipt.entry.to_string(),
        "erasure": info,
    }))?;
    out.line(&format!("erased {object}, entry {} of this device", receipt.seq))?;
    if let Some(left) = left {
        out.note(&format!(
            "{object} was redacted before, and what was left of it is still there, as {left}. To \
             erase that too: larder erase {} {left} --for-ever",
            args.pick.space
        ));
    }
    if waits > 0 {
        out.note(&format!(
            "{waits} of the devices have yet to do it, when they sync next: larder erasures {}",
            args.pick.space
        ));
    }
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn redact(call: &Call<'_>, args: &Redact) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let named = Pick {
        space: args.space.clone(),
        document: args.document.clone(),
        collection: args.collection.clone(),
    };
    let document = super::documents::pick(&space, &named).await?;
    let object = document.object;
    let paths: Vec<_> = args.parts.iter().map(|part| part.0.clone()).collect();
    let done = space.redact_exactly(object, document.heads, paths).await;
    let done = done.context("nothing was redacted")?;
    let info = space.erasures().await?.into_iter().find(|info| info.object == object);
    let waits = info.as_ref().map_or(0, |info| waiting(info).count());
    out.json(&json!({
        "event": "redacted",
        "id": done.object.to_string(),
        "from": object.to_string(),
        "created": { "seq": done.created.seq, "entry": done.created.entry.to_string() },
        "erased": { "seq": done.erased.seq, "entry": done.erased.entry.to_string() },
        "erasure": info,
    }))?;
    out.line(&format!(
        "redacted {object}: what is left is the new document {}, entry {} of this device",
        done.object, done.created.seq
    ))?;
    if waits > 0 {
        out.note(&format!(
            "{waits} of the devices have yet to do it, when they sync next: larder erasures {}",
            args.space
        ));
    }
    profile.close().await?;
    Ok(Exit::Done)
}

fn waiting(info: &ErasureInfo) -> impl Iterator<Item = &larder::ErasedBy> {
    let is_open = |stage| !matches!(stage, ErasureStage::Done | ErasureStage::SetAside);
    info.devices.iter().filter(move |by| is_open(by.stage))
}

pub(crate) async fn erasures(call: &Call<'_>, args: &Erasures) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let all = space.erasures().await?;
    let mut table = Table::new(&["document", "up to", "erased", "device", "has done it"]);
    for info in &all {
        out.json(info)?;
        for by in &info.devices {
            let stage = match by.stage {
                ErasureStage::Done => "yes",
                ErasureStage::Heard => "not yet: it has heard of it",
                ErasureStage::SetAside => "set aside, not confirmed",
                _ => "not known to have heard of it",
            };
            let at = info.at.to_string();
            let at = at.split('.').next().unwrap_or(&at).replace('T', " ");
            let (object, up_to) = (info.object.to_string(), info.up_to.to_string());
            table.row([object, up_to, at, by.label.clone(), stage.to_owned()]);
        }
    }
    if all.is_empty() {
        out.line(&format!("Nothing was erased in {}.", args.space))?;
    } else {
        out.line(table.render().trim_end())?;
    }
    for info in &all {
        if let [one, other, ..] = &info.redacted_as[..] {
            out.note(&format!(
                "{} was redacted by devices that did not know of each other, into {one} and \
                 {other}: each takes out what the other did when it hears of it; erase the one you \
                 do not want",
                info.object
            ));
        }
        for late in &info.late {
            out.note(&format!(
                "{} of {} by {} came beside its redaction. Each device that has it makes again \
                 what fits, once it hears of it: nothing in a list that was redacted in. Whether \
                 one did: larder history",
                counted(late.edits, "edit", "edits"),
                info.object,
                late.label.as_deref().map_or_else(|| late.device.to_string(), printable),
            ));
        }
    }
    let open = all.iter().filter(|info| !info.is_done()).count();
    if open > 0 {
        out.note("A device does it when it hears of it: larder sync");
    }
    profile.close().await?;
    Ok(Exit::Done)
}
