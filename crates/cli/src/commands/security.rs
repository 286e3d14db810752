//! `larder security`: what happened to this device that its people ought to know of.

use std::collections::BTreeMap;

use clap::Args;
use larder::{DeviceId, SecurityEvent, SecuritySummary, SpaceName};
use serde_json::{Value, json};

use crate::commands::profile::short;
use crate::exit::Exit;
use crate::home::{Call, Opened};
use crate::output::{Table, count, counted, printable};

#[derive(Debug, Args)]
pub(crate) struct Security {
    /// Only of this space
    pub(crate) space: Option<SpaceName>,
}

pub(crate) async fn run(call: &Call<'_>, args: &Security) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    if let Some(name) = &args.space {
        // Says what to do if there is none.
        profile.space(name).await?;
    }
    let mut log = profile.security_log().await?;
    if args.space.is_some() {
        log.events.retain(|event| event.space == args.space);
        log.counts.retain(|count| count.space == args.space);
    }
    let labels = labels(&profile).await?;
    let mut events = Table::new(&["when", "space", "what", "device", "", "times"]);
    for event in &log.events {
        out.json(&with_label("event", serde_json::to_value(event)?, event.device, &labels))?;
        events.row([
            event.at.to_string(),
            place(event.space.as_ref()),
            event.kind.to_string(),
            named(event.device, &labels),
            event.detail.clone(),
            count(event.count),
        ]);
    }
    let mut counts = Table::new(&["what", "space", "device", "", "times so far", "last"]);
    for counted in &log.counts {
        out.json(&with_label("count", serde_json::to_value(counted)?, counted.device, &labels))?;
        // What happened once is among the events.
        if counted.count < 2 {
            continue;
        }
        counts.row([
            counted.kind.to_string(),
            place(counted.space.as_ref()),
            named(counted.device, &labels),
            counted.detail.clone(),
            count(counted.count),
            counted.last_at.to_string(),
        ]);
    }
    if log.dropped > 0 {
        let gone = counted(log.dropped, "older event was", "older events were");
        out.line(&format!("{gone} dropped: only the latest of each space are kept."))?;
    }
    if log.events.is_empty() {
        out.line("Nothing has happened yet.")?;
    } else {
        out.line(events.render().trim_end())?;
    }
    if log.counts.iter().any(|counted| counted.count > 1) {
        out.line("\nWhat may happen often is listed when its count doubles:")?;
        out.line(counts.render().trim_end())?;
    }
    if !profile.is_read_only() && args.space.is_none() {
        profile.security_seen().await?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

/// What the devices of all spaces are called, those too that were shut out.
async fn labels(profile: &Opened) -> anyhow::Result<BTreeMap<DeviceId, String>> {
    let mut labels = BTreeMap::new();
    for space in profile.spaces().await? {
        let devices = space.devices().await?.into_iter().chain(space.former_devices().await?);
        labels.extend(devices.map(|device| (device.device, device.label)));
    }
    Ok(labels)
}

fn named(device: Option<DeviceId>, labels: &BTreeMap<DeviceId, String>) -> String {
    match device {
        None => "-".to_owned(),
        Some(id) => labels.get(&id).map_or_else(|| short(&id.to_string()), |l| printable(l)),
    }
}

fn with_label(
    name: &str,
    mut value: Value,
    device: Option<DeviceId>,
    labels: &BTreeMap<DeviceId, String>,
) -> Value {
    if let Value::Object(fields) = &mut value {
        let label = device.and_then(|device| labels.get(&device));
        fields.insert("event".to_owned(), json!(name));
        fields.insert("label".to_owned(), json!(label));
    }
    value
}

fn place(space: Option<&SpaceName>) -> String {
    space.map_or_else(|| "(profile)".to_owned(), ToString::to_string)
}

/// What `larder status` says of it; empty if there is nothing to say.
pub(crate) fn summary(summary: &SecuritySummary) -> String {
    if let Some(what) = &summary.damaged {
        return format!("\n{}: see `larder check`\n", printable(what));
    }
    if summary.latest.is_empty() {
        return String::new();
    }
    let new = counted(summary.new, "new event", "new events");
    let line = |event: &SecurityEvent| {
        let times =
            if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
        let detail = if event.detail.is_empty() { "" } else { ": " };
        let (at, kind) = (event.at, event.kind);
        let place = place(event.space.as_ref());
        format!("  {at}  {place}  {kind}{detail}{}{times}\n", event.detail)
    };
    let lines: String = summary.latest.iter().map(line).collect();
    format!("\nSecurity: {new} since `larder security` was last asked. The latest:\n{lines}")
}
