use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ChangeHash, LoadOptions, PatchLog, ReadDoc};
use larder_types::Timestamp;
use larder_types::limits::{CHANGE_BYTES_MAX, DOCUMENT_AUTOMERGE_BYTES_MAX};

use crate::again::Linked;
use crate::apply::{Incoming, Index, Trial};
use crate::chunk;
use crate::contained::contained;
use crate::derive::{self, ENCODING};
use crate::history::history_in_order;
use crate::json::{canonical, check, same_object};
use crate::put::Writer;
use crate::read::Reader;
use crate::{Actor, Conflict, DocumentError, Heads, Object, Outcome};

/// What an operation takes in the columns of a saved history, its value aside; its author, time
/// and hashes take what is said below.
const OPERATION_BYTES_MAX: usize = 32;
const CHANGE_OVERHEAD_BYTES: usize = 128;
/// Changes are stored by themselves up to this, however little was saved before them.
const CHANGES_BYTES_MIN: usize = 4 << 10;
/// Operations of a history that are unpacked at once, but for one change that has more: each takes
/// some 200 bytes then.
const OPERATIONS_AT_ONCE: usize = 1 << 17;

/// A document: the value it was created with, and from its first edit on a history.
#[derive(Debug, Clone)]
pub struct Document(State);

#[derive(Debug, Clone)]
enum State {
    Flat(Object),
    Grown(Box<Grown>),
}

#[derive(Debug, Clone)]
struct Grown {
    doc: Automerge,
    /// Built when the first received change has to be judged.
    index: Option<Arc<Index>>,
    /// The first change: the derived one.
    root: ChangeHash,
    saved: OnceLock<Arc<Vec<u8>>>,
    stored: Stored,
    /// What it can take at most to save it: saving costs as much as the history is long, so it is
    /// not done for every edit.
    bytes_max: usize,
}

/// What is stored of a history: as it was saved once, and the changes since.
#[derive(Debug, Clone, Default)]
struct Stored {
    /// Bytes of the former; 0 if nothing is stored.
    saved_bytes: usize,
    /// Bytes of the latter.
    changes_bytes: usize,
    /// Changes that are not stored yet.
    fresh: Vec<u8>,
}

/// What is to be stored of a document's history. Parts that are stored one behind the other are
/// what [`Document::load`] takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storing {
    /// There is no history.
    None,
    /// All of it, in place of what is stored.
    Whole(Vec<u8>),
    /// What has come to it since.
    More(Vec<u8>),
}

impl Grown {
    fn of(doc: Automerge, bytes_max: usize) -> Result<Self, DocumentError> {
        let root = doc
            .get_changes_meta(&[])
            .into_iter()
            .find(|meta| meta.deps.is_empty())
            .map(|meta| meta.hash)
            .ok_or_else(|| DocumentError::Corrupt("it has no first change".to_owned()))?;
        let (saved, stored) = (OnceLock::new(), Stored::default());
        Ok(Self { doc, index: None, root, saved, stored, bytes_max })
    }

    /// With the derived change alone. Saving spends no more on a value than JSON does, beside its
    /// columns' own names.
    fn derived(genesis: &Object) -> Result<Self, DocumentError> {
        let doc = derive::root(genesis)?;
        let operations = usize::try_from(doc.stats().num_ops).unwrap_or(usize::MAX);
        Self::of(doc, operations.saturating_mul(OPERATION_BYTES_MAX) + canonical(genesis).len())
    }

    fn grow(&mut self, change: &[u8]) {
        self.saved = OnceLock::new();
        self.bytes_max = self.bytes_max.saturating_add(change.len() + CHANGE_OVERHEAD_BYTES);
        if self.stored.saved_bytes > 0 {
            self.stored.fresh.extend_from_slice(change);
        }
    }

