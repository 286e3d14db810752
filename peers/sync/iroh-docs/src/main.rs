//! iroh-docs as a side of the transfer: persistent stores, everything else as it comes, but no
//! relays, no name lookup and loopback only.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use futures_lite::StreamExt as _;
use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, RelayMode};
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::{ALPN as BLOBS_ALPN, BlobsProtocol};
use iroh_docs::api::protocol::{AddrInfoOptions, ShareMode};
use iroh_docs::engine::LiveEvent;
use iroh_docs::protocol::Docs;
use iroh_docs::store::Query;
use iroh_docs::{ALPN as DOCS_ALPN, ContentStatus, DocTicket};
use iroh_gossip::ALPN as GOSSIP_ALPN;
use iroh_gossip::net::Gossip;
use peers_side::{
    Arguments, Arrived, Command, Offer, Record, SILENCE, Served, Stopwatch, peak_kib, tell,
    until_told,
};
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Write { dir, records } => write(&dir, records).await,
        Command::Serve { dir, .. } => serve(&dir).await,
        Command::Fetch { dir, records, offer } => fetch(&dir, records, &offer).await,
    }
}

struct Node {
    router: Router,
    blobs: FsStore,
    docs: Docs,
}

impl Node {
    async fn open(dir: &Path) -> Result<Self> {
        let endpoint = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")?
            .bind()
            .await?;
        let (blobs_dir, docs_dir) = (dir.join("blobs"), dir.join("docs"));
        for folder in [&blobs_dir, &docs_dir] {
            std::fs::create_dir_all(folder)?;
        }
        let blobs = FsStore::load(blobs_dir).await?;
        let gossip = Gossip::builder().spawn(endpoint.clone());
        let docs = Docs::persistent(docs_dir)
            .spawn(endpoint.clone(), (*blobs).clone(), gossip.clone())
            .await?;
        let router = Router::builder(endpoint)
            .accept(BLOBS_ALPN, BlobsProtocol::new(&blobs, None))
            .accept(GOSSIP_ALPN, gossip)
            .accept(DOCS_ALPN, docs.clone())
            .spawn();
        Ok(Self { router, blobs, docs })
    }

    async fn close(self) -> Result<()> {
        self.router.shutdown().await?;
        // The router's protocols have ended the stores; a second end is none.
        let _ = self.blobs.shutdown().await;
        Ok(())
    }
}

async fn write(dir: &Path, records: u64) -> Result<()> {
    let node = Node::open(dir).await?;
    let author = node.docs.author_default().await?;
    let doc = node.docs.create().await?;
    for number in 0..records {
        doc.set_bytes(author, number.to_string(), Record::new(number).to_json()).await?;
    }
    node.close().await
}

async fn serve(dir: &Path) -> Result<()> {
    let node = Node::open(dir).await?;
    let (id, _) = {
        let mut docs = node.docs.list().await?;
        docs.next().await.context("there is no document")??
    };
    let doc = node.docs.open(id).await?.context("the document is gone")?;
    let ticket = doc.share(ShareMode::Write, AddrInfoOptions::Addresses).await?;
    doc.start_sync(Vec::new()).await?;
    tell(&Offer { offer: ticket.to_string() })?;
    tokio::task::spawn_blocking(until_told).await?;
    node.close().await?;
    tell(&Served { peak_kib: peak_kib()? })
}

async fn fetch(dir: &Path, records: u64, offer: &str) -> Result<()> {
    let node = Node::open(dir).await?;
    let stopwatch = Stopwatch::start();
    let ticket: DocTicket = offer.parse()?;
    let (doc, events) = node.docs.import_and_subscribe(ticket).await?;
    let mut events = std::pin::pin!(events);
    let (mut entries, mut ready) = (0, HashSet::new());
    while entries < records || (ready.len() as u64) < records {
        let Ok(event) = timeout(SILENCE, events.next()).await else {
            let here = ready.len();
            bail!("nothing came for a minute, and {here} of {records} records are here");
        };
        match event.context("no more events")?? {
            LiveEvent::InsertRemote { entry, content_status, .. } => {
                entries += 1;
                if content_status == ContentStatus::Complete {
                    ready.insert(entry.content_hash());
                }
            }
            LiveEvent::ContentReady { hash } => {
                ready.insert(hash);
            }
            _ => {}
        }
    }
    let fetched = stopwatch.stop()?;

    let mut arrived = Arrived::new(records);
    let mut found = std::pin::pin!(doc.get_many(Query::all()).await?);
    while let Some(entry) = found.next().await {
        arrived.take_json(&node.blobs.get_bytes(entry?.content_hash()).await?)?;
    }
    arrived.check()?;
    node.close().await?;
    tell(&fetched)
}
