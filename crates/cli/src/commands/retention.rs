//! `larder retention`: how long documents are kept, and what goes when their time is over.

use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use larder::{Band, Retention, Space, SpaceKind};
use larder_types::{CollectionName, SpaceName};
use serde_json::{Value, json};

use super::device::OfBand;
use super::trash::check_removals;
use crate::args::collection;
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Output, Table, count, counted};

const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// The space
    pub(crate) space: SpaceName,
    /// The collection; without it, all that nothing is set for
    #[arg(value_parser = collection)]
    pub(crate) collection: Option<CollectionName>,
    /// Only documents of this band
    #[arg(long)]
    pub(crate) band: Option<OfBand>,
    /// After how many days without a change documents go, or `never`
    #[arg(long, value_name = "DAYS")]
    pub(crate) age: Option<Limit>,
    /// How many documents of each band stay, those changed last, or `never`: as many as there are
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<Limit>,
    /// For how many days they are in the trash first; 0: not at all
    #[arg(long, value_name = "DAYS")]
    pub(crate) trash_days: Option<u64>,
    /// Remove now what is over its time by this device's clock
    #[arg(long, conflicts_with_all = ["collection", "band", "age", "count", "trash_days"])]
    pub(crate) apply: bool,
    /// You are sure, however many they are
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A number, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(Option<u64>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self(None)),
            number => match number.parse() {
                Ok(number) if number > 0 => Ok(Self(Some(number))),
                _ => Err("a number from 1 on, or `never`".to_owned()),
            },
        }
    }
}

pub(crate) async fn run(call: &Call<'_>, args: &RetentionArgs) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    if args.apply {
        let parts = space.parts().await?;
        for part in &parts {
            check_apply(part, args.yes).await?;
        }
        for part in &parts {
            apply(out, part).await?;
        }
    } else if (args.age, args.count, args.trash_days) == (None, None, None) {
        show(out, &space.parts().await?).await?;
    } else {
        let band = args.band.map_or(Band::Green, Band::from);
        set(out, &space.part(band).await?, args).await?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

async fn show(out: Output<'_>, parts: &[Space]) -> anyhow::Result<()> {
    let mut table = Table::new(&["collection", "band", "goes after", "stay", "in the trash"]);
    let mut rules = Vec::new();
    for space in parts {
        let all = space.retention().await?;
        let is_black = space.name().kind() == SpaceKind::Black;
        let every = if is_black { Some(Band::Black) } else { None };
        for (name, band, retention) in all.set().chain([(None, None, all.of_others())]) {
            let band = band.or(every).map(|band| band.to_string().to_lowercase());
            let name = name.map(CollectionName::as_str);
            rules.push(json!({
                "space": space.name().to_string(),
                "collection": name,
                "band": band,
                "retention": fields(retention),
            }));
            table.row([
                name.unwrap_or("(all others)").to_owned(),
                band.unwrap_or_else(|| "(all others)".to_owned()),
                retention.age_ms.map_or_else(|| "never".to_owned(), days),
                retention.count.map_or_else(|| "all".to_owned(), count),
                if retention.trash_ms == 0 { "not".to_owned() } else { days(retention.trash_ms) },
            ]);
        }
    }
    for rule in rules {
        out.json(&rule)?;
    }
    if !out.is_json() {
        out.write(table.render().as_bytes())?;
    }
    for space in parts {
        show_due(out, space).await?;
    }
    Ok(())
}

async fn show_due(out: Output<'_>, space: &Space) -> anyhow::Result<()> {
    let due = space.retention_due(None).await?;
    out.json(&json!({ "space": space.name().to_string(), "due": due }))?;
    if due.total() > 0 && due.asks {
        out.note(&format!(
            "{} over their time, and no other device's clock says so too. If it is {} now: \
             larder retention {} --apply",
            counted(due.total(), "document is", "documents are"),
            due.clock,
            space.name()
        ));
    }
    for name in &due.clock_ahead {
        out.note(&format!(
            "Which documents of {name} are the newest cannot be told: the clock of who changed one \
             is ahead."
        ));
    }
    Ok(())
}

fn fields(retention: Retention) -> Value {
    let Retention { age_ms, count, trash_ms } = retention;
    json!({ "age_ms": age_ms, "count": count, "trash_ms": trash_ms })
}

fn days(ms: u64) -> String {
    if ms.is_multiple_of(DAY_MS) { counted(ms / DAY_MS, "day", "days") } else { format!("{ms} ms") }
}

async fn set(out: Output<'_>, space: &Space, args: &RetentionArgs) -> anyhow::Result<()> {
    let all = space.retention().await?;
    let band = args.band.map(Band::from);
    let now = all.of(args.collection.as_ref(), band);
    let ms = |days: u64| days.checked_mul(DAY_MS).context("so many days cannot be set");
    let retention = Retention {
        age_ms: match args.age {
            None => now.age_ms,
            Some(Limit(age)) => age.map(ms).transpose()?,
        },
        count: args.count.map_or(now.count, |Limit(count)| count),
        trash_ms: args.trash_days.map_or(Ok(now.trash_ms), ms)?,
    };
    let name = args.collection.as_ref().map(CollectionName::as_str);
    let due = space.retention_due(Some((name, band, retention))).await?;
    let removed = usize::try_from(due.total()).unwrap_or(usize::MAX);
    check_removals(removed, args.yes)?;
    let receipt = space.set_retention(name, band, retention).await?;
    out.json(&json!({
        "event": "retention-set",
        "collection": name,
        "band": band.map(|band| band.to_string().to_lowercase()),
        "retention": fields(retention),
        "due": due,
        "seq": receipt.seq,
        "entry": receipt.entry.to_string(),
    }))?;
    out.line(&format!("set, entry {} of this device", receipt.seq))?;
    if due.total() > 0 {
        out.note(&format!(
            "{} over their time by it: larder retention {}",
            counted(due.total(), "document is", "documents are"),
            space.name()
        ));
    }
    Ok(())
}

/// Fails if something would go and nobody said that this device's clock is right.
async fn check_apply(space: &Space, yes: bool) -> anyhow::Result<()> {
    let due = space.retention_due(None).await?;
    if yes || due.total() == 0 {
        return Ok(());
    }
    let message = format!(
        "by this device's clock it is {}, and {} of {} would go into the trash and {} for ever: \
         if that is so, add --yes; nothing was removed",
        due.clock,
        counted(due.to_trash, "document", "documents"),
        space.name(),
        counted(due.to_delete, "document", "documents"),
    );
    Err(Failure::error(Exit::Failed, message))
}

async fn apply(out: Output<'_>, space: &Space) -> anyhow::Result<()> {
    let done = space.apply_retention().await?;
    let name = space.name().to_string();
    out.json(&json!({ "event": "retained", "space": name, "retained": done }))?;
    out.line(&format!(
        "{name}: {} put into the trash, {} deleted for ever",
        counted(done.trashed, "document", "documents"),
        counted(done.deleted, "document", "documents"),
    ))?;
    if done.failed > 0 {
        out.note(&format!("{} could not be removed", counted(done.failed, "one", "of them")));
    }
    Ok(())
}
