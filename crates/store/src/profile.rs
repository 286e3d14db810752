//! The profile's database: settings, keys, spaces, peers, joins under way.
//!
//! Invariant: a key is stored only wrapped, by a key this crate never sees.

use larder_types::{DeviceId, Hash, SpaceId, SpaceName, Timestamp, TransportId};
use rusqlite::{Connection, Row, params};

use crate::error::StoreError;
use crate::sql::{Uint, all, execute, first, parsed};

/// The hash of an invitation's secret, by which both sides name it.
pub use larder_types::Hash as InvitationId;

/// A setting, as the bytes it was set to.
///
/// # Errors
/// [`StoreError::Read`] of `settings`.
pub fn setting(conn: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    first(conn, "settings", "SELECT value FROM settings WHERE key = ?1", [key], |row| row.get(0))
}

/// Sets or changes a setting.
///
/// # Errors
/// [`StoreError::Write`] of `settings`.
pub fn set_setting(conn: &Connection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO settings (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    execute(conn, "settings", sql, params![key, value]).map(drop)
}

/// Forgets a setting.
///
/// # Errors
/// [`StoreError::Write`] of `settings`.
pub fn remove_setting(conn: &Connection, key: &str) -> Result<(), StoreError> {
    execute(conn, "settings", "DELETE FROM settings WHERE key = ?1", [key]).map(drop)
}

/// All keys of the profile, wrapped, by name.
///
/// # Errors
/// [`StoreError::Read`] of `keys`.
pub fn keys(conn: &Connection) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let sql = "SELECT name, wrapped FROM keys ORDER BY name";
    all(conn, "keys", sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// A key of the profile, wrapped.
///
/// # Errors
/// [`StoreError::Read`] of `keys`.
pub fn key(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    first(conn, "keys", "SELECT wrapped FROM keys WHERE name = ?1", [name], |row| row.get(0))
}

/// Stores or replaces a wrapped key.
///
/// # Errors
/// [`StoreError::Write`] of `keys`.
pub fn set_key(conn: &Connection, name: &str, wrapped: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO keys (name, wrapped) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET wrapped = excluded.wrapped";
    execute(conn, "keys", sql, params![name, wrapped]).map(drop)
}

/// Forgets a key of the profile.
///
/// # Errors
/// [`StoreError::Write`] of `keys`.
pub fn remove_key(conn: &Connection, name: &str) -> Result<(), StoreError> {
    execute(conn, "keys", "DELETE FROM keys WHERE name = ?1", [name]).map(drop)
}

/// How far this profile's membership of a space has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership {
    /// The file exists, the space's content is still to come.
    Joining,
    /// A member like any other.
    Joined,
    /// Kept for reading; this device no longer takes part.
    Left,
}

impl Membership {
    const fn code(self) -> u8 {
        match self {
            Self::Joining => 0,
            Self::Joined => 1,
            Self::Left => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Joining, Self::Joined, Self::Left].into_iter().find(|state| state.code() == code)
    }
}

/// A space this profile knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The space.
    pub space: SpaceId,
    /// Its name, unique within the profile.
    pub name: SpaceName,
    /// Its database's file, and what opens it.
    pub home: Home,
    /// This profile's device there.
    pub device: DeviceId,
    /// When it was created or joined here.
    pub created_at: Timestamp,
    /// How far the membership has come.
    pub state: Membership,
    /// The own log's size after some late commit, 0 for none yet.
    pub mirror_seq: u64,
    /// The root that belongs to `mirror_seq`.
    pub mirror_root: Option<Hash>,
}

/// Where a space's database is, and under which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The file's name within the profile's directory.
    pub file: String,
    /// The secret that its at-rest key derives from, wrapped.
    pub wrapped_key: Vec<u8>,
    /// When that was drawn.
    pub key_created_at: Timestamp,
    /// Since when another key is wished for, if one is.
    pub rekey_wished_at: Option<Timestamp>,
}

const SPACE_COLUMNS: &str =
    "SELECT space, name, file, wrapped_key, device, created_at, state, mirror_seq, mirror_root,
         key_created_at, rekey_wished_at
     FROM spaces";

fn space_row(row: &Row<'_>) -> rusqlite::Result<Space> {
    Ok(Space {
        space: SpaceId::new(row.get(0)?),
        name: parsed(row, 1, |text: String| text.parse().ok())?,
        home: Home {
            file: row.get(2)?,
            wrapped_key: row.get(3)?,
            key_created_at: Timestamp(row.get::<_, Uint>(9)?.0),
            rekey_wished_at: row.get::<_, Option<Uint>>(10)?.map(|at| Timestamp(at.0)),
        },
        device: DeviceId::new(row.get(4)?),
        created_at: Timestamp(row.get::<_, Uint>(5)?.0),
        state: parsed(row, 6, Membership::from_code)?,
        mirror_seq: row.get::<_, Uint>(7)?.0,
        mirror_root: row.get::<_, Option<_>>(8)?.map(Hash::new),
    })
}

