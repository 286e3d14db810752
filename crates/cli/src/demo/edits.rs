//! Edits made while the devices are apart, and what must come of them.

use anyhow::Context;
use larder::{Cursor, Document, Space};
use serde_json::{Value, json};

use super::devices::{Device, Devices, FIRST, SECOND};
use super::report::Report;
use crate::commands::title;
use crate::files::{COLLECTION, Object};

const DOCUMENTS_READ_MAX: usize = 4000;
const PAGE_DOCUMENTS: usize = 256;

const FIRST_LINE: &str = "(Written at the top, on the laptop, while away.)\n";
const LAST_LINE: &str = "\n(Written at the end, on the kitchen tablet, meanwhile.)\n";

/// The documents that both devices will edit.
#[derive(Debug)]
pub(crate) struct Subjects {
    /// A text of several lines.
    text: Document,
    /// Another; it will be deleted on one device and edited on the other.
    doomed: Document,
    /// A record of fields, and one of them with a short text.
    record: Document,
    field: String,
}

/// Takes them from the folder's documents, or makes what is not among those.
pub(crate) async fn choose(space: &Space) -> anyhow::Result<Subjects> {
    let mut texts: Vec<Document> = Vec::new();
    let mut record = None;
    // What a household would really edit twice, if this is the sample one.
    for path in ["lists/shopping.md", "lists/rainy-saturday-jobs.md"] {
        texts.extend(space.find(COLLECTION, path).await?.into_iter().find(is_text));
    }
    let car = space.find(COLLECTION, "records/car.json").await?.into_iter().next();
    record = record.or(car.filter(|document| short_field(document).is_some()));
    let mut after: Option<Cursor> = None;
    let mut read = 0;
    while (texts.len() < 2 || record.is_none()) && read < DOCUMENTS_READ_MAX {
        let page = space.list(Some(COLLECTION), after, PAGE_DOCUMENTS).await?;
        read += PAGE_DOCUMENTS;
        for document in page.documents {
            if texts.len() < 2
                && is_text(&document)
                && !texts.iter().any(|t| t.object == document.object)
            {
                texts.push(document);
            } else if record.is_none() && short_field(&document).is_some() {
                record = Some(document);
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    while texts.len() < 2 {
        let number = texts.len() + 1;
        let text =
            format!("# Note {number}\n\nThe folder had too few texts,\nso the demo brought one.\n");
        let path = format!("larder-demo/note-{number}.md");
        let value = json!({"path": path, "format": "markdown", "text": text});
        texts.push(make(space, &value).await?);
    }
    let record = if let Some(record) = record {
        record
    } else {
        let value = json!({"colour": "green", "rooms": 5});
        let path = "larder-demo/house.json";
        make(space, &json!({"path": path, "format": "json", "value": value})).await?
    };
    let field = short_field(&record).context("the record has no short field")?;
    let (doomed, text) = (texts.pop().context("no text")?, texts.pop().context("no text")?);
    Ok(Subjects { text, doomed, record, field })
}

async fn make(space: &Space, value: &Value) -> anyhow::Result<Document> {
    let (object, _) = space.create(COLLECTION, value).await?;
    space.document(object).await?.context("a document that was just made is gone")
}

fn is_text(document: &Document) -> bool {
    text_of(&document.value)
        .is_some_and(|text| (40..8000).contains(&text.len()) && text.lines().count() >= 3)
}

fn text_of(value: &Object) -> Option<&str> {
    value.get("text").and_then(Value::as_str)
}

/// The first field with a short text, which merges as a whole.
fn short_field(document: &Document) -> Option<String> {
    let fields = document.value.get("value")?.as_object()?;
    let short = |text: &str| (1..60).contains(&text.len()) && !text.contains('\n');
    let mut short = fields.iter().filter(|(_, value)| value.as_str().is_some_and(short));
    short.next().map(|(name, _)| name.clone())
}

fn field_of<'a>(value: &'a Object, field: &str) -> Option<&'a Value> {
    value.get("value")?.get(field)
}

fn with_text(document: &Document, text: String) -> Object {
    let mut value = document.value.clone();
    value.insert("text".to_owned(), Value::String(text));
    value
}

/// The record with the contested field set, and one field more.
fn with_fields(subjects: &Subjects, contested: &str, added: &str) -> Object {
    let mut value = subjects.record.value.clone();
    if let Some(fields) = value.get_mut("value").and_then(Value::as_object_mut) {
        fields.insert(subjects.field.clone(), contested.into());
        fields.insert(added.to_owned(), true.into());
    }
    value
}

const FIRST_ADDED: &str = "seen on the laptop";
const SECOND_ADDED: &str = "seen on the kitchen tablet";

impl Subjects {
    fn contested(&self) -> [String; 2] {
        let before = field_of(&self.record.value, &self.field).and_then(Value::as_str);
        let before = before.unwrap_or_default();
        [FIRST, SECOND].map(|device| format!("{before} ({device})"))
    }

    fn text_before(&self) -> &str {
        text_of(&self.text.value).unwrap_or_default()
    }
}

async fn put(device: &Device, document: &Document, value: &Object) -> anyhow::Result<()> {
    device.space.put(document.collection.as_str(), document.object, value).await?;
    Ok(())
}

/// Both devices edit the same three documents; neither hears of the other.
pub(crate) async fn apart(
    devices: &Devices,
    subjects: &Subjects,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Devices { first, second } = devices;
    let [first_value, second_value] = subjects.contested();
    let text = subjects.text_before();
    put(first, &subjects.text, &with_text(&subjects.text, format!("{FIRST_LINE}{text}"))).await?;
    put(second, &subjects.text, &with_text(&subjects.text, format!("{text}{LAST_LINE}"))).await?;
    put(first, &subjects.record, &with_fields(subjects, &first_value, FIRST_ADDED)).await?;
    put(second, &subjects.record, &with_fields(subjects, &second_value, SECOND_ADDED)).await?;
    first.space.delete(subjects.doomed.object).await?;
    let edited = text_of(&subjects.doomed.value).unwrap_or_default().to_owned() + LAST_LINE;
    put(second, &subjects.doomed, &with_text(&subjects.doomed, edited)).await?;
    let (one, other) = (first.space.digest().await?, second.space.digest().await?);
    let detail = "three documents, edited or deleted on both; they differ now";
    report.check("edits apart", one != other, detail)?;
    Ok(())
}

/// After the devices met again.
pub(crate) async fn check(
    devices: &Devices,
    subjects: &Subjects,
    report: &mut Report,
) -> anyhow::Result<()> {
    check_text(devices, subjects, report).await?;
    check_record(devices, subjects, report).await?;
    check_doomed(devices, subjects, report).await
}

async fn values(devices: &Devices, document: &Document) -> anyhow::Result<[Option<Object>; 2]> {
    let first = devices.first.space.document(document.object).await?;
    let second = devices.second.space.document(document.object).await?;
    Ok([first, second].map(|document| document.map(|document| document.value)))
}

async fn check_text(
    devices: &Devices,
    subjects: &Subjects,
    report: &mut Report,
) -> anyhow::Result<()> {
    let expect = format!("{FIRST_LINE}{}{LAST_LINE}", subjects.text_before());
    let merged = values(devices, &subjects.text).await?;
    let ok = merged
        .iter()
        .all(|value| value.as_ref().and_then(text_of).is_some_and(|text| text == expect));
    let title = title(&subjects.text.value);
    let detail = if ok {
        format!("{title}: merged; the top from one, the end from the other")
    } else {
        format!("{title}: an edit is missing after the merge")
    };
    report.check("same text, different places", ok, detail)?;
    Ok(())
}

async fn check_record(
    devices: &Devices,
    subjects: &Subjects,
    report: &mut Report,
) -> anyhow::Result<()> {
    let field = &subjects.field;
    let contested = subjects.contested().map(Value::String);
    let [first, second] = values(devices, &subjects.record).await?;
    let shown = second.as_ref().and_then(|value| field_of(value, field)).cloned();
    let both_added = [FIRST_ADDED, SECOND_ADDED].iter().all(|added| {
        second.as_ref().and_then(|value| field_of(value, added)) == Some(&Value::Bool(true))
    });
    let lost = contested.iter().find(|value| Some(*value) != shown.as_ref());
    let conflicts = devices.second.space.conflicts(subjects.record.object).await?;
    let is_kept =
        conflicts.iter().any(|conflict| lost.is_some_and(|lost| conflict.others.contains(lost)));
    let ok = first == second
        && shown.as_ref().is_some_and(|shown| contested.contains(shown))
        && both_added
        && is_kept;
    let title = title(&subjects.record.value);
    let (shown, lost) = (shown.unwrap_or_default(), lost.cloned().unwrap_or_default());
    report.check("same field", ok, format!("{title}: “{field}” is {shown} on both"))?;
    report.tell(&format!("and {lost} is kept beside it, as a conflict to settle"))?;
    Ok(())
}

async fn check_doomed(
    devices: &Devices,
    subjects: &Subjects,
    report: &mut Report,
) -> anyhow::Result<()> {
    let object = subjects.doomed.object;
    let gone = values(devices, &subjects.doomed).await?.iter().all(Option::is_none);
    let first = devices.first.space.is_deleted(object).await?;
    let second = devices.second.space.is_deleted(object).await?;
    let title = title(&subjects.doomed.value);
    let detail = if gone && first && second {
        format!("{title}: deleted on one, edited on the other: the tombstone won")
    } else {
        format!("{title}: it came back after its deletion")
    };
    report.check("delete against edit", gone && first && second, detail)?;
    Ok(())
}
