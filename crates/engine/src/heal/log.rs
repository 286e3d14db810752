//! Headers against trees and checkpoints, sections against what their authors committed to.

use larder_log::act::Act;
use larder_log::merkle::{Frontier, Node, Nodes};
use larder_log::{Class, Header, Opened, Payload, entry_hash, sections_root};
use larder_store::space::logs::{self, Log, Tree};
use larder_store::space::sections::{self, Section};
use larder_store::space::{control, entries, snapshots, transactions};
use larder_types::limits::ENTRY_OPENED_BYTES_MAX;
use larder_types::{DeviceId, Hash};
use rusqlite::Connection;

use super::{CheckedPart, Checking, Outcome, STEP, is_alive, is_document};
use crate::Result;
use crate::effects::about;
use crate::keyring::Opening;
use crate::rows::Origin;
use crate::state::State as WriterState;
use crate::trouble::is_damage;

/// Enrolments in histories that are not held here, of which only proofs are: each shows what is
/// recorded of it. One that does not is dropped, and comes again beside the proof of two histories.
pub(super) fn check_strays(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
) -> Result<()> {
    let mut is_whole = true;
    for stray in control::stray_acts(db)? {
        let log = logs::by_number(db, stray.log)?;
        if state.is_shown(&log, &stray) {
            continue;
        }
        is_whole = false;
        if checking.repair {
            control::drop_stray_act(db, &stray)?;
        }
        let outcome = if checking.repair { Outcome::Wanted } else { Outcome::Fetchable };
        let what = "an enrolment in its other history is not shown by its proof, and is void";
        let finding = checking.found(CheckedPart::Log, what);
        (finding.device, finding.outcome) = (Some(log.device), outcome);
    }
    if checking.repair && !is_whole {
        state.reload_roster(db)?;
    }
    crate::erase::check_acts(db, state, checking)
}

/// One log. Whether its entries do not name what is theirs: the rest would be blamed for it.
pub(super) fn check_log(
    db: &Connection,
    state: &WriterState,
    checking: &mut Checking,
    at: usize,
) -> Result<bool> {
    let all = logs::every(db)?;
    let Some(log) = all.get(at) else { return Ok(false) };
    if !check_places(db, checking, log)? {
        return Ok(true);
    }
    let mut frontier = Frontier::new();
    let mut differing = (Vec::new(), Vec::new());
    let mut next = 1;
    loop {
        let page = entries::range(db, log.log, next, next + u64::from(STEP) - 1)?;
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        for entry in &page {
            checking.report.entries += 1;
            if !has_its_sections(db, log, entry)? {
                let finding =
                    checking.found(CheckedPart::Log, "its sections are not those it commits to");
                (finding.device, finding.seq) = (Some(log.device), Some(entry.seq));
                finding.outcome = Outcome::Lost;
            }
            let hash = entry_hash(&entry.header);
            if hash != entry.hash {
                differing.0.push((entry.seq, hash));
            }
            let tree = Tree::new(db, log.log);
            frontier.append(hash.into(), &mut |node: Node| {
                let stored = tree.node(node.level, node.index).ok();
                if node.level > 0 && stored != Some(node.hash) {
                    differing.1.push(node);
                }
            });
        }
        is_alive(db)?;
    }
    settle_log(db, state, checking, log, &frontier, differing)?;
    Ok(false)
}

/// Whether the entries of a log name their transactions and sections, by now.
fn check_places(db: &Connection, checking: &mut Checking, log: &Log) -> Result<bool> {
    let misplaced = transactions::misplaced(db, log.log)?;
    if misplaced == 0 {
        return Ok(true);
    }
    if checking.repair {
        transactions::place(db, log.log)?;
    }
    let repair = checking.repair;
    let what = format!("{misplaced} entries do not name their transactions or sections");
    checking.found(CheckedPart::Log, what).device = Some(log.device);
    Ok(repair)
}

fn has_its_sections(db: &Connection, log: &Log, entry: &entries::Entry) -> Result<bool> {
    let Ok(header) = Header::decode(&entry.header) else { return Ok(false) };
    let sections = sections::of_entry(db, log.log, entry.seq)?;
    let commitments: Vec<_> = sections.into_iter().map(|section| section.commitment).collect();
    Ok(commitments.len() == header.n as usize
        && sections_root(&commitments) == header.sections_root)
}

