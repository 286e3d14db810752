//! The security log: what happened to one device that its people ought to know of. Local, never
//! synced: a chain of events, each with the hash of the one before it and the device's signature.
//!
//! Invariant: events of a chain are numbered without gaps. The oldest may be gone; what is left
//! still hangs together, and shows how many went.

use std::fmt;

use larder_crypto::hash::sha256;
use larder_crypto::{DeviceSigningKey, verify};
use larder_types::limits::{SECURITY_DETAIL_BYTES_MAX, SECURITY_EVENT_BYTES_MAX};
use larder_types::{DeviceId, Hash, SpaceId, Timestamp, canonical};
use minicbor::{Decode, Encode};

use crate::header::VERSION;
use crate::labels::SECURITY;

/// Of which chain an event is: a space's on this device, or that of the profile as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The profile.
    Profile,
    /// One of its spaces.
    Space(SpaceId),
}

impl Scope {
    /// The space's id, or zeros.
    pub fn to_bytes(self) -> [u8; 32] {
        match self {
            Self::Profile => [0; 32],
            Self::Space(space) => *space.as_bytes(),
        }
    }

    /// What [`Scope::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        if bytes == [0; 32] { Self::Profile } else { Self::Space(SpaceId::new(bytes)) }
    }
}

macro_rules! kinds {
    ($($variant:ident = $code:literal, $name:literal, $about:literal;)*) => {
        /// What kind of event it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind { $(#[doc = $about] $variant,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its number in the format.
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// Its name for programs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    WriteRefused = 0, "write-refused", "What its author had no right to write, or cannot be read.";
    SessionRefused = 1, "session-refused", "A device was turned away, or cut off for what it sent.";
    Enrolled = 2, "enrolled", "A device belongs to the space now.";
    Revoked = 3, "revoked", "A device was shut out.";
    RoleChanged = 4, "role-changed", "A device has another role or clearance.";
    Rotated = 5, "rotated", "Keys were renewed.";
    Exported = 6, "exported", "Something left the encrypted files in the open.";
    Migrated = 7, "migrated", "A database was brought to a newer schema.";
    UnlockChanged = 8, "unlock-changed", "Another passphrase or key opens the profile.";
    Repaired = 9, "repaired", "Damage was mended, or a space made anew.";
    Forked = 10, "forked", "A device's log has two histories.";
}

impl Kind {
    /// The kind with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Event {
    #[n(0)]
    v: u8,
    /// Counts from 1 in its chain.
    #[n(1)]
    pub seq: u64,
    /// When, in milliseconds since 1970, as the device's clock had it.
    #[n(2)]
    pub at_ms: u64,
    #[n(3)]
    kind: u8,
    /// The device that it is about, if it is about one.
    #[n(4)]
    pub device: Option<DeviceId>,
    /// A few words that say more; never content, nor a name that a person gave.
    #[n(5)]
    pub detail: String,
    /// How often it had happened by then.
    #[n(6)]
    pub count: u64,
    /// The hash of the event before; zeros before the first.
    #[n(7)]
    pub before: Hash,
}

/// Why an event is not taken for one of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEvent {
    /// Its bytes are none.
    #[error("event {0} cannot be read")]
    Malformed(u64),
    /// It does not follow the one before it.
    #[error("event {0} does not follow the one before it")]
    NotNext(u64),
    /// The signature is not the device's.
    #[error("the signature of event {0} is not its device's")]
    BadSignature(u64),
}

/// What an event says, before it has a place in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct News {
    /// What kind of event.
    pub kind: Kind,
    /// The device that it is about.
    pub device: Option<DeviceId>,
    /// A few words.
    pub detail: String,
}

impl News {
    /// What does not fit of `detail`, or is not printable ASCII, is left out.
    pub fn new(kind: Kind, device: Option<DeviceId>, detail: &str) -> Self {
        let printable = detail.chars().filter(|c| matches!(c, ' '..='~'));
        Self { kind, device, detail: printable.take(SECURITY_DETAIL_BYTES_MAX).collect() }
    }
}

