//! `larder contract`: what becomes of personal data in what is written in a space.

use clap::Args;
use larder::{Band, ContractAction, PersonalKind, Space};
use larder_types::{CollectionName, SpaceName};
use serde_json::json;

use crate::args::collection;
use crate::exit::Exit;
use crate::home::Call;
use crate::output::Table;

#[derive(Debug, Args)]
pub(crate) struct ContractArgs {
    /// The space
    pub(crate) space: SpaceName,
    /// contact, financial, health or credentials, = warn, amber, red, black, redact or refuse; may
    /// be repeated
    #[arg(long = "set", value_name = "KIND=ACTION", value_parser = setting)]
    pub(crate) settings: Vec<(PersonalKind, ContractAction)>,
    /// The kind that nothing is set for any more; may be repeated
    #[arg(long = "remove", value_name = "KIND", value_parser = kind)]
    pub(crate) removed: Vec<PersonalKind>,
    /// In documents of this collection; without it, of all that have no contract of their own
    #[arg(long, value_parser = collection)]
    pub(crate) collection: Option<CollectionName>,
}

fn kind(text: &str) -> Result<PersonalKind, String> {
    let kind = PersonalKind::from_name(text);
    kind.ok_or_else(|| "a kind is contact, financial, health or credentials".to_owned())
}

fn setting(text: &str) -> Result<(PersonalKind, ContractAction), String> {
    let (of, action) = text.split_once('=').ok_or("KIND=ACTION, as health=amber")?;
    let action = match action {
        "warn" => ContractAction::Warn,
        "amber" => ContractAction::Raise(Band::Amber),
        "red" => ContractAction::Raise(Band::Red),
        "black" => ContractAction::Raise(Band::Black),
        "redact" => ContractAction::Redact,
        "refuse" => ContractAction::Refuse,
        _ => return Err("an action is warn, amber, red, black, redact or refuse".to_owned()),
    };
    Ok((kind(of)?, action))
}

/// What it is called, and what it does.
fn words(action: ContractAction) -> (String, String) {
    let (name, what) = match action {
        ContractAction::Warn => ("warn", "written, and told"),
        ContractAction::Raise(band) => {
            let (name, what) = (band.to_string().to_lowercase(), format!("in {band} or above"));
            return (name, what);
        }
        ContractAction::Redact => ("redact", "taken out before it is written"),
        ContractAction::Refuse => ("refuse", "not written"),
        _ => ("other", "known to newer versions"),
    };
    (name.to_owned(), what.to_owned())
}

pub(crate) async fn run(call: &Call<'_>, args: &ContractArgs) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let name = args.collection.as_ref().map(CollectionName::as_str);
    let set = args.settings.iter().map(|(kind, action)| (*kind, Some(*action)));
    for (kind, action) in set.chain(args.removed.iter().map(|kind| (*kind, None))) {
        let receipt = space.set_contract(name, kind, action).await?;
        out.json(&json!({
            "event": "contract-set",
            "collection": name,
            "kind": kind.name(),
            "action": action.map(|action| words(action).0),
            "seq": receipt.seq,
            "entry": receipt.entry.to_string(),
        }))?;
        out.line(&format!("set, entry {} of this device", receipt.seq))?;
    }
    show(call, &space).await?;
    profile.close().await?;
    Ok(Exit::Done)
}

async fn show(call: &Call<'_>, space: &Space) -> anyhow::Result<()> {
    let out = call.out;
    let contracts = space.contracts().await?;
    let mut table = Table::new(&["collection", "kind", "action", "what it does"]);
    for contract in &contracts {
        let (action, what) = words(contract.action);
        let collection = contract.collection.as_ref().map(ToString::to_string);
        let kind = contract.kind.name();
        out.json(&json!({ "collection": collection, "kind": kind, "action": action }))?;
        let collection = collection.unwrap_or_else(|| "(all others)".to_owned());
        table.row([collection, kind.to_owned(), action, what]);
    }
    if contracts.is_empty() {
        out.note(&format!(
            "Nothing is set: personal data are written as anything. To keep health notes from \
             devices that are cleared for GREEN: larder contract {} --set health=amber",
            space.name()
        ));
    } else if !out.is_json() {
        out.write(table.render().as_bytes())?;
    }
    Ok(())
}