    /// Saving costs as much as the history is long. So it is done only when the changes since the
    /// last time take as much room.
    fn store(&mut self) -> Storing {
        let Stored { saved_bytes, changes_bytes, fresh } = std::mem::take(&mut self.stored);
        let changes_bytes = changes_bytes + fresh.len();
        if saved_bytes == 0 || changes_bytes > saved_bytes.max(CHANGES_BYTES_MIN) {
            let saved = self.save().clone();
            self.stored.saved_bytes = saved.len();
            Storing::Whole(saved)
        } else {
            self.stored = Stored { saved_bytes, changes_bytes, fresh: Vec::new() };
            Storing::More(fresh)
        }
    }

    fn hashes(&self, heads: &Heads) -> Result<Vec<ChangeHash>, DocumentError> {
        if heads.is_flat() {
            return Ok(vec![self.root]);
        }
        let hashes = heads.hashes();
        if hashes.iter().all(|hash| self.doc.get_change_meta_by_hash(hash).is_some()) {
            Ok(hashes)
        } else {
            Err(DocumentError::UnknownHeads { heads: heads.to_string() })
        }
    }

    fn without_covered(&self, heads: &Heads) -> Result<Heads, DocumentError> {
        let named = self.hashes(heads)?;
        let (mut open, mut covered) = (named.clone(), HashSet::new());
        while let Some(hash) = open.pop() {
            let meta = self.doc.get_change_meta_by_hash(&hash);
            for dep in meta.map(|meta| meta.deps.clone()).unwrap_or_default() {
                if covered.insert(dep) {
                    open.push(dep);
                }
            }
        }
        let left: Vec<ChangeHash> =
            named.into_iter().filter(|h| !covered.contains(h) && *h != self.root).collect();
        Ok(Heads::of(&left))
    }

    fn apply(&mut self, incoming: &[Incoming]) -> Vec<Outcome> {
        let index = self.index.take().map(Arc::unwrap_or_clone);
        let index = index.unwrap_or_else(|| Index::of(&self.doc));
        let mut trial = Trial { doc: self.doc.clone(), index };
        let outcomes = trial.apply(incoming);
        self.doc = trial.doc;
        self.index = Some(Arc::new(trial.index));
        for (outcome, incoming) in outcomes.iter().zip(incoming) {
            if *outcome == Outcome::Applied {
                self.grow(incoming.bytes());
            }
        }
        outcomes
    }

    fn put(
        &mut self,
        actor: Actor,
        base: Option<&Heads>,
        time: Timestamp,
        write: impl FnOnce(&mut Writer<'_, '_>) -> Result<(), DocumentError>,
    ) -> Result<Option<Vec<u8>>, DocumentError> {
        let mut copy = self.clone();
        let Some(change) = edit(&mut copy, actor, base, time, write)? else { return Ok(None) };
        // Not the copy's: then there would be two, and one would have to be copied.
        copy.index = self.index.take();
        if let Some(index) = &mut copy.index {
            Arc::make_mut(index).add_change(&change);
        }
        *self = copy;
        Ok(Some(change.raw_bytes().to_vec()))
    }

    fn save(&self) -> &Vec<u8> {
        self.saved.get_or_init(|| Arc::new(self.doc.save()))
    }
}

impl Document {
    /// A document that has not been edited since it was created.
    pub fn flat(genesis: Object) -> Self {
        Self(State::Flat(genesis))
    }

    /// A document as it was stored: the value it was created with, and what [`Self::save`] or
    /// [`Self::store`] gave. With the latter the former is not looked at.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`].
    pub fn load(genesis: Object, saved: Option<&[u8]>) -> Result<Self, DocumentError> {
        let Some(saved) = saved else { return Ok(Self::flat(genesis)) };
        let corrupt = |why: &str| DocumentError::Corrupt(why.to_owned());
        let options = || LoadOptions::new().text_encoding(ENCODING);
        let doc = contained(|| Automerge::load_with_options(saved, options()))
            .ok_or_else(|| corrupt("it is senseless"))?
            .map_err(|e| corrupt(&e.to_string()))?;
        let mut grown = Grown::of(doc, saved.len())?;
        let saved_bytes = chunk::first_len(saved).min(saved.len());
        let changes_bytes = saved.len() - saved_bytes;
        grown.stored = Stored { saved_bytes, changes_bytes, fresh: Vec::new() };
        Ok(Self(State::Grown(Box::new(grown))))
    }