impl Event {
    /// The event that follows `before`, or begins a chain.
    pub fn next(before: Option<&Link>, news: &News, count: u64, at: Timestamp) -> Self {
        Self {
            v: VERSION,
            seq: before.map_or(0, |link| link.seq).saturating_add(1),
            at_ms: at.0,
            kind: news.kind.code(),
            device: news.device,
            detail: news.detail.clone(),
            count,
            before: before.map_or(Hash::new([0; 32]), |link| link.hash),
        }
    }

    /// The same from its parts, as an export has them.
    pub fn from_parts(
        (seq, at_ms, count): (u64, u64, u64),
        kind: Kind,
        device: Option<DeviceId>,
        detail: String,
        before: Hash,
    ) -> Self {
        Self { v: VERSION, seq, at_ms, kind: kind.code(), device, detail, count, before }
    }

    /// What kind of event it is; none for one of a newer version.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_code(self.kind)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    /// What is hashed and signed.
    fn message(&self, scope: Scope) -> Vec<u8> {
        [SECURITY, &scope.to_bytes(), &self.encode()].concat()
    }

    /// Its place in the chain, for the next.
    pub fn link(&self, scope: Scope) -> Link {
        Link { seq: self.seq, hash: sha256(&[&self.message(scope)]) }
    }

    /// The device's signature over it and, with it, all before it.
    pub fn sign(&self, scope: Scope, key: &DeviceSigningKey) -> [u8; 64] {
        key.sign(&self.message(scope))
    }
}

/// An event's place in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Verifies a chain, event by event from the oldest that is there.
#[derive(Debug)]
pub struct Chain {
    scope: Scope,
    signer: DeviceId,
    last: Option<Link>,
}

impl Chain {
    /// Of `scope`, signed by `signer`.
    pub const fn new(scope: Scope, signer: DeviceId) -> Self {
        Self { scope, signer, last: None }
    }

    /// Where it ends so far.
    pub const fn end(&self) -> Option<Link> {
        self.last
    }

    /// Reads the next event and checks it.
    ///
    /// # Errors
    /// [`BadEvent`].
    pub fn read(&mut self, bytes: &[u8], signature: &[u8; 64]) -> Result<Event, BadEvent> {
        let next = self.last.map_or(0, |last| last.seq).saturating_add(1);
        let event: Event = canonical::decode(bytes, SECURITY_EVENT_BYTES_MAX)
            .map_err(|_| BadEvent::Malformed(next))?;
        self.take(&event, signature)?;
        Ok(event)
    }

