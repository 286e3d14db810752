//! `larder check`: what is damaged, and what was done about it.

use larder::{CheckReport, CheckedPart, ErrorKind, Finding, Outcome};
use serde_json::json;

use super::profile::short;
use crate::args::Check;
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{counted, printable};

pub(crate) async fn run(call: &Call<'_>, args: &Check) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let mut exit = Exit::Done;
    let all = match (&args.space, args.repair) {
        (None, false) => profile.check().await?,
        (None, true) => profile.repair().await?,
        (Some(space), false) => profile.check_space(space).await?,
        (Some(space), true) => profile.repair_space(space).await?,
    };
    for checked in all {
        let is_space = checked.space.is_some();
        let what = checked.space.map_or_else(|| "profile".to_owned(), |name| name.to_string());
        let (damage, report) = match checked.result {
            Ok(report) => (unmended(&report), Some(report)),
            Err(error) if is_space && !args.repair && error.kind() == ErrorKind::Corrupt => {
                let advice = "run `larder check --repair` to set the file aside and begin the \
                              space anew, from what can be read in it and from other devices";
                (Some(format!("{error}: {advice}")), None)
            }
            Err(error) if is_space && is_gone(&error) => {
                let advice = format!(
                    "put the file back, or, if it is lost for good, run `larder space begin-anew \
                     {what} --file-is-lost` to fetch the space from other devices"
                );
                (Some(format!("{error}: {advice}")), None)
            }
            Err(error) => (Some(error.to_string()), None),
        };
        out.json(&json!({
            "event": "checked", "what": what, "damage": damage, "report": report,
        }))?;
        out.line(&format!("{what}: {}", printable(damage.as_deref().unwrap_or("whole"))))?;
        for finding in report.iter().flat_map(|report| &report.findings) {
            out.line(&format!("  {}", printable(&described(finding))))?;
        }
        for line in report.iter().flat_map(|report| beside(report, args.repair)) {
            out.line(&format!("  {line}"))?;
        }
        if damage.is_some() {
            exit = Exit::Failed;
        }
    }
    profile.close().await?;
    Ok(exit)
}

/// What is no damage, and worth to be known.
fn beside(report: &CheckReport, repair: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if report.objects_not_judged > 0 {
        let count = counted(report.objects_not_judged, "object was", "objects were");
        lines.push(format!("{count} not compared with the log: some of it cannot be opened here"));
    }
    if report.without_vector > 0 {
        let count = counted(report.without_vector, "document is", "documents are");
        let then = if repair { "their vectors are made now" } else { "`--repair` has them made" };
        lines.push(format!("{count} not found by likeness, for want of a vector: {then}"));
    }
    lines
}

/// Whether a space's file is not there: to be set aside it would have to be.
fn is_gone(error: &larder::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid)
}

/// What is left to be done, in short.
fn unmended(report: &CheckReport) -> Option<String> {
    let of = |outcome| report.findings.iter().filter(|f| f.outcome == outcome).count() as u64;
    let told = [
        (Outcome::Mendable, "can be mended: run `larder check --repair`"),
        (Outcome::Fetchable, "can be had from other devices: run `larder check --repair`"),
        (Outcome::Wanted, "are asked for from other devices: sync with one that has them"),
        (
            Outcome::Lost,
            "cannot be mended here: keep this profile as it is, and be invited into a new one by \
             another device that has the space",
        ),
    ];
    let parts: Vec<String> = told
        .into_iter()
        .filter(|(outcome, _)| of(*outcome) > 0)
        .map(|(outcome, text)| format!("{} {text}", counted(of(outcome), "thing", "things")))
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn described(finding: &Finding) -> String {
    let part = match finding.part {
        CheckedPart::Database => "file",
        CheckedPart::Log => "log",
        CheckedPart::Section => "entry",
        CheckedPart::Document => "document",
        CheckedPart::Blob => "blob",
        CheckedPart::Search => "search",
        _ => "space",
    };
    let device = finding.device.map(|device| short(&device.to_string()));
    let place = match (finding.object, device, finding.seq) {
        (Some(object), ..) => format!(" {object}"),
        (None, Some(device), Some(seq)) => format!(" {device}/{seq}"),
        (None, Some(device), None) => format!(" {device}"),
        (None, None, _) => String::new(),
    };
    let done = match finding.outcome {
        Outcome::Mendable => "can be mended",
        Outcome::Mended => "mended",
        Outcome::Fetchable => "others may have it",
        Outcome::Wanted => "asked for",
        _ => "lost here",
    };
    format!("{part}{place}: {} ({done})", finding.what)
}