    /// What has to be stored of its history since this was asked last, or since it was loaded. Who
    /// does not store it, or cannot, loads the document anew.
    pub fn store(&mut self) -> Storing {
        match &mut self.0 {
            State::Flat(_) => Storing::None,
            State::Grown(grown) => grown.store(),
        }
    }

    /// Its history, whole: nothing as long as it has none. Automerge's document format.
    pub fn save(&self) -> Option<Vec<u8>> {
        match &self.0 {
            State::Flat(_) => None,
            State::Grown(grown) => Some(grown.save().clone()),
        }
    }

    /// Whether it has been edited.
    pub fn has_history(&self) -> bool {
        matches!(self.0, State::Grown(_))
    }

    /// The version that [`Self::value`] shows.
    pub fn heads(&self) -> Heads {
        match &self.0 {
            State::Flat(_) => Heads::FLAT,
            State::Grown(grown) => match grown.doc.get_heads().as_slice() {
                [only] if *only == grown.root => Heads::FLAT,
                heads => Heads::of(heads),
            },
        }
    }

    /// The value now.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`].
    pub fn value(&self) -> Result<Object, DocumentError> {
        match &self.0 {
            State::Flat(genesis) => Ok(genesis.clone()),
            State::Grown(grown) => Reader { doc: &grown.doc, heads: None }.root(),
        }
    }

    /// Since when it is in the trash, as who put it there claims. It is not if somebody took it out
    /// at the same time.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`].
    pub fn trashed(&self) -> Result<Option<Timestamp>, DocumentError> {
        match &self.0 {
            State::Flat(_) => Ok(None),
            State::Grown(grown) => {
                Ok(Reader { doc: &grown.doc, heads: None }.trashed()?.map(Timestamp))
            }
        }
    }

    /// The version that it was created with, named so that no other document has it: `flat` is
    /// any document's first. Accepted wherever [`Heads::FLAT`] is.
    ///
    /// # Errors
    /// [`DocumentError::Internal`].
    pub fn created(&self) -> Result<Heads, DocumentError> {
        match &self.0 {
            State::Flat(genesis) => Ok(Heads::of(&[Grown::derived(genesis)?.root])),
            State::Grown(grown) => Ok(Heads::of(&[grown.root])),
        }
    }

    /// The value at an earlier version.
    ///
    /// # Errors
    /// [`DocumentError::UnknownHeads`], [`DocumentError::Corrupt`].
    pub fn value_at(&self, heads: &Heads) -> Result<Object, DocumentError> {
        match &self.0 {
            State::Flat(genesis) if heads.is_flat() || *heads == self.created()? => {
                Ok(genesis.clone())
            }
            State::Flat(_) => Err(DocumentError::UnknownHeads { heads: heads.to_string() }),
            State::Grown(grown) => {
                let hashes = grown.hashes(heads)?;
                Reader { doc: &grown.doc, heads: Some(&hashes) }.root()
            }
        }
    }

    /// The same version, named without the changes that others of it build on.
    ///
    /// # Errors
    /// [`DocumentError::UnknownHeads`].
    pub fn without_covered(&self, heads: &Heads) -> Result<Heads, DocumentError> {
        match &self.0 {
            State::Flat(_) if heads.is_flat() || *heads == self.created()? => Ok(Heads::FLAT),
            State::Flat(_) => Err(DocumentError::UnknownHeads { heads: heads.to_string() }),
            State::Grown(grown) => grown.without_covered(heads),
        }
    }

