//! Erasures against the log: what is erased is not lacking, and is made again by nothing.

use larder_log::{Band, Payload, kind};
use larder_store::space::erasures::{self, State as Stage};
use larder_store::space::{control, documents, entries, logs, sections, tombstones};
use larder_types::ObjectId;
use rusqlite::Connection;

use super::{read_act, tombstone_of};
use crate::heal::{CheckedPart, Checking};
use crate::state::State as WriterState;
use crate::{Error, Result};

/// Every act of erasure is noted as it is, and has its effect.
pub(crate) fn check_acts(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
) -> Result<()> {
    for stored in control::acts_of_kind(db, kind::ERASE)? {
        let place = stored.place;
        let device = logs::by_number(db, place.log)?.device;
        let entry = entries::hash(db, place.log, place.seq)?
            .ok_or_else(|| Error::Corrupt("the entry of an act is missing".into()))?;
        let may = state.may_write_at(&device, place.seq);
        let noted = erasures::find(db, place)?;
        let is_right = noted.is_some_and(|noted| (noted.stage != Stage::Void) == may);
        let up_to = state.writes_up_to(&device, place.seq);
        if is_right && (!may || is_in_effect(db, noted.map(|noted| noted.object), up_to)?) {
            continue;
        }
        let act = match noted {
            Some(noted) => read_act(db, &noted)?.map(|act| act.object),
            None => super::body_of(&stored).map(|act| act.object),
        };
        let Some(object) = act else { continue };
        if checking.repairs() {
            let counts = if may { Stage::Open } else { Stage::Void };
            erasures::add(db, place, &entry, &object, counts)?;
            if let Some(noted) = erasures::find(db, place)? {
                erasures::set_stage(db, noted.erasure, counts)?;
                for band in up_to.into_iter().flat_map(super::bands_up_to) {
                    tombstones::put(db, &tombstone_of(db, &noted, band)?)?;
                }
            }
            state.erase_again(object);
        }
        let finding = checking.found(CheckedPart::Document, "it was erased, and that is not noted");
        (finding.device, finding.seq, finding.object) =
            (Some(device), Some(place.seq), Some(object));
    }
    Ok(())
}

fn is_in_effect(db: &Connection, object: Option<ObjectId>, up_to: Option<Band>) -> Result<bool> {
    match object {
        Some(object) => Ok(tombstones::erased_up_to(db, &object)? >= up_to),
        None => Ok(true),
    }
}

/// An object that was erased: there is nothing of it.
pub(crate) fn check_object(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    object: ObjectId,
) -> Result<()> {
    if state.erasing.keeps(&object) {
        return Ok(());
    }
    let up_to = tombstones::erased_up_to(db, &object)?;
    let mut has_bytes = false;
    for section in sections::of_object(db, &object)? {
        let is_of = state.keyring.band(&section.commitment) <= up_to;
        has_bytes |= is_of && sections::payload(db, section.place)? != Payload::Missing;
    }
    let row = documents::find(db, &object)?;
    if !has_bytes && row.is_none_or(|row| Some(row.band) > up_to) {
        return Ok(());
    }
    if checking.repairs() {
        state.erase_again(object);
    }
    let finding =
        checking.found(CheckedPart::Document, "it was erased, and something of it is here");
    finding.object = Some(object);
    Ok(())
}

impl WriterState {
    /// At the transaction's end.
    fn erase_again(&mut self, object: ObjectId) {
        self.erasing.any = true;
        self.erasing.objects.insert(object);
    }
}
