//! `larder receipts` and `larder audit verify`.

use std::path::Path;

use larder::Space;
use larder_audit::AuditError;
use serde_json::json;

use crate::args::Receipts;
use crate::commands::profile::short;
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Output, bytes, counted, printable};

const PAGE_RECEIPTS: usize = 256;

pub(crate) async fn receipts(call: &Call<'_>, args: &Receipts) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let parts = space.parts().await?;
    match &args.export {
        Some(dir) => export(&parts, &call.path(dir), out).await?,
        None => list(&parts, out).await?,
    }
    profile.close().await?;
    Ok(Exit::Done)
}

async fn export(parts: &[Space], dir: &Path, out: Output<'_>) -> anyhow::Result<()> {
    let Some((space, beside)) = parts.split_first() else { return Ok(()) };
    let bar = out.progress(Some(0), "exporting receipts");
    let drawn = bar.clone();
    let summary = space
        .export_receipts(dir, move |done, total| {
            drawn.set_length(total);
            drawn.set_position(done);
        })
        .await;
    bar.finish_and_clear();
    let summary = summary?;
    out.json(&json!({
        "event": "exported",
        "dir": dir,
        "entries": summary.entries,
        "logs": summary.logs,
        "bytes": summary.bytes,
        "not_in_it": beside.iter().map(|part| part.name().to_string()).collect::<Vec<_>>(),
    }))?;
    out.line(&format!(
        "{} of {} ({}) in {}, without any content.",
        counted(summary.entries, "receipt", "receipts"),
        counted(summary.logs, "log", "logs"),
        bytes(summary.bytes),
        dir.display()
    ))?;
    out.line(&format!("Anyone can check them: larder audit verify {}", dir.display()))?;
    for part in beside {
        out.note(&format!(
            "What is BLACK is not in it. Its receipts, which show when and how much was written of \
             it, go only where you take them: larder receipts {} --export DIR",
            part.name()
        ));
    }
    Ok(())
}

async fn list(parts: &[Space], out: Output<'_>) -> anyhow::Result<()> {
    out.line(&columns("device", "seq", "when", "entry", "what"))?;
    for space in parts {
        list_of(space, out).await?;
    }
    Ok(())
}

async fn list_of(space: &Space, out: Output<'_>) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = space.receipts(after, PAGE_RECEIPTS).await?;
        for receipt in &page {
            let mut line = serde_json::to_value(receipt)?;
            if let Some(line) = line.as_object_mut() {
                line.insert("space".to_owned(), space.name().to_string().into());
            }
            out.json(&line)?;
            let void = if receipt.void.is_empty() { "" } else { "; void: " };
            let what = format!(
                "{}: {}{void}{}",
                counted(u64::from(receipt.sections), "object", "objects"),
                receipt.kinds.join(", "),
                receipt.void.join(", ")
            );
            let when = receipt.clock.map(|clock| clock.wall.to_string()).unwrap_or_default();
            out.line(&columns(
                &short(&receipt.device.to_string()),
                &receipt.seq.to_string(),
                &when,
                &short(&receipt.entry.to_string()),
                &what,
            ))?;
            after = Some((receipt.device, receipt.seq));
        }
        if page.len() < PAGE_RECEIPTS {
            return Ok(());
        }
    }
}

fn columns(device: &str, seq: &str, when: &str, entry: &str, what: &str) -> String {
    format!("{device:<12}  {seq:>7}  {when:<24}  {entry:<12}  {what}").trim_end().to_owned()
}

pub(crate) fn verify(dir: &Path, out: Output<'_>) -> anyhow::Result<Exit> {
    match larder_audit::verify(dir) {
        Ok(verdict) => {
            out.json(&verdict)?;
            // Labels in it are whatever the devices said.
            for line in verdict.to_string().lines() {
                out.line(&printable(line))?;
            }
            Ok(Exit::Done)
        }
        Err(AuditError::Unreadable { file, source }) => Err(Failure::error(
            Exit::NotFound,
            format!("{} cannot be read ({source}): name an export's directory", file.display()),
        )),
        Err(error) => {
            out.json(&json!({ "verified": false, "refuted": error.to_string() }))?;
            let text = format!("REFUTED: {error}. Do not rely on anything in this export.");
            Err(Failure::error(Exit::Refuted, text))
        }
    }
}