    /// Whether the change with this hash is part of it.
    pub fn has_change(&self, hash: &[u8; 32]) -> bool {
        match &self.0 {
            State::Flat(_) => false,
            State::Grown(grown) => grown.doc.get_change_meta_by_hash(&ChangeHash(*hash)).is_some(),
        }
    }

    /// All changes up to a version but the derived one, in an order that follows from the version
    /// alone: of those that its heads or a change before name, the one with the lowest hash comes
    /// next. So who knows the heads can check each as it comes. None if it never had this version.
    pub fn changes_to(&self, heads: &Heads) -> Option<Vec<Vec<u8>>> {
        let State::Grown(grown) = &self.0 else {
            return heads.is_flat().then(Vec::new);
        };
        let mut open: BTreeSet<ChangeHash> = grown.hashes(heads).ok()?.into_iter().collect();
        let mut named: HashSet<ChangeHash> = open.iter().copied().collect();
        let mut order = Vec::new();
        while let Some(hash) = open.pop_first() {
            if hash != grown.root {
                order.push(hash);
                let deps = grown.doc.get_change_meta_by_hash(&hash)?.deps;
                open.extend(deps.into_iter().filter(|dep| named.insert(*dep)));
            }
        }
        let changes = grown.doc.get_changes(&[]).into_iter();
        let mut changes: HashMap<ChangeHash, Change> =
            changes.map(|change| (change.hash(), change)).collect();
        order.into_iter().map(|hash| Some(changes.remove(&hash)?.raw_bytes().to_vec())).collect()
    }

    /// All changes, each behind those that it builds on; the derived one first, if there is any.
    pub(crate) fn changes_in_order(&self) -> Vec<Linked> {
        let State::Grown(grown) = &self.0 else { return Vec::new() };
        let changes = grown.doc.get_changes_meta(&[]).into_iter();
        changes
            .map(|meta| Linked { hash: meta.hash, seconds: meta.timestamp, deps: meta.deps })
            .collect()
    }

    /// A change's bytes.
    pub(crate) fn change(&self, hash: &ChangeHash) -> Option<Vec<u8>> {
        let State::Grown(grown) = &self.0 else { return None };
        grown.doc.get_change_by_hash(hash).map(|change| change.raw_bytes().to_vec())
    }

    /// Takes in a whole history with these heads, in any order and whoever wrote its changes: that
    /// all devices agreed on the heads stands for it. False, and the document stays as it was, if
    /// `changes` is not that history on the value it was created with.
    pub fn take_history(&mut self, changes: &[&[u8]], heads: &Heads) -> bool {
        if heads.is_flat() {
            return changes.is_empty();
        }
        let mut grown = match &self.0 {
            State::Grown(grown) => grown.clone(),
            State::Flat(genesis) => match Grown::derived(genesis) {
                Ok(grown) => Box::new(grown),
                Err(_) => return false,
            },
        };
        let Some(order) = history_in_order(changes, grown.root.0, heads) else { return false };
        let (mut group, mut operations) = (Vec::new(), 0);
        let taken = |outcome: &Outcome| matches!(outcome, Outcome::Applied | Outcome::Duplicate);
        for bytes in order {
            let Ok(incoming) = Incoming::of_anybody(bytes) else { return false };
            operations += incoming.operations();
            group.push(incoming);
            if operations >= OPERATIONS_AT_ONCE {
                if !grown.apply(&group).iter().all(taken) {
                    return false;
                }
                (group, operations) = (Vec::new(), 0);
            }
        }
        let is_taken = group.is_empty() || grown.apply(&group).iter().all(taken);
        if is_taken {
            self.0 = State::Grown(grown);
        }
        is_taken
    }