/// What is signed decides: if the headers come to the signed root, all else is made from them.
fn settle_log(
    db: &Connection,
    state: &WriterState,
    checking: &mut Checking,
    log: &Log,
    frontier: &Frontier,
    (hashes, nodes): (Vec<(u64, larder_types::EntryHash)>, Vec<Node>),
) -> Result<()> {
    if frontier.size() == 0 && log.frontier.size() == 0 {
        return Ok(());
    }
    let space = state.shared.id;
    let is_signed = |size: u64, root: Hash, device: DeviceId| -> Result<bool> {
        let Some(last) = transactions::last_recorded(db, log.log)? else { return Ok(false) };
        let checkpoint = larder_log::checkpoint::Checkpoint { space, device, size, root };
        Ok(last.last_seq == size && checkpoint.verify(&last.signature).is_ok())
    };
    if !is_signed(frontier.size(), frontier.root(), log.device)? {
        let what = "its headers do not come to the root that its device signed";
        let finding = checking.found(CheckedPart::Log, what);
        (finding.device, finding.outcome) = (Some(log.device), Outcome::Lost);
        return Ok(());
    }
    if hashes.is_empty() && nodes.is_empty() && *frontier == log.frontier {
        return Ok(());
    }
    if checking.repair {
        for (seq, hash) in &hashes {
            entries::set_hash(db, log.log, *seq, hash)?;
        }
        for node in &nodes {
            logs::set_node(db, log.log, node)?;
        }
        logs::set_frontier(db, log.log, frontier)?;
    }
    let what = format!(
        "{} leaves and {} nodes of its tree, or its end, are not those of its headers",
        hashes.len(),
        nodes.len()
    );
    checking.found(CheckedPart::Log, what).device = Some(log.device);
    Ok(())
}

/// Some sections.
pub(super) fn check_sections(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    page: &[Section],
) -> Result<()> {
    for section in page {
        checking.report.sections += 1;
        check_section(db, state, checking, section)?;
        is_alive(db)?;
    }
    state.load_missing(db)
}

fn check_section(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    section: &Section,
) -> Result<()> {
    let place = section.place;
    let device = logs::by_number(db, place.log)?.device;
    if section.state == sections::State::Erased {
        return check_erased(db, checking, section, device);
    }
    let opened = match open(db, state, section) {
        Ok(Judged::Opened(opened)) => opened,
        Ok(Judged::Nothing) => return Ok(()),
        // What cannot be read for another reason than damage is not thrown away.
        Err(error) if !is_damage(&error) || db.is_autocommit() => return Err(error),
        Ok(Judged::Damaged) | Err(_) => {
            let is_agreed = is_agreed(db, state, section, &device)?;
            if checking.repair {
                forget(db, state, section)?;
            }
            let repair = checking.repair;
            let what = format!("the bytes of section {} are damaged", place.index);
            let finding = checking.found(CheckedPart::Section, what);
            (finding.device, finding.seq) = (Some(device), Some(place.seq));
            if !is_agreed {
                finding.outcome = if repair { Outcome::Wanted } else { Outcome::Fetchable };
            }
            return Ok(());
        }
    };
    check_act(db, state, checking, (section, device), &opened)?;
    let told = about(&opened);
    // Of what never counted nothing is noted, and what has not been opened has nothing noted yet.
    let is_noted = match section.state {
        sections::State::Missing | sections::State::Waiting => true,
        sections::State::Void => section.about.is_none_or(|noted| noted == told),
        // It is kept for others.
        sections::State::Hidden => section.about.is_none(),
        _ => section.about == Some(told),
    };
    if !is_noted {
        if checking.repair {
            sections::settle(db, place, section.state, Some(&told))?;
        }
        let what = format!("what is noted of section {} is not what it says", place.index);
        let finding = checking.found(CheckedPart::Section, what);
        (finding.device, finding.seq) = (Some(device), Some(place.seq));
        finding.object = told.object;
    }
    Ok(())
}

/// Of what was erased there are no bytes, whatever they are.
fn check_erased(
    db: &Connection,
    checking: &mut Checking,
    section: &Section,
    device: DeviceId,
) -> Result<()> {
    let place = section.place;
    match sections::payload(db, place) {
        Ok(Payload::Missing) => return Ok(()),
        Ok(_) => {}
        Err(error) => {
            let error = error.into();
            if !is_damage(&error) || db.is_autocommit() {
                return Err(error);
            }
        }
    }
    if checking.repair {
        sections::erase(db, std::slice::from_ref(section))?;
    }
    let what = format!("section {} was erased, and bytes of it are here", place.index);
    let finding = checking.found(CheckedPart::Section, what);
    (finding.device, finding.seq) = (Some(device), Some(place.seq));
    finding.object = section.about.and_then(|about| about.object);
    Ok(())
}

