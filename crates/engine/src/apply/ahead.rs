//! Sections of a large batch are opened on a thread of their own, a little ahead of where their
//! entries are stored: it is almost half of the work.
//!
//! Invariants: what comes of it is what opening each in its turn would come to; three lots at most
//! are in memory; the thread ends with the batch.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};
use std::vec::IntoIter;

use larder_log::{Batch, Class, VerifiedBatch};
use larder_store::space::logs::LogId;

use super::{Content, Incoming, open_content};
use crate::Result;
use crate::keyring::{Keyring, Opening};

/// What sections came to, in their order. Without a thread there is nothing in it.
#[derive(Default)]
pub(super) struct Ahead<'b> {
    lots: Option<Receiver<Vec<Found<'b>>>>,
    lot: IntoIter<Found<'b>>,
}

struct Found<'b> {
    seq: u64,
    index: u32,
    content: Result<Option<Content<'b>>>,
}

impl<'b> Ahead<'b> {
    /// Begins with a batch, if it is worth it and there may be a thread.
    pub(super) fn begin<'s>(
        scope: &'s Scope<'s, '_>,
        keyring: &Keyring,
        log: LogId,
        batch: &'b Batch,
        verified: &'b VerifiedBatch,
    ) -> Self
    where
        'b: 's,
    {
        let sections: usize = batch.entries.iter().map(|entry| entry.payloads.len()).sum();
        if sections < SECTIONS_MIN {
            return Self::default();
        }
        let (sender, lots) = sync_channel(1);
        let keyring = keyring.clone();
        let open = move || open_all(&keyring, log, batch, verified, &sender);
        let begun = Builder::new().name("larder-open".to_owned()).spawn_scoped(scope, open);
        Self { lots: begun.is_ok().then_some(lots), lot: Vec::new().into_iter() }
    }

    /// What the section came to, if it was opened. They are asked for in their order; some may be
    /// left out.
    pub(super) fn take(&mut self, seq: u64, index: u32) -> Option<Result<Option<Content<'b>>>> {
        loop {
            for found in self.lot.by_ref() {
                if (found.seq, found.index) == (seq, index) {
                    return Some(found.content);
                }
            }
            self.lot = self.lots.as_ref()?.recv().ok()?.into_iter();
        }
    }

    /// Secrets were learnt on the way: the rest is opened with them, each in its turn.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

fn open_all<'b>(
    keyring: &Keyring,
    log: LogId,
    batch: &'b Batch,
    verified: &'b VerifiedBatch,
    lots: &SyncSender<Vec<Found<'b>>>,
) {
    let (mut lot, mut bytes) = (Vec::new(), 0);
    for (entry, verified) in batch.entries.iter().zip(&verified.entries) {
        for ((index, commitment), payload) in (0..).zip(&entry.commitments).zip(&entry.payloads) {
            if commitment.class == Class::Control as u8 {
                continue;
            }
            let section = Incoming { log, index, verified, commitment, payload };
            let content = open_content(keyring, section);
            if let Ok(Some((_, Opening::Opened(opened)))) = &content {
                bytes += opened.body.len();
            }
            lot.push(Found { seq: verified.header.seq, index, content });
            if lot.len() >= LOT_SECTIONS || bytes >= LOT_BYTES {
                bytes = 0;
                // Nobody takes it if the batch was refused, or secrets were learnt.
                if lots.send(std::mem::take(&mut lot)).is_err() {
                    return;
                }
            }
        }
    }
    let _ = lots.send(lot);
}

/// Below so many sections a thread costs more than it saves.
const SECTIONS_MIN: usize = 64;
const LOT_SECTIONS: usize = 32;
const LOT_BYTES: usize = 256 << 10;