    /// Takes changes out of it, and what builds on them. Returns all that went.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`]; the document is as it was.
    pub fn take_out(
        &mut self,
        gone: &HashSet<[u8; 32]>,
    ) -> Result<HashSet<[u8; 32]>, DocumentError> {
        let (mut kept, mut went) = (Vec::new(), HashSet::new());
        let State::Grown(grown) = &self.0 else { return Ok(went) };
        for change in grown.doc.get_changes(&[]) {
            let hash = change.hash();
            let is_left =
                !gone.contains(&hash.0) && !change.deps().iter().any(|dep| went.contains(&dep.0));
            if is_left || hash == grown.root {
                kept.push(change);
            } else {
                went.insert(hash.0);
            }
        }
        if went.is_empty() {
            return Ok(went);
        }
        self.0 = if kept.len() == 1 {
            State::Flat(self.value_at(&Heads::FLAT)?)
        } else {
            let mut doc = Automerge::new_with_encoding(ENCODING);
            doc.apply_changes(kept).map_err(|e| DocumentError::Corrupt(e.to_string()))?;
            State::Grown(Box::new(Grown::of(doc, grown.bytes_max)?))
        };
        Ok(went)
    }

    /// The places where concurrent edits wrote different values, and what lost there.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`].
    pub fn conflicts(&self) -> Result<Vec<Conflict>, DocumentError> {
        match &self.0 {
            State::Flat(_) => Ok(Vec::new()),
            State::Grown(grown) => Reader { doc: &grown.doc, heads: None }.conflicts(),
        }
    }

    /// Turns the value at `base` (the present one, if `None`) into `new`, and merges that with
    /// what was edited since. Only what differs is written. Gives the change, or `None` if nothing
    /// differs. `time` is kept with it, in whole seconds.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`], [`DocumentError::TooDeep`], [`DocumentError::Reserved`],
    /// [`DocumentError::UnknownHeads`], [`DocumentError::TooManyOperations`],
    /// [`DocumentError::ChangeTooLarge`], [`DocumentError::HistoryTooLarge`],
    /// [`DocumentError::Corrupt`]. The document stays as it was.
    pub fn put(
        &mut self,
        actor: Actor,
        base: Option<&Heads>,
        new: &Object,
        time: Timestamp,
    ) -> Result<Option<Vec<u8>>, DocumentError> {
        check(new)?;
        match &mut self.0 {
            State::Flat(genesis) => {
                if base.is_none_or(Heads::is_flat) && same_object(genesis, new) {
                    return Ok(None);
                }
                let mut grown = Grown::derived(genesis)?;
                if let Some(heads) = base {
                    grown.hashes(heads)?;
                }
                if same_object(genesis, new) {
                    return Ok(None);
                }
                let change = edit(&mut grown, actor, base, time, |writer| writer.update(new))?;
                if change.is_some() {
                    self.0 = State::Grown(Box::new(grown));
                }
                Ok(change.map(|change| change.raw_bytes().to_vec()))
            }
            State::Grown(grown) => grown.put(actor, base, time, |writer| writer.update(new)),
        }
    }

