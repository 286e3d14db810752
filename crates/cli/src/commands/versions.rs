//! `larder history`, `show`, `diff`, `conflicts`: what a document was, and who made it so.

use clap::Args;
use larder::{Difference, HistoryItem, ObjectId, Space, Timestamp, Version, changed_lines};
use serde_json::{Value, json};

use super::documents::pick;
use crate::args::Pick;
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Table, printable};

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// A version that `larder history` lists (its beginning is enough), a time in UTC, or now
    #[arg(long, value_name = "VERSION", default_value = "now")]
    pub(crate) at: String,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// The earlier version: as for `larder show --at`
    pub(crate) from: String,
    /// The later version
    #[arg(default_value = "now")]
    pub(crate) to: String,
}

/// The id that is meant, also of a document that was deleted.
async fn object_of(space: &Space, picked: &Pick) -> anyhow::Result<ObjectId> {
    match picked.document.parse::<ObjectId>() {
        Ok(object) => Ok(object),
        Err(_) => Ok(pick(space, picked).await?.object),
    }
}

pub(crate) async fn history(call: &Call<'_>, args: &Pick) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let object = object_of(&space, args).await?;
    let history = space.history(object).await?;
    if history.is_empty() {
        let message = format!("nothing is known of a document {object} in {}", args.space);
        return Err(Failure::error(Exit::NotFound, message));
    }
    let mut table = Table::new(&["when (claimed)", "what", "who", "receipt", "version"]);
    for item in &history {
        out.json(item)?;
        let ahead = if item.clock_ahead { " (clock ahead)" } else { "" };
        table.row([
            format!("{}{ahead}", item.clock.wall),
            what(item),
            who(item),
            format!("{}/{}", super::profile::short(&item.device.to_string()), item.seq),
            item.version.as_ref().map_or_else(|| "-".to_owned(), |v| short_version(&v.to_string())),
        ]);
    }
    if !out.is_json() {
        out.write(table.render().as_bytes())?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

fn what(item: &HistoryItem) -> String {
    match &item.restored_from {
        Some(from) => format!("{} of {}", item.kind, super::profile::short(&from.to_string())),
        None => item.kind.to_owned(),
    }
}

fn who(item: &HistoryItem) -> String {
    let label = item.label.clone().unwrap_or_else(|| "a device not known here".to_owned());
    match &item.actor {
        Some(actor) => format!("{actor} on {label}"),
        None => label,
    }
}

fn short_version(version: &str) -> String {
    let part = |head: &str| head.chars().take(VERSION_WIDTH).collect::<String>();
    version.split(',').map(part).collect::<Vec<_>>().join(",")
}

/// A time, the heads of a version, or the beginning of one that the history lists.
pub(super) async fn version(
    space: &Space,
    object: ObjectId,
    text: &str,
) -> anyhow::Result<Version> {
    if text == "now" {
        return Ok(Version::Now);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Version::Time(time));
    }
    let history = space.history(object).await?;
    let mut meant: Vec<_> = history
        .into_iter()
        .filter_map(|item| item.version)
        .filter(|version| text.len() >= 4 && version.to_string().starts_with(text))
        .collect();
    meant.dedup();
    match (meant.pop(), meant.is_empty()) {
        (Some(version), true) => Ok(Version::Heads(version)),
        (Some(_), false) => {
            let message = format!("several versions begin with {text}: write more of it");
            Err(Failure::error(Exit::Failed, message))
        }
        (None, _) => text.parse().map(Version::Heads).map_err(|_| {
            let message = format!(
                "{text} is no version: write one that `larder history` lists, a time such as \
                 2026-11-21T14:30:00Z, or `now`"
            );
            Failure::error(Exit::Usage, message)
        }),
    }
}

pub(crate) async fn show(call: &Call<'_>, args: &Show) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.pick.space).await?;
    let object = object_of(&space, &args.pick).await?;
    let version = version(&space, object, &args.at).await?;
    let Some(value) = space.value_at(object, version).await? else {
        let message = format!("the document {object} had not been created at {}", args.at);
        return Err(Failure::error(Exit::NotFound, message));
    };
    out.json(&value)?;
    if !out.is_json() {
        out.write(format!("{}\n", serde_json::to_string_pretty(&value)?).as_bytes())?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn diff(call: &Call<'_>, args: &Diff) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.pick.space).await?;
    let object = object_of(&space, &args.pick).await?;
    let from = version(&space, object, &args.from).await?;
    let to = version(&space, object, &args.to).await?;
    for difference in space.diff(object, from, to).await? {
        out.json(&difference)?;
        out.line(&described(&difference))?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

/// The place, then `-` what is gone and `+` what came; of texts the lines that differ.
fn described(difference: &Difference) -> String {
    let mut lines = vec![printable(&difference.path)];
    let mut put = |sign: char, text: &str| lines.push(format!("{sign} {}", printable(text)));
    match (&difference.before, &difference.after) {
        (Some(Value::String(before)), Some(Value::String(after)))
            if before.contains('\n') || after.contains('\n') =>
        {
            for changed in changed_lines(before, after) {
                for line in changed.before {
                    put('-', line);
                }
                for line in changed.after {
                    put('+', line);
                }
            }
        }
        (before, after) => {
            if let Some(value) = before {
                put('-', &value.to_string());
            }
            if let Some(value) = after {
                put('+', &value.to_string());
            }
        }
    }
    lines.join("\n")
}

pub(crate) async fn conflicts(call: &Call<'_>, args: &Pick) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let object = object_of(&space, args).await?;
    let conflicts = space.conflicts(object).await?;
    for conflict in &conflicts {
        out.json(&json!({
            "path": conflict.path, "shown": conflict.shown, "others": conflict.others,
        }))?;
        let others: Vec<_> = conflict.others.iter().map(ToString::to_string).collect();
        out.line(&printable(&format!(
            "{}: {}, and also {}",
            conflict.path,
            conflict.shown,
            others.join(", ")
        )))?;
    }
    if conflicts.is_empty() {
        out.line("No conflicts.")?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

const VERSION_WIDTH: usize = 12;
