//! p2panda as a side of the transfer: its node with a database in a file, no relays, no mDNS and
//! loopback only. The address of the serving node is put into the other's address book.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use futures_util::StreamExt as _;
use p2panda::network::MdnsDiscoveryMode;
use p2panda::streams::{StreamEvent, StreamSubscription};
use p2panda::{EndpointAddr, Node, SigningKey, Topic};
use p2panda_net::AddressBook;
use p2panda_net::addrs::NodeInfo;
use p2panda_net::utils::from_verifying_key;
use p2panda_store::{SqliteStore, SqliteStoreBuilder};
use peers_side::{
    Arguments, Arrived, Command, Offer, Record, SILENCE, Served, Stopwatch, peak_kib, tell,
    until_told,
};
use tokio::time::timeout;

const SERVER: [u8; 32] = [1; 32];
const CLIENT: [u8; 32] = [2; 32];
const TOPIC: [u8; 32] = [3; 32];

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Write { dir, records } => write(&dir, records).await,
        Command::Serve { dir, .. } => serve(&dir).await,
        Command::Fetch { dir, records, offer } => fetch(&dir, records, offer.parse()?).await,
    }
}

async fn store(dir: &Path) -> Result<SqliteStore> {
    let url = format!("sqlite://{}", dir.join("p2panda.db").display());
    Ok(SqliteStoreBuilder::new().database_url(&url).build().await?)
}

async fn node(store: &SqliteStore, key: [u8; 32], port: u16) -> Result<Node> {
    let node = p2panda::builder()
        .signing_key(SigningKey::from_bytes(&key))
        .database_pool(store.pool().clone())
        .mdns_mode(MdnsDiscoveryMode::Disabled)
        .bind_ip_v4(Ipv4Addr::LOCALHOST)
        .bind_port_v4(port)
        .spawn()
        .await?;
    Ok(node)
}

async fn write(dir: &Path, records: u64) -> Result<()> {
    let node = node(&store(dir).await?, SERVER, 0).await?;
    let (tx, rx) = node.stream::<Record>(Topic::from(TOPIC)).await?;
    let drained = tokio::spawn(drain(rx));
    for number in 0..records {
        tx.publish(Record::new(number)).await?.await?;
    }
    drained.abort();
    Ok(())
}

async fn drain(mut events: StreamSubscription<Record>) {
    while events.next().await.is_some() {}
}

async fn serve(dir: &Path) -> Result<()> {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let node = node(&store(dir).await?, SERVER, port).await?;
    let (_tx, rx) = node.stream::<Record>(Topic::from(TOPIC)).await?;
    let drained = tokio::spawn(drain(rx));
    tell(&Offer { offer: SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string() })?;
    tokio::task::spawn_blocking(until_told).await?;
    drained.abort();
    tell(&Served { peak_kib: peak_kib()? })
}

async fn fetch(dir: &Path, records: u64, address: SocketAddr) -> Result<()> {
    let store = store(dir).await?;
    let (topic, server) = (Topic::from(TOPIC), SigningKey::from_bytes(&SERVER).verifying_key());
    // Before there is a node: two address books of one database get into each other's
    // transactions, and the one that fails takes its actor with it ("channel is closed").
    let endpoint = EndpointAddr::new(from_verifying_key(server)).with_ip_addr(address);
    let book = AddressBook::builder().store(store.clone()).spawn().await?;
    book.insert_node_info(NodeInfo::from(endpoint).bootstrap()).await?;
    book.add_topic(server, topic).await?;
    // Answered once the topic is there.
    book.node_info(server).await?.context("the address is not in the book")?;
    drop(book);
    let node = node(&store, CLIENT, 0).await?;

    let stopwatch = Stopwatch::start();
    let (_tx, mut events) = node.stream::<Record>(topic).await?;
    // By number: it hands over some more than once.
    let mut arrived = BTreeMap::new();
    while (arrived.len() as u64) < records {
        let Ok(event) = timeout(SILENCE, events.next()).await else {
            let here = arrived.len();
            bail!("nothing came for a minute, and {here} of {records} records are here");
        };
        if let StreamEvent::Processed { operation, .. } = event.context("no more events")? {
            let record = operation.message();
            arrived.insert(record.number, record.clone());
        }
    }
    let fetched = stopwatch.stop()?;

    let mut check = Arrived::new(records);
    arrived.values().try_for_each(|record| check.take(record))?;
    check.check()?;
    tell(&fetched)
}
