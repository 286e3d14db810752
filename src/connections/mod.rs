//! Connections with other devices: who may connect, dialling, pairing, and a session for each
//! common space.

mod accept;
mod addresses;
mod blobs;
mod dial;
mod discover;
mod network;
mod pairing;
mod session;
mod talk;

pub(crate) use accept::listen;
pub(crate) use dial::{follow, label, sync, sync_with};
pub(crate) use discover::discover;
pub(crate) use network::Network;
pub(crate) use pairing::{Joining, begin_join, begin_join_by_code, invite, invite_by_code};
