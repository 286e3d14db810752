//! samod as a side of the transfer: files and TCP, everything else as it comes. Each record is an
//! Automerge document of its own, as each is an object of its own elsewhere.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use automerge::transaction::Transactable as _;
use automerge::{Automerge, ROOT, ReadDoc as _};
use clap::Parser as _;
use peers_side::{
    Arguments, Arrived, Command, Offer, Record, Served, Stopwatch, peak_kib, tell, until_told,
};
use samod::storage::TokioFilesystemStorage;
use samod::{BackoffConfig, DocHandle, DocumentId, Repo};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// The ids of the documents, which the other side must be handed.
const IDS: &str = "ids";

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Write { dir, records } => write(&dir, records).await,
        Command::Serve { dir, .. } => serve(&dir).await,
        Command::Fetch { dir, records, offer } => fetch(&dir, records, &offer).await,
    }
}

async fn open(dir: &Path) -> Result<Repo> {
    let dir = dir.join("documents");
    fs::create_dir_all(&dir)?;
    let storage = TokioFilesystemStorage::new(dir);
    Ok(Repo::builder(Handle::current()).with_storage(storage).load().await)
}

async fn write(dir: &Path, records: u64) -> Result<()> {
    let repo = open(dir).await?;
    let mut ids = String::new();
    for number in 0..records {
        let document = to_document(&Record::new(number))?;
        let document = repo.create(document).await.map_err(|_| anyhow!("it stopped"))?;
        ids.push_str(&format!("{}\n", document.document_id()));
    }
    repo.stop().await;
    Ok(fs::write(dir.join(IDS), ids)?)
}

async fn serve(dir: &Path) -> Result<()> {
    let repo = open(dir).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let url = format!("tcp://{address}").parse()?;
    let acceptor = repo.make_acceptor(url).map_err(|_| anyhow!("it stopped"))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if acceptor.accept_tokio_io(stream).is_err() {
                return;
            }
        }
    });
    let ids = fs::canonicalize(dir.join(IDS))?;
    tell(&Offer { offer: format!("{address} {}", ids.display()) })?;
    tokio::task::spawn_blocking(until_told).await?;
    repo.stop().await;
    tell(&Served { peak_kib: peak_kib()? })
}

async fn fetch(dir: &Path, records: u64, offer: &str) -> Result<()> {
    /// Documents that are asked for at the same time.
    const AT_ONCE: usize = 256;
    let (address, ids) = offer.split_once(' ').context("not an offer")?;
    let ids = fs::read_to_string(ids)?;
    let ids = ids.lines().map(str::parse).collect::<std::result::Result<Vec<DocumentId>, _>>();
    let ids = ids.map_err(|e| anyhow!("not a document id: {e:?}"))?;
    let repo = open(dir).await?;

    let stopwatch = Stopwatch::start();
    let url = format!("tcp://{address}").parse()?;
    let dialer = repo.dial_tcp(url, BackoffConfig::default())?;
    dialer.established().await.map_err(|_| anyhow!("no connection"))?;
    let (mut finding, mut found) = (JoinSet::new(), Vec::new());
    for id in ids {
        if finding.len() == AT_ONCE {
            found.push(one(&mut finding).await?);
        }
        finding.spawn(repo.find(id));
    }
    while !finding.is_empty() {
        found.push(one(&mut finding).await?);
    }
    let fetched = stopwatch.stop()?;

    let mut arrived = Arrived::new(records);
    for document in found {
        arrived.take(&document.with_document(|document| to_record(document))?)?;
    }
    arrived.check()?;
    repo.stop().await;
    tell(&fetched)
}

type Found = std::result::Result<Option<DocHandle>, samod::Stopped>;

async fn one(finding: &mut JoinSet<Found>) -> Result<DocHandle> {
    let found = finding.join_next().await.context("nothing is looked for")??;
    found.map_err(|_| anyhow!("it stopped"))?.context("a document was not found")
}

fn to_document(record: &Record) -> Result<Automerge> {
    let mut document = Automerge::new();
    let mut tx = document.transaction();
    tx.put(ROOT, "number", record.number)?;
    tx.put(ROOT, "title", record.title.as_str())?;
    tx.put(ROOT, "author", record.author.as_str())?;
    tx.put(ROOT, "created", record.created)?;
    tx.put(ROOT, "body", record.body.as_str())?;
    tx.commit();
    Ok(document)
}

fn to_record(document: &Automerge) -> Result<Record> {
    let number = |key: &str| {
        let found = document.get(ROOT, key)?.context("a field is missing")?.0;
        found.to_u64().context("not a number")
    };
    let text = |key: &str| {
        let found = document.get(ROOT, key)?.context("a field is missing")?.0;
        found.into_string().map_err(|_| anyhow!("not a text"))
    };
    Ok(Record {
        number: number("number")?,
        title: text("title")?,
        author: text("author")?,
        created: number("created")?,
        body: text("body")?,
    })
}