/// Adds a space.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`, of kind constraint if the id, name or file is there already.
pub fn add_space(conn: &Connection, space: &Space) -> Result<(), StoreError> {
    let sql = "INSERT INTO spaces (space, name, file, wrapped_key, device, created_at, state,
                   mirror_seq, mirror_root, key_created_at, rekey_wished_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let params = params![
        space.space.as_bytes(),
        space.name.as_str(),
        space.home.file,
        space.home.wrapped_key,
        space.device.as_bytes(),
        Uint(space.created_at.0),
        space.state.code(),
        Uint(space.mirror_seq),
        space.mirror_root.as_ref().map(Hash::as_bytes),
        Uint(space.home.key_created_at.0),
        space.home.rekey_wished_at.map(|at| Uint(at.0)),
    ];
    execute(conn, "spaces", sql, params).map(drop)
}

/// All spaces, by name.
///
/// # Errors
/// [`StoreError::Read`] of `spaces`.
pub fn spaces(conn: &Connection) -> Result<Vec<Space>, StoreError> {
    all(conn, "spaces", &format!("{SPACE_COLUMNS} ORDER BY name"), [], space_row)
}

/// One space by id.
///
/// # Errors
/// [`StoreError::Read`] of `spaces`.
pub fn space(conn: &Connection, space: &SpaceId) -> Result<Option<Space>, StoreError> {
    let sql = format!("{SPACE_COLUMNS} WHERE space = ?1");
    first(conn, "spaces", &sql, [space.as_bytes()], space_row)
}

/// One space by name.
///
/// # Errors
/// [`StoreError::Read`] of `spaces`.
pub fn space_named(conn: &Connection, name: &SpaceName) -> Result<Option<Space>, StoreError> {
    let sql = format!("{SPACE_COLUMNS} WHERE name = ?1");
    first(conn, "spaces", &sql, [name.as_str()], space_row)
}

/// Records how far the membership of a space has come.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`.
pub fn set_membership(
    conn: &Connection,
    space: &SpaceId,
    state: Membership,
) -> Result<(), StoreError> {
    let sql = "UPDATE spaces SET state = ?2 WHERE space = ?1";
    execute(conn, "spaces", sql, params![space.as_bytes(), state.code()]).map(drop)
}

/// Says where a space's database is from now on, and under which key.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`, of kind constraint if another space has that file.
pub fn set_home(conn: &Connection, space: &SpaceId, home: &Home) -> Result<(), StoreError> {
    let sql = "UPDATE spaces SET file = ?2, wrapped_key = ?3, key_created_at = ?4,
                   rekey_wished_at = ?5
               WHERE space = ?1";
    let params = params![
        space.as_bytes(),
        home.file,
        home.wrapped_key,
        Uint(home.key_created_at.0),
        home.rekey_wished_at.map(|at| Uint(at.0)),
    ];
    execute(conn, "spaces", sql, params).map(drop)
}

/// Says that this profile is another device in a space from now on, whose file is another, and that
/// nothing is known yet of that device's log.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`, of kind constraint if another space has that file.
pub fn renew_space(conn: &Connection, space: &Space) -> Result<(), StoreError> {
    set_home(conn, &space.space, &space.home)?;
    let sql = "UPDATE spaces SET device = ?2 WHERE space = ?1";
    execute(conn, "spaces", sql, params![space.space.as_bytes(), space.device.as_bytes()])?;
    forget_mirror(conn, &space.space)
}

/// Forgets how far this profile's own log had come in a space.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`.
pub fn forget_mirror(conn: &Connection, space: &SpaceId) -> Result<(), StoreError> {
    let sql = "UPDATE spaces SET mirror_seq = 0, mirror_root = NULL WHERE space = ?1";
    execute(conn, "spaces", sql, [space.as_bytes()]).map(drop)
}

/// Records that another key is wished for a space's file. An earlier wish stays as it is.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`.
pub fn wish_rekey(conn: &Connection, space: &SpaceId, at: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE spaces SET rekey_wished_at = ?2
               WHERE space = ?1 AND rekey_wished_at IS NULL";
    execute(conn, "spaces", sql, params![space.as_bytes(), Uint(at.0)]).map(drop)
}

/// Mirrors the end of the own log of a space. A mirror never goes back: an older `seq` changes
/// nothing.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`.
pub fn set_mirror(
    conn: &Connection,
    space: &SpaceId,
    seq: u64,
    root: &Hash,
) -> Result<(), StoreError> {
    let sql = "UPDATE spaces SET mirror_seq = ?2, mirror_root = ?3
               WHERE space = ?1 AND mirror_seq < ?2";
    execute(conn, "spaces", sql, params![space.as_bytes(), Uint(seq), root.as_bytes()]).map(drop)
}