/// What is recorded of an act, which the roster is made from, is what its section says.
fn check_act(
    db: &Connection,
    state: &mut WriterState,
    checking: &mut Checking,
    (section, device): (&Section, DeviceId),
    opened: &Opened,
) -> Result<()> {
    let Ok(Some(act)) = Act::read(section.commitment.class, opened) else { return Ok(()) };
    let right = control::Act { place: section.place, kind: act.kind(), body: act.to_body() };
    let is_right = match control::act(db, section.place)? {
        Some(recorded) => recorded == right,
        // Of what does not count nothing need be recorded.
        None => section.state != sections::State::Applied,
    };
    if is_right {
        return Ok(());
    }
    if checking.repair {
        control::set_act(db, &right)?;
        state.reload_roster(db)?;
    }
    let what = format!("the act in section {} is not recorded as it is", section.place.index);
    let finding = checking.found(CheckedPart::Section, what);
    (finding.device, finding.seq) = (Some(device), Some(section.place.seq));
    Ok(())
}

/// Whether a snapshot stands for a section: who pruned it as well cannot supply it, nor need they.
fn is_agreed(
    db: &Connection,
    state: &WriterState,
    section: &Section,
    device: &DeviceId,
) -> Result<bool> {
    let held = snapshots::in_state(db, snapshots::State::Held)?;
    let at = (*device, section.place.seq, section.place.index);
    let is_covered = |held: snapshots::Snapshot| state.stands(&held.act, at, &section.commitment);
    Ok(is_document(section) && held.is_some_and(is_covered))
}

/// Drops bytes that are damaged. They are wanted from other devices then, unless a snapshot stands
/// for them.
pub(crate) fn forget(db: &Connection, state: &WriterState, section: &Section) -> Result<()> {
    let place = section.place;
    let device = logs::by_number(db, place.log)?.device;
    let now = if !state.keyring.is_for(&section.commitment, state.clearance) {
        sections::State::Hidden
    } else if is_agreed(db, state, section, &device)? {
        sections::State::Excused
    } else {
        sections::State::Missing
    };
    sections::set_payload(db, place, &Payload::Missing)?;
    Ok(sections::settle(db, place, now, None)?)
}

/// The same for a section at a place.
pub(crate) fn is_admitted(db: &Connection, state: &WriterState, origin: &Origin) -> Result<bool> {
    let section = sections::find(db, origin.place())?;
    section.map_or(Ok(false), |section| counts(db, state, &section))
}

/// Whether a section counts by the rules on its entry: the entry opens no epoch, and the bodies up
/// to this one are no more than an entry may hold.
pub(super) fn counts(db: &Connection, state: &WriterState, section: &Section) -> Result<bool> {
    let place = section.place;
    let band = state.keyring.band(&section.commitment);
    let mut bytes = 0_usize;
    for other in sections::of_entry(db, place.log, place.seq)? {
        let Judged::Opened(opened) = open(db, state, &other)? else { continue };
        if let Ok(Some(Act::Epoch(_))) = Act::read(other.commitment.class, &opened) {
            return Ok(false);
        }
        let is_beside = state.keyring.band(&other.commitment) == band;
        if other.commitment.class == Class::Data as u8
            && is_beside
            && other.place.index <= place.index
        {
            bytes = bytes.saturating_add(opened.body.len());
        }
    }
    Ok(bytes <= ENTRY_OPENED_BYTES_MAX)
}

pub(super) enum Judged {
    Opened(Box<Opened>),
    /// There are no bytes, or no secret for them, or they are what was committed to and void.
    Nothing,
    /// They are not what was committed to.
    Damaged,
}

/// Opens a section as far as it can be.
pub(super) fn open(db: &Connection, state: &WriterState, section: &Section) -> Result<Judged> {
    let (place, commitment) = (section.place, &section.commitment);
    match sections::payload(db, place)? {
        Payload::Missing => Ok(Judged::Nothing),
        Payload::Opened(bytes) => Ok(match larder_log::unpack(&bytes) {
            Ok(opened) if opened.matches(commitment) => Judged::Opened(Box::new(opened)),
            _ => Judged::Damaged,
        }),
        Payload::Sealed(sealed) if !commitment.is_of(&sealed) => Ok(Judged::Damaged),
        Payload::Sealed(sealed) => {
            let entry = entries::find(db, place.log, place.seq)?;
            let header = entry.and_then(|entry| Header::decode(&entry.header).ok());
            // The log says that, and these bytes are right.
            let Some(header) = header else { return Ok(Judged::Nothing) };
            Ok(match state.keyring.open(&header, place.index, commitment, &sealed) {
                Opening::Opened(opened) => Judged::Opened(opened),
                Opening::NoSecret | Opening::Void => Judged::Nothing,
            })
        }
    }
}
