//! `larder space policy`: what devices do in a space where nobody says otherwise.

use clap::Args;
use larder::{Band, Policy, PolicyChange, Receipt, Retention, Role, Space};
use larder_types::SpaceName;
use serde_json::json;

use super::trash::check_removals;
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{Table, counted};

const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The space
    pub(crate) space: SpaceName,
    /// invite=owners or owners-and-admins; band= or clearance=green, amber or red; keep= or trash=
    /// a number of days, or keep=for-ever; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<Setting>,
    /// You are sure, however many documents are over their time by it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// One thing that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Invite(Role),
    Band(Band),
    Clearance(Band),
    Keep(Option<u64>),
    Trash(u64),
}

fn setting(text: &str) -> Result<Setting, String> {
    let band = |text: &str| match text {
        "green" => Ok(Band::Green),
        "amber" => Ok(Band::Amber),
        "red" => Ok(Band::Red),
        _ => Err("a band is green, amber or red".to_owned()),
    };
    let days = |text: &str| {
        let days: Option<u64> = text.parse().ok();
        days.and_then(|days| days.checked_mul(DAY_MS)).ok_or("a number of days".to_owned())
    };
    match text.split_once('=') {
        Some(("invite", "owners")) => Ok(Setting::Invite(Role::Owner)),
        Some(("invite", "owners-and-admins")) => Ok(Setting::Invite(Role::Admin)),
        Some(("invite", _)) => Err("invite is owners or owners-and-admins".to_owned()),
        Some(("band", value)) => band(value).map(Setting::Band),
        Some(("clearance", value)) => band(value).map(Setting::Clearance),
        Some(("keep", "for-ever")) => Ok(Setting::Keep(None)),
        Some(("keep", value)) => days(value).map(|ms| Setting::Keep(Some(ms))),
        Some(("trash", value)) => days(value).map(Setting::Trash),
        _ => Err("what is set is invite, band, clearance, keep or trash".to_owned()),
    }
}

pub(crate) async fn run(call: &Call<'_>, args: &PolicyArgs) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let (mut change, mut kept) = (PolicyChange::default(), None::<Retention>);
    for setting in &args.settings {
        let mut keeps = kept.unwrap_or(space.retention().await?.of_others());
        match *setting {
            Setting::Invite(role) => change.invite = Some(role),
            Setting::Band(band) => change.band = Some(band),
            Setting::Clearance(band) => change.clearance = Some(band),
            Setting::Keep(age_ms) => keeps.age_ms = age_ms,
            Setting::Trash(trash_ms) => keeps.trash_ms = trash_ms,
        }
        if matches!(setting, Setting::Keep(_) | Setting::Trash(_)) {
            kept = Some(keeps);
        }
    }
    let mut receipts: Vec<Receipt> = Vec::new();
    if let Some(kept) = kept {
        let due = space.retention_due(Some((None, None, kept))).await?;
        check_removals(usize::try_from(due.total()).unwrap_or(usize::MAX), args.yes)?;
    }
    if change != PolicyChange::default() {
        receipts.push(space.set_policy(change).await?);
    }
    if let Some(kept) = kept {
        receipts.push(space.set_retention(None, None, kept).await?);
    }
    for receipt in receipts {
        let entry = receipt.entry.to_string();
        out.json(&json!({ "event": "policy-set", "seq": receipt.seq, "entry": entry }))?;
        out.line(&format!("set, entry {} of this device", receipt.seq))?;
    }
    show(call, &space).await?;
    profile.close().await?;
    Ok(Exit::Done)
}

async fn show(call: &Call<'_>, space: &Space) -> anyhow::Result<()> {
    let out = call.out;
    let policy = space.policy().await?;
    let usual = Policy::of_kind(space.name().kind());
    let kept = space.retention().await?.of_others();
    let all = |policy: Policy, kept: Retention| {
        let keep =
            kept.age_ms.map_or_else(|| "for-ever".to_owned(), |ms| (ms / DAY_MS).to_string());
        [
            (
                "invite",
                match policy.invite {
                    None => "nobody",
                    Some(Role::Owner) => "owners",
                    Some(_) => "owners-and-admins",
                }
                .into(),
            ),
            ("band", policy.band.to_string().to_lowercase()),
            ("clearance", policy.clearance.to_string().to_lowercase()),
            ("keep", keep),
            ("trash", (kept.trash_ms / DAY_MS).to_string()),
        ]
    };
    let mut table = Table::new(&["key", "value", "by its kind", "what it is"]);
    for ((key, value), (_, by_kind)) in all(policy, kept).into_iter().zip(all(usual, usual.kept)) {
        out.json(&json!({ "key": key, "value": value, "by_kind": by_kind }))?;
        table.row([key.to_owned(), value, by_kind, about(key).to_owned()]);
    }
    if !out.is_json() {
        out.write(table.render().as_bytes())?;
    }
    let set = space.retention().await?.set().count() as u64;
    if set > 0 {
        out.note(&format!(
            "How long documents are kept is set otherwise for {}: larder retention {}",
            counted(set, "collection or band", "collections or bands"),
            space.name()
        ));
    }
    Ok(())
}

fn about(key: &str) -> &'static str {
    match key {
        "invite" => "who invites other members",
        "band" => "how sensitive new documents are",
        "clearance" => "what a new member's device may read up to",
        "keep" => "days without a change until a document goes",
        _ => "days that it is in the trash first",
    }
}