/// Forgets a space, when its file is gone.
///
/// # Errors
/// [`StoreError::Write`] of `spaces`.
pub fn remove_space(conn: &Connection, space: &SpaceId) -> Result<(), StoreError> {
    execute(conn, "spaces", "DELETE FROM spaces WHERE space = ?1", [space.as_bytes()]).map(drop)
}

/// A peer seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its pinned transport key.
    pub transport: TransportId,
    /// What its owner calls it.
    pub label: String,
    /// Where it was reached last, best first; each without a line break.
    pub addresses: Vec<String>,
    /// When it was last connected.
    pub last_seen: Timestamp,
}

fn peer_row(row: &Row<'_>) -> rusqlite::Result<Peer> {
    Ok(Peer {
        transport: TransportId::new(row.get(0)?),
        label: row.get(1)?,
        addresses: row.get::<_, String>(2)?.lines().map(str::to_owned).collect(),
        last_seen: Timestamp(row.get::<_, Uint>(3)?.0),
    })
}

/// Adds a peer, or replaces what is known of it.
///
/// # Errors
/// [`StoreError::Misuse`] if an address has a line break; [`StoreError::Write`] of `peers`.
pub fn put_peer(conn: &Connection, peer: &Peer) -> Result<(), StoreError> {
    if peer.addresses.iter().any(|address| address.contains(['\n', '\r'])) {
        let what = "an address has a line break".to_owned();
        return Err(StoreError::Misuse { part: "peers", what });
    }
    let sql = "INSERT INTO peers (transport, label, addresses, last_seen) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (transport) DO UPDATE SET
                   label = excluded.label,
                   addresses = excluded.addresses,
                   last_seen = excluded.last_seen";
    let params = params![
        peer.transport.as_bytes(),
        peer.label,
        peer.addresses.join("\n"),
        Uint(peer.last_seen.0)
    ];
    execute(conn, "peers", sql, params).map(drop)
}

/// All peers, last seen first.
///
/// # Errors
/// [`StoreError::Read`] of `peers`.
pub fn peers(conn: &Connection) -> Result<Vec<Peer>, StoreError> {
    let sql = "SELECT transport, label, addresses, last_seen FROM peers
               ORDER BY last_seen DESC, transport";
    all(conn, "peers", sql, [], peer_row)
}

/// One peer.
///
/// # Errors
/// [`StoreError::Read`] of `peers`.
pub fn peer(conn: &Connection, transport: &TransportId) -> Result<Option<Peer>, StoreError> {
    let sql = "SELECT transport, label, addresses, last_seen FROM peers WHERE transport = ?1";
    first(conn, "peers", sql, [transport.as_bytes()], peer_row)
}

/// An invitation this device took up and has not finished yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// The invitation.
    pub id: InvitationId,
    /// The space it invites to.
    pub space: SpaceId,
    /// The keys made for it and what else is needed to go on, wrapped.
    pub wrapped: Vec<u8>,
    /// When it was taken up.
    pub started_at: Timestamp,
}

fn joining_row(row: &Row<'_>) -> rusqlite::Result<Joining> {
    Ok(Joining {
        id: Hash::new(row.get(0)?),
        space: SpaceId::new(row.get(1)?),
        wrapped: row.get(2)?,
        started_at: Timestamp(row.get::<_, Uint>(3)?.0),
    })
}

/// Records that an invitation was taken up, or replaces what is needed to go on with it.
///
/// # Errors
/// [`StoreError::Write`] of `joining`.
pub fn put_joining(conn: &Connection, joining: &Joining) -> Result<(), StoreError> {
    let sql = "INSERT INTO joining (id, space, wrapped, started_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (id) DO UPDATE
               SET space = excluded.space, wrapped = excluded.wrapped";
    let params = params![
        joining.id.as_bytes(),
        joining.space.as_bytes(),
        joining.wrapped,
        Uint(joining.started_at.0)
    ];
    execute(conn, "joining", sql, params).map(drop)
}

/// What is needed to go on with an invitation.
///
/// # Errors
/// [`StoreError::Read`] of `joining`.
pub fn joining(conn: &Connection, id: &InvitationId) -> Result<Option<Joining>, StoreError> {
    let sql = "SELECT id, space, wrapped, started_at FROM joining WHERE id = ?1";
    first(conn, "joining", sql, [id.as_bytes()], joining_row)
}

/// Everything taken up and not finished, oldest first.
///
/// # Errors
/// [`StoreError::Read`] of `joining`.
pub fn joinings(conn: &Connection) -> Result<Vec<Joining>, StoreError> {
    let sql = "SELECT id, space, wrapped, started_at FROM joining ORDER BY started_at, id";
    all(conn, "joining", sql, [], joining_row)
}

/// Forgets one, when it is finished or given up.
///
/// # Errors
/// [`StoreError::Write`] of `joining`.
pub fn remove_joining(conn: &Connection, id: &InvitationId) -> Result<(), StoreError> {
    execute(conn, "joining", "DELETE FROM joining WHERE id = ?1", [id.as_bytes()]).map(drop)
}
