//! `larder list`, `get`, `put`: documents one by one.

use std::io::Read;

use anyhow::Context;
use larder::limits::DOCUMENT_JSON_BYTES_MAX;
use larder::{Cursor, Document, ObjectId, Receipt, Space, UnitOfWork};
use serde_json::{Value, json};

use crate::args::{Get, List, Pick, Place, Put};
use crate::exit::{Exit, Failure};
use crate::files::{self, Object};
use crate::home::Call;
use crate::output::{Output, printable, shortened};

const PAGE_DOCUMENTS: usize = 256;
const TITLE_WIDTH: usize = 64;

pub(crate) async fn list(call: &Call<'_>, args: &List) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let collection = args.collection.as_ref().map(ToString::to_string);
    let mut after: Option<Cursor> = None;
    let mut is_empty = true;
    loop {
        let page = space.list(collection.as_deref(), after, PAGE_DOCUMENTS).await?;
        for document in &page.documents {
            if is_empty {
                out.line(&columns("collection", "id", "band", "updated", "title"))?;
                is_empty = false;
            }
            let mut line = outline(document);
            if args.values {
                line.insert("value".to_owned(), Value::Object(document.value.clone()));
            }
            out.json(&line)?;
            out.line(&columns(
                document.collection.as_str(),
                &document.object.to_string(),
                &document.band.to_string(),
                &when(document),
                &title(&document.value),
            ))?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if is_empty {
        out.line(&format!("Nothing there yet. Next: larder import {} FOLDER", args.space))?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}

fn columns(collection: &str, id: &str, band: &str, updated: &str, title: &str) -> String {
    let (collection, title) = (printable(collection), printable(title));
    let line = format!("{collection:<12}  {id:<32}  {band:<5}  {updated:<20}  {title}");
    line.trim_end().to_owned()
}

/// What identifies a document, as JSON.
pub(crate) fn outline(document: &Document) -> Object {
    let mut line = Object::new();
    line.insert("collection".to_owned(), document.collection.as_str().into());
    line.insert("id".to_owned(), document.object.to_string().into());
    line.insert("title".to_owned(), title(&document.value).into());
    line.insert("updated".to_owned(), document.updated.wall.to_string().into());
    line.insert("by".to_owned(), document.by.to_string().into());
    line.insert("band".to_owned(), document.band.to_string().to_lowercase().into());
    line
}

fn when(document: &Document) -> String {
    let time = document.updated.wall.to_string();
    time.split('.').next().unwrap_or(&time).replace('T', " ")
}

/// What a person knows a document by.
pub(crate) fn title(value: &Object) -> String {
    let named = ["path", "title", "name"].iter().find_map(|key| value.get(*key)?.as_str());
    let text = named.or_else(|| value.values().find_map(Value::as_str)).unwrap_or_default();
    shortened(text, TITLE_WIDTH)
}

/// Finds the one document meant by an id or a path.
pub(super) async fn pick(space: &Space, pick: &Pick) -> anyhow::Result<Document> {
    let named = &pick.document;
    if let Ok(object) = named.parse::<ObjectId>() {
        if let Some(document) = space.document(object).await? {
            return Ok(document);
        }
        let message = if let Some(new) = space.redacted_as(object).await? {
            format!("the document {named} was redacted: what is left of it is {new}")
        } else if space.is_deleted(object).await? {
            format!("the document {named} was deleted, which is for ever")
        } else {
            format!("there is no document {named} in {}: see `larder list {0}`", pick.space)
        };
        return Err(Failure::error(Exit::NotFound, message));
    }
    let mut found = space.find(pick.collection.as_str(), named).await?;
    match (found.pop(), found.is_empty()) {
        (Some(document), true) => Ok(document),
        (Some(last), false) => {
            let ids: Vec<_> = found.iter().chain([&last]).map(|d| d.object.to_string()).collect();
            Err(Failure::error(
                Exit::NotFound,
                format!(
                    "several documents have the path {named}; name one by its id: {}",
                    ids.join(", ")
                ),
            ))
        }
        (None, _) => Err(Failure::error(
            Exit::NotFound,
            format!(
                "no document of the collection {0} has the path {named}: see `larder list {1}`, \
                 and `larder trash {1}`",
                pick.collection, pick.space
            ),
        )),
    }
}

pub(crate) async fn get(call: &Call<'_>, args: &Get) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.pick.space).await?;
    let document = pick(&space, &args.pick).await?;
    profile.close().await?;
    if args.text {
        let text = document.value.get("text").and_then(Value::as_str).ok_or_else(|| {
            Failure::error(Exit::Failed, "this document has no `text`: leave --text out")
        })?;
        out.write(text.as_bytes())?;
    } else if out.is_json() {
        out.json(&document.value)?;
    } else {
        // JSON escapes control characters; the rest of a value is shown as it is.
        let mut text = serde_json::to_string_pretty(&document.value)?;
        text.push('\n');
        out.write(text.as_bytes())?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn put(call: &Call<'_>, args: &Put) -> anyhow::Result<Exit> {
    let out = call.out;
    let value = read_object(call, &args.file)?;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let collection = args.collection.as_str();
    let mut unit = UnitOfWork::new();
    if let Some(band) = args.band {
        unit.band(band.into());
    }
    let object = match args.id {
        Some(object) => {
            unit.put(collection, object, &value)?;
            object
        }
        None => unit.create(collection, &value)?,
    };
    let receipt = space.commit(unit).await?;
    tell(out, "put", object, &receipt)?;
    profile.close().await?;
    Ok(Exit::Done)
}

fn read_object(call: &Call<'_>, file: &Place) -> anyhow::Result<Object> {
    if file.is_stdin() {
        parse_object("stdin", call.stdin())
    } else {
        let name = file.to_string();
        let opened = std::fs::File::open(call.path(file));
        parse_object(&name, opened.with_context(|| format!("cannot read {name}"))?)
    }
}

fn parse_object(name: &str, from: impl Read) -> anyhow::Result<Object> {
    let bytes_max = DOCUMENT_JSON_BYTES_MAX as u64;
    let mut text = String::new();
    let read = from.take(bytes_max + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(
        text.len() as u64 <= bytes_max,
        "{name} has more than {bytes_max} bytes, a document's limit"
    );
    match files::json(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => {
            anyhow::bail!("{name}: a document is a JSON object, such as {{\"title\": \"Milk\"}}")
        }
        Err(reason) => anyhow::bail!("{name}: {reason}"),
    }
}

pub(super) fn tell(
    out: Output<'_>,
    what: &str,
    object: ObjectId,
    receipt: &Receipt,
) -> anyhow::Result<()> {
    out.json(&json!({
        "event": what,
        "id": object.to_string(),
        "device": receipt.device.to_string(),
        "seq": receipt.seq,
        "entry": receipt.entry.to_string(),
    }))?;
    out.line(&format!("{what} {object}, entry {} of this device", receipt.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_path_then_a_name_then_any_text() {
        let of = |value: Value| title(value.as_object().unwrap());
        assert_eq!(of(json!({"text": "x", "path": "a/b.md"})), "a/b.md");
        assert_eq!(of(json!({"name": "n", "title": "t"})), "t");
        assert_eq!(of(json!({"x": 1, "y": "a\nb"})), "a b");
        assert_eq!(of(json!({})), "");
    }

    #[test]
    fn put_takes_one_strict_object() {
        let check =
            |text: &str| parse_object("stdin", text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(check("{\"a\": 1}").unwrap()["a"], 1);
        assert!(check("[1]").unwrap_err().contains("JSON object"));
        assert!(check("{\"a\": }").unwrap_err().contains("column"));
        assert!(check(&" ".repeat(DOCUMENT_JSON_BYTES_MAX + 1)).unwrap_err().contains("limit"));
    }
}