    /// Checks the next event.
    ///
    /// # Errors
    /// [`BadEvent`].
    pub fn take(&mut self, event: &Event, signature: &[u8; 64]) -> Result<(), BadEvent> {
        let seq = event.seq;
        let is_text = event.detail.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if event.v != VERSION || !is_text || event.detail.len() > SECURITY_DETAIL_BYTES_MAX {
            return Err(BadEvent::Malformed(seq));
        }
        let follows = match self.last {
            Some(last) => last.seq.checked_add(1) == Some(seq) && event.before == last.hash,
            // The beginning may be gone, and then nothing tells what was there.
            None => seq > 0 && (seq > 1 || event.before == Hash::new([0; 32])),
        };
        if !follows {
            return Err(BadEvent::NotNext(seq));
        }
        verify(&self.signer, &event.message(self.scope), signature)
            .map_err(|_| BadEvent::BadSignature(seq))?;
        self.last = Some(event.link(self.scope));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use larder_crypto::Secret;

    use super::*;

    const SCOPE: Scope = Scope::Space(SpaceId::new([7; 32]));

    fn key(n: u8) -> DeviceSigningKey {
        DeviceSigningKey::from_secret(&Secret::new([n; 32]))
    }

    fn chain(scope: Scope) -> Vec<(Event, [u8; 64])> {
        let mut before = None;
        let mut events = Vec::new();
        for (n, kind) in (0..).zip(Kind::ALL) {
            let device = (n % 2 == 0).then(|| DeviceId::new([3; 32]));
            let news = News::new(*kind, device, "a \u{7}few\u{e4} words");
            let event = Event::next(before.as_ref(), &news, n + 1, Timestamp(n));
            before = Some(event.link(scope));
            let signature = event.sign(scope, &key(1));
            events.push((event, signature));
        }
        events
    }

    fn check(events: &[(Event, [u8; 64])], signer: u8, scope: Scope) -> Result<(), BadEvent> {
        let mut chain = Chain::new(scope, key(signer).device_id());
        for (event, signature) in events {
            let read = chain.read(&event.encode(), signature)?;
            assert_eq!(read, *event);
        }
        Ok(())
    }

    #[test]
    fn a_chain_holds_and_so_does_its_end() {
        for scope in [SCOPE, Scope::Profile] {
            let events = chain(scope);
            assert_eq!(events[0].0.detail, "a few words");
            assert_eq!(events[3].0.kind(), Some(Kind::Revoked));
            for from in 0..events.len() {
                check(&events[from..], 1, scope).unwrap();
            }
        }
    }

    #[test]
    fn whatever_is_changed_taken_out_or_moved_is_refused() {
        let events = chain(SCOPE);
        assert_eq!(check(&events, 2, SCOPE), Err(BadEvent::BadSignature(1)));
        assert_eq!(check(&events, 1, Scope::Profile), Err(BadEvent::BadSignature(1)));
        for n in 1..events.len() {
            let mut gap = events.clone();
            gap.remove(n);
            assert_eq!(check(&gap, 1, SCOPE).is_err(), n + 1 < events.len(), "{n}");
            let mut moved = events.clone();
            moved.swap(n, n - 1);
            assert!(check(&moved, 1, SCOPE).is_err());
        }
        let changes: [fn(&mut Event); 6] = [
            |event| event.at_ms += 1,
            |event| event.count += 1,
            |event| event.kind = 200,
            |event| event.device = None,
            |event| event.detail.push('!'),
            |event| event.before = Hash::new([9; 32]),
        ];
        for change in changes {
            let mut other = events.clone();
            change(&mut other[4].0);
            assert!(check(&other, 1, SCOPE).is_err());
            // Signed anew by who has the key, it is the next that no longer follows.
            other[4].1 = other[4].0.sign(SCOPE, &key(1));
            assert!(check(&other, 1, SCOPE).is_err());
        }
    }

    #[test]
    fn every_byte_of_an_event_is_checked() {
        let (event, signature) = chain(SCOPE).remove(0);
        let bytes = event.encode();
        assert!(bytes.len() <= SECURITY_EVENT_BYTES_MAX);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let mut chain = Chain::new(SCOPE, key(1).device_id());
                assert!(chain.read(&other, &signature).is_err(), "byte {at}, bit {bit}");
            }
        }
        let device = Some(DeviceId::new([255; 32]));
        let long = News::new(Kind::Forked, device, &"x".repeat(1000));
        let last = Link { seq: u64::MAX - 1, hash: Hash::new([255; 32]) };
        let event = Event::next(Some(&last), &long, u64::MAX, Timestamp(u64::MAX));
        assert!(event.encode().len() <= SECURITY_EVENT_BYTES_MAX);
    }

    #[test]
    fn codes_and_names_are_each_kinds_own() {
        for (n, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.code()), n);
            assert_eq!(Kind::from_code(kind.code()), Some(*kind));
            assert_eq!(Kind::from_name(kind.name()), Some(*kind));
        }
        assert_eq!(Kind::from_code(11), None);
        assert_eq!(Scope::from_bytes(SCOPE.to_bytes()), SCOPE);
        assert_eq!(Scope::from_bytes(Scope::Profile.to_bytes()), Scope::Profile);
    }
}