    /// Puts it into the trash, or takes it out, which wins over who puts it there at the same time.
    /// Its value stays what it is. Gives the change, or `None` if it is there already, or not.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_in_trash(
        &mut self,
        actor: Actor,
        is_in: bool,
        time: Timestamp,
    ) -> Result<Option<Vec<u8>>, DocumentError> {
        if self.trashed()?.is_some() == is_in {
            return Ok(None);
        }
        let since = is_in.then_some(time);
        match &mut self.0 {
            State::Flat(genesis) => {
                let mut grown = Grown::derived(genesis)?;
                let change = edit(&mut grown, actor, None, time, |writer| writer.trash(since))?;
                self.0 = State::Grown(Box::new(grown));
                Ok(change.map(|change| change.raw_bytes().to_vec()))
            }
            State::Grown(grown) => grown.put(actor, None, time, |writer| writer.trash(since)),
        }
    }

    /// Applies received changes in the order of their logs, each with the actor that its author is
    /// entitled to. All go in together; if Automerge balks, smaller groups, down to single ones.
    /// There is one outcome for each change.
    pub fn apply(&mut self, changes: &[(Actor, &[u8])]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut incoming = Vec::new();
        for (actor, bytes) in changes {
            match Incoming::read(*actor, bytes) {
                Ok(change) => {
                    incoming.push(change);
                    outcomes.push(None);
                }
                Err(reason) => outcomes.push(Some(Outcome::Void(reason))),
            }
        }
        let mut judged = self.apply_read(&incoming).into_iter();
        let outcome = |outcome: Option<Outcome>| {
            outcome.or_else(|| judged.next()).unwrap_or(Outcome::Waiting)
        };
        outcomes.into_iter().map(outcome).collect()
    }

    /// About how much memory it takes, for [`crate::Cache`].
    pub fn cost_bytes(&self) -> usize {
        const EMPTY_HISTORY: usize = 18 << 10;
        const OPERATION: usize = 16;
        match &self.0 {
            State::Flat(genesis) => 256 + 3 * canonical(genesis).len(),
            State::Grown(grown) => {
                let operations = usize::try_from(grown.doc.stats().num_ops).unwrap_or(usize::MAX);
                let index = grown.index.as_ref().map_or(0, |index| index.cost_bytes());
                let saved =
                    grown.saved.get().map_or(0, |saved| saved.len()) + grown.stored.fresh.len();
                operations.saturating_mul(OPERATION).saturating_add(EMPTY_HISTORY + index + saved)
            }
        }
    }

    pub(crate) fn apply_read(&mut self, incoming: &[Incoming]) -> Vec<Outcome> {
        match &mut self.0 {
            _ if incoming.is_empty() => Vec::new(),
            State::Grown(grown) => grown.apply(incoming),
            State::Flat(genesis) => {
                let Ok(mut grown) = Grown::derived(genesis) else {
                    return vec![Outcome::Waiting; incoming.len()];
                };
                let outcomes = grown.apply(incoming);
                if outcomes.contains(&Outcome::Applied) {
                    self.0 = State::Grown(Box::new(grown));
                }
                outcomes
            }
        }
    }
}

fn edit(
    grown: &mut Grown,
    actor: Actor,
    base: Option<&Heads>,
    time: Timestamp,
    write: impl FnOnce(&mut Writer<'_, '_>) -> Result<(), DocumentError>,
) -> Result<Option<Change>, DocumentError> {
    let internal = |why: &str| DocumentError::Internal(why.to_owned());
    let mut now = grown.doc.get_heads();
    now.sort_unstable();
    let heads = match base {
        None => None,
        Some(heads) => Some(grown.hashes(heads)?).filter(|heads| *heads != now),
    };
    grown.doc.set_actor(actor.id());
    let mut tx = match &heads {
        None => grown.doc.transaction(),
        Some(heads) => grown
            .doc
            .transaction_at(PatchLog::inactive(), heads)
            .map_err(|e| DocumentError::Internal(e.to_string()))?,
    };
    write(&mut Writer::bounded(&mut tx))?;
    if automerge::transaction::Transactable::pending_ops(&tx) == 0 {
        tx.rollback();
        return Ok(None);
    }
    let seconds = i64::try_from(time.0 / 1000).unwrap_or(i64::MAX);
    let (hash, _) = tx.commit_with(CommitOptions::default().with_time(seconds));
    let hash = hash.ok_or_else(|| internal("nothing was committed"))?;
    let change =
        grown.doc.get_change_by_hash(&hash).ok_or_else(|| internal("the change is not there"))?;
    let bytes = change.raw_bytes();
    if bytes.len() > CHANGE_BYTES_MAX {
        return Err(DocumentError::ChangeTooLarge { bytes: bytes.len() });
    }
    grown.grow(bytes);
    if grown.bytes_max > DOCUMENT_AUTOMERGE_BYTES_MAX {
        grown.bytes_max = grown.save().len();
        if grown.bytes_max > DOCUMENT_AUTOMERGE_BYTES_MAX {
            return Err(DocumentError::HistoryTooLarge { bytes: grown.bytes_max });
        }
    }
    Ok(Some(change))
}
