//! `larder delete`, `trash`, `restore`: out of sight first, then for ever, and back as far as that
//! is possible.

use std::collections::BTreeSet;

use clap::Args;
use larder::limits::REMOVALS_UNASKED_MAX;
use larder::{Band, Cursor, Document, ObjectId, Space, UnitOfWork, Version};
use larder_types::{CollectionName, SpaceName};
use serde_json::json;

use super::documents::{outline, pick, tell, title};
use super::versions::version;
use crate::args::{Pick, collection};
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Table, printable};

const PAGE_DOCUMENTS: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The space
    pub(crate) space: SpaceName,
    /// The documents' ids, or the paths they were imported from
    #[arg(value_name = "ID-OR-PATH", required = true)]
    pub(crate) documents: Vec<String>,
    /// The collection whose `path` fields are looked through
    #[arg(long, default_value = "files", value_parser = collection)]
    pub(crate) collection: CollectionName,
    /// Not into the trash, or out of it: nobody can bring it back
    #[arg(long)]
    pub(crate) for_ever: bool,
    /// You are sure, however many they are
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trash {
    /// The space
    pub(crate) space: SpaceName,
    /// Only this collection
    #[arg(long, value_parser = collection)]
    pub(crate) collection: Option<CollectionName>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// Make a new document of this version: as for `larder show --at`
    #[arg(long, value_name = "VERSION")]
    pub(crate) at: Option<String>,
}

/// Stops a command that would remove many documents and was not told to.
pub(super) fn check_removals(count: usize, yes: bool) -> anyhow::Result<()> {
    if yes || count <= REMOVALS_UNASKED_MAX {
        return Ok(());
    }
    let message = format!(
        "this would remove {count} documents, and more than {REMOVALS_UNASKED_MAX} only go with \
         --yes: nothing was removed"
    );
    Err(Failure::error(Exit::Failed, message))
}

pub(crate) async fn delete(call: &Call<'_>, args: &Delete) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let rules = space.retention().await?;
    let of_black = match space.parts().await?.get(1) {
        Some(black) => black.retention().await?,
        None => rules.clone(),
    };
    let mut objects = Vec::new();
    for document in &args.documents {
        let (space_name, collection) = (args.space.clone(), args.collection.clone());
        let named = Pick { space: space_name, document: document.clone(), collection };
        let document = pick(&space, &named).await?;
        let rules = if document.band == Band::Black { &of_black } else { &rules };
        let kept = rules.of(Some(&document.collection), Some(document.band));
        let goes = args.for_ever || kept.trash_ms == 0;
        objects.push((document.object, goes));
    }
    let mut known = BTreeSet::new();
    objects.retain(|(object, _)| known.insert(*object));
    check_removals(objects.len(), args.yes)?;
    let mut unit = UnitOfWork::new();
    for (object, goes) in &objects {
        if *goes { unit.delete(*object) } else { unit.trash(*object) }
    }
    // Whoever named so many said so.
    unit.confirm_removals();
    let receipt = space.commit(unit).await?;
    for (object, goes) in &objects {
        tell(out, if *goes { "deleted" } else { "trashed" }, *object, &receipt)?;
    }
    if objects.iter().any(|(_, goes)| !goes) {
        out.note(&format!("To have it back: larder restore {} ID", args.space));
    }
    profile.close().await?;
    Ok(Exit::Done)
}

pub(crate) async fn list(call: &Call<'_>, args: &Trash) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let mut table = Table::new(&["collection", "id", "in the trash since", "title"]);
    let found = trashed(&space, args.collection.as_ref()).await?;
    for document in &found {
        let since = document.trashed.map(|since| since.to_string()).unwrap_or_default();
        let mut line = outline(document);
        line.insert("trashed".to_owned(), since.clone().into());
        out.json(&line)?;
        table.row([
            printable(document.collection.as_str()),
            document.object.to_string(),
            since.split('.').next().unwrap_or(&since).replace('T', " "),
            printable(&title(&document.value)),
        ]);
    }
    if found.is_empty() {
        out.line("The trash is empty.")?;
    } else if !out.is_json() {
        out.write(table.render().as_bytes())?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

async fn trashed(
    space: &Space,
    collection: Option<&CollectionName>,
) -> anyhow::Result<Vec<Document>> {
    let (mut found, mut after) = (Vec::new(), None::<Cursor>);
    loop {
        let collection = collection.map(CollectionName::as_str);
        let page = space.list_trash(collection, after, PAGE_DOCUMENTS).await?;
        found.extend(page.documents);
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

pub(crate) async fn restore(call: &Call<'_>, args: &Restore) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.pick.space).await?;
    let object = meant(&space, &args.pick).await?;
    let document = space.document(object).await?;
    let at = match &args.at {
        Some(at) => Some(version(&space, object, at).await?),
        None => None,
    };
    match (document, at) {
        (Some(document), None) if document.trashed.is_some() => {
            let receipt = space.undo_trash(object).await?;
            tell(out, "restored", object, &receipt)?;
        }
        (Some(_), None) => {
            let message = format!(
                "the document {object} is there, and not in the trash: to make a new one of an \
                 earlier version, name that with --at (larder history lists them)"
            );
            return Err(Failure::error(Exit::Failed, message));
        }
        (_, at) => {
            let (new, receipt) = space.restore(object, at.unwrap_or(Version::Now)).await?;
            out.json(&json!({
                "event": "restored",
                "id": new.to_string(),
                "from": object.to_string(),
                "seq": receipt.seq,
                "entry": receipt.entry.to_string(),
            }))?;
            out.line(&format!("restored {object} as the new document {new}"))?;
        }
    }
    profile.close().await?;
    Ok(Exit::Done)
}

/// The id of a document in the trash by its path, or any that is named by its id.
async fn meant(space: &Space, named: &Pick) -> anyhow::Result<ObjectId> {
    if let Ok(object) = named.document.parse::<ObjectId>() {
        return Ok(object);
    }
    let is_it = |document: &Document| {
        document.value.get("path").and_then(|path| path.as_str()) == Some(&named.document)
    };
    let mut found = trashed(space, Some(&named.collection)).await?;
    found.retain(is_it);
    match found.as_slice() {
        [] => Ok(pick(space, named).await?.object),
        [only] => Ok(only.object),
        many => {
            let ids: Vec<_> = many.iter().map(|document| document.object.to_string()).collect();
            let message = format!(
                "several documents in the trash have the path {}; name one by its id: {}",
                named.document,
                ids.join(", ")
            );
            Err(Failure::error(Exit::NotFound, message))
        }
    }
}
