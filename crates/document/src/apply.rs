use std::collections::{BTreeMap, HashMap, HashSet};

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Automerge, Change, ChangeHash, ObjType, ReadDoc, ScalarValue};

use crate::contained::contained;
use crate::json::TRASH;
use crate::{Actor, chunk};

/// How far past its causal past a change may number its operations: they are numbered after all
/// that its author had, and Automerge has 32 bits for them.
const SKIP_MAX: u64 = 1 << 24;

/// What became of a received change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It is part of the document now.
    Applied,
    /// It was already.
    Duplicate,
    /// It builds on changes that the document does not have. It was not kept: offer it again when
    /// they are there. If its author named them as applied before, they never will be.
    Waiting,
    /// It does not count, on any device.
    Void(VoidReason),
}

/// Why a change does not count. All of these depend on its bytes, its author and its causal past,
/// but for [`VoidReason::SequenceTaken`], which depends on the order of its author's own log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoidReason {
    /// Not the bytes of one uncompressed change, or with what no change of ours carries.
    #[error("malformed: {0}")]
    Malformed(String),
    /// More bytes than a change may have.
    #[error("too many bytes")]
    TooLarge,
    /// More operations than a change may have.
    #[error("too many operations")]
    TooManyOperations,
    /// Written in another device's name, or for another document or generation.
    #[error("its actor is not its author's")]
    WrongActor,
    /// Built on nothing.
    #[error("it does not build on the document's first value")]
    Rootless,
    /// Another change of its author has its place.
    #[error("its author wrote another change with this number")]
    SequenceTaken,
    /// Numbered otherwise than its causal past requires.
    #[error("it is not numbered as its causal past requires")]
    Numbering,
    /// It touches something that is not in its causal past, or of another kind.
    #[error("it refers to what its author cannot have seen")]
    Reference,
    /// It writes what JSON has no word for.
    #[error("it writes what JSON cannot hold")]
    NotJson,
    /// Automerge refused it, or would not have been able to save it.
    #[error("Automerge cannot apply it")]
    Refused,
}

/// A change that has been read and found to be well-formed by itself.
pub(crate) struct Incoming {
    change: Change,
    operations: Vec<Op>,
}

impl Incoming {
    pub(crate) fn read(actor: Actor, bytes: &[u8]) -> Result<Self, VoidReason> {
        let incoming = Self::of_anybody(bytes)?;
        if actor.owns(incoming.change.actor_id()) || chunk::is_by_nobody(bytes) {
            Ok(incoming)
        } else {
            Err(VoidReason::WrongActor)
        }
    }

    /// A change whose author is known to be entitled to it.
    pub(crate) fn of_anybody(bytes: &[u8]) -> Result<Self, VoidReason> {
        chunk::check(bytes)?;
        let read = contained(|| {
            let change =
                Change::try_from(bytes).map_err(|e| VoidReason::Malformed(e.to_string()))?;
            let operations = change.decode().operations;
            Ok(Self { change, operations })
        });
        let incoming = read.unwrap_or(Err(VoidReason::Refused))?;
        let change = &incoming.change;
        if change.raw_bytes() != bytes || change.len() != incoming.operations.len() {
            Err(VoidReason::Malformed("not as Automerge would write it".to_owned()))
        } else if change.deps().is_empty() {
            Err(VoidReason::Rootless)
        } else if !incoming.operations.iter().all(is_json) {
            Err(VoidReason::NotJson)
        } else {
            Ok(incoming)
        }
    }
}

impl Incoming {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.change.raw_bytes()
    }

    pub(crate) fn operations(&self) -> usize {
        self.operations.len()
    }
}

/// Whether a change, which is one that counts, puts its document into the trash (true) or takes it
/// out; `None` if it does neither.
pub fn trash_of(change: &[u8]) -> Option<bool> {
    let operations = Incoming::of_anybody(change).ok()?.operations;
    operations.iter().rev().find_map(|op| match (&op.obj, &op.key, &op.action) {
        (ObjectId::Root, Key::Map(key), OpType::Put(value)) if key.as_str() == TRASH => {
            Some(matches!(value, ScalarValue::Int(_) | ScalarValue::Uint(_)))
        }
        _ => None,
    })
}

fn is_json(op: &Op) -> bool {
    match &op.action {
        OpType::Make(kind) => !matches!(kind, ObjType::Table),
        OpType::Delete => !op.insert,
        OpType::Put(value) => match value {
            ScalarValue::F64(n) => n.is_finite(),
            ScalarValue::Str(_)
            | ScalarValue::Int(_)
            | ScalarValue::Uint(_)
            | ScalarValue::Boolean(_)
            | ScalarValue::Null => true,
            _ => false,
        },
        OpType::Increment(_) | OpType::MarkBegin(_) | OpType::MarkEnd(_) => false,
    }
}

/// The changes of one actor that lie in some causal past: actor → its last sequence number.
type Past = BTreeMap<usize, u64>;

/// Who wrote what after what, so that a change can be held against its causal past.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    actors: HashMap<ActorId, usize>,
    /// By actor, then sequence number − 1: first and last operation.
    spans: Vec<Vec<(u64, u64)>>,
    changes: HashMap<ChangeHash, Node>,
    /// Of changes that nothing builds on yet.
    tips: HashMap<ChangeHash, Past>,
}

#[derive(Debug, Clone)]
struct Node {
    actor: usize,
    seq: u64,
    deps: Vec<ChangeHash>,
}

impl Index {
    pub(crate) fn of(doc: &Automerge) -> Self {
        let mut index = Self::default();
        for meta in doc.get_changes_meta(&[]) {
            let span = (meta.start_op, meta.max_op);
            index.add(meta.hash, &meta.actor, meta.seq, span, meta.deps);
        }
        index
    }

    pub(crate) fn add_change(&mut self, change: &Change) {
        // As Automerge computes it for a change without operations.
        let last = (change.start_op().get() + change.len() as u64).saturating_sub(1);
        let span = (change.start_op().get(), last);
        self.add(change.hash(), change.actor_id(), change.seq(), span, change.deps().to_vec());
    }

    pub(crate) fn cost_bytes(&self) -> usize {
        self.changes.len() * 200
    }

    fn add(
        &mut self,
        hash: ChangeHash,
        actor: &ActorId,
        seq: u64,
        span: (u64, u64),
        deps: Vec<ChangeHash>,
    ) {
        let next = self.spans.len();
        let actor = *self.actors.entry(actor.clone()).or_insert(next);
        if actor == next {
            self.spans.push(Vec::new());
        }
        if let Some(spans) = self.spans.get_mut(actor) {
            spans.push(span);
        }
        let mut past = self.past_of(&deps);
        past.insert(actor, seq);
        for dep in &deps {
            self.tips.remove(dep);
        }
        self.tips.insert(hash, past);
        self.changes.insert(hash, Node { actor, seq, deps });
    }

    /// Takes back the last additions, which end in `added`.
    fn remove(&mut self, added: &[ChangeHash]) {
        for hash in added.iter().rev() {
            let Some(node) = self.changes.remove(hash) else { continue };
            if let Some(spans) = self.spans.get_mut(node.actor) {
                spans.pop();
            }
            // What it built on may be a tip again; without its entry its past is walked.
            self.tips.remove(hash);
        }
    }

    fn past_of(&self, deps: &[ChangeHash]) -> Past {
        let mut past = Past::new();
        let mut walk = Vec::new();
        for dep in deps {
            match self.tips.get(dep) {
                Some(known) => {
                    for (actor, seq) in known {
                        let last = past.entry(*actor).or_insert(0);
                        *last = (*last).max(*seq);
                    }
                }
                None => walk.push(*dep),
            }
        }
        // A later change of the same actor tells nothing of this one's own past: it may have been
        // reached just now, and lead on through this one.
        let mut visited = HashSet::new();
        while let Some(hash) = walk.pop() {
            let Some(node) = self.changes.get(&hash).filter(|_| visited.insert(hash)) else {
                continue;
            };
            let last = past.entry(node.actor).or_insert(0);
            *last = (*last).max(node.seq);
            walk.extend(&node.deps);
        }
        past
    }

    fn last_operation(&self, past: &Past) -> u64 {
        let last = |(actor, seq): (&usize, &u64)| self.seen(*actor, *seq).last().map(|s| s.1);
        past.iter().filter_map(last).max().unwrap_or(0)
    }

    fn seen(&self, actor: usize, seq: u64) -> &[(u64, u64)] {
        let spans = self.spans.get(actor).map_or(&[][..], Vec::as_slice);
        let seen = usize::try_from(seq).unwrap_or(usize::MAX).min(spans.len());
        spans.get(..seen).unwrap_or(&[])
    }

    fn has_operation(&self, past: &Past, id: &OpId) -> bool {
        let Some(actor) = self.actors.get(&id.1) else { return false };
        let Some(seq) = past.get(actor) else { return false };
        let spans = self.seen(*actor, *seq);
        let at = spans.partition_point(|(_, last)| *last < id.0);
        spans.get(at).is_some_and(|(first, last)| (*first..=*last).contains(&id.0))
    }
}

/// A document to which changes are tried out.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) doc: Automerge,
    pub(crate) index: Index,
}

impl Trial {
    /// Applies those of `changes` that count, together; where that fails, halves of them.
    pub(crate) fn apply(&mut self, changes: &[Incoming]) -> Vec<Outcome> {
        let mut added = Vec::new();
        let mut batch = Vec::new();
        let mut made = HashMap::new();
        let mut outcomes = Vec::new();
        for incoming in changes {
            let outcome = self.judge(incoming, &mut made);
            if outcome == Outcome::Applied {
                self.index.add_change(&incoming.change);
                added.push(incoming.change.hash());
                batch.push(incoming.change.clone());
            }
            outcomes.push(outcome);
        }
        if batch.is_empty() {
            return outcomes;
        }
        if let Some(doc) = applied(&self.doc, &batch) {
            self.doc = doc;
            return outcomes;
        }
        self.index.remove(&added);
        if let [_] = changes {
            return vec![Outcome::Void(VoidReason::Refused)];
        }
        let (first, second) = changes.split_at(changes.len() / 2);
        let mut outcomes = self.apply(first);
        outcomes.extend(self.apply(second));
        outcomes
    }

    /// What becomes of a change if Automerge takes it.
    fn judge(&self, incoming: &Incoming, made: &mut HashMap<OpId, ObjType>) -> Outcome {
        let change = &incoming.change;
        if self.index.changes.contains_key(&change.hash()) {
            return Outcome::Duplicate;
        }
        if !change.deps().iter().all(|dep| self.index.changes.contains_key(dep)) {
            return Outcome::Waiting;
        }
        let past = self.index.past_of(change.deps());
        let actor = self.index.actors.get(change.actor_id()).copied();
        let seen = actor.and_then(|actor| past.get(&actor)).copied().unwrap_or(0);
        let known = actor.and_then(|actor| self.index.spans.get(actor)).map_or(0, Vec::len);
        if change.seq() <= known as u64 {
            return Outcome::Void(VoidReason::SequenceTaken);
        }
        let before = self.index.last_operation(&past);
        let start = change.start_op().get();
        if change.seq() != seen + 1 || start <= before || start - before > SKIP_MAX {
            return Outcome::Void(VoidReason::Numbering);
        }
        if self.refers_well(incoming, &past, made) {
            Outcome::Applied
        } else {
            Outcome::Void(VoidReason::Reference)
        }
    }

    fn refers_well(
        &self,
        incoming: &Incoming,
        past: &Past,
        made: &mut HashMap<OpId, ObjType>,
    ) -> bool {
        let change = &incoming.change;
        let actor = change.actor_id();
        let start = change.start_op().get();
        let mut new: HashMap<OpId, ObjType> = HashMap::new();
        for (op, counter) in incoming.operations.iter().zip(start..) {
            let is_known = |id: &OpId| {
                (id.1 == *actor && (start..counter).contains(&id.0))
                    || self.index.has_operation(past, id)
            };
            let kind = match &op.obj {
                ObjectId::Root => Some(ObjType::Map),
                ObjectId::Id(id) if is_known(id) => {
                    new.get(id).copied().or_else(|| self.kind_of(id, made))
                }
                ObjectId::Id(_) => None,
            };
            let fits = match (kind, &op.key) {
                (Some(ObjType::Map), Key::Map(_)) => !op.insert,
                (Some(ObjType::List), Key::Seq(key)) => is_element(key, op, is_known),
                (Some(ObjType::Text), Key::Seq(key)) => {
                    let is_text = match &op.action {
                        OpType::Put(value) => matches!(value, ScalarValue::Str(_)),
                        action => matches!(action, OpType::Delete),
                    };
                    is_text && is_element(key, op, is_known)
                }
                _ => false,
            };
            if !fits || !op.pred.iter().all(is_known) {
                return false;
            }
            if let OpType::Make(kind) = &op.action {
                new.insert(OpId(counter, actor.clone()), *kind);
            }
        }
        made.extend(new);
        true
    }

    fn kind_of(&self, id: &OpId, made: &mut HashMap<OpId, ObjType>) -> Option<ObjType> {
        if let Some(kind) = made.get(id) {
            return Some(*kind);
        }
        let name = format!("{}@{}", id.0, id.1.to_hex_string());
        let kind = contained(|| {
            let object = self.doc.import_obj(&name).ok()?;
            self.doc.object_type(object).ok()
        })??;
        made.insert(id.clone(), kind);
        Some(kind)
    }
}

fn is_element(key: &ElementId, op: &Op, is_known: impl Fn(&OpId) -> bool) -> bool {
    match key {
        ElementId::Head => op.insert,
        ElementId::Id(id) => is_known(id),
    }
}

/// The document with these changes, if Automerge takes them all and will give them back: it keeps
/// operations, not changes, and a change that it cannot put together again cannot be saved.
fn applied(doc: &Automerge, batch: &[Change]) -> Option<Automerge> {
    contained(|| {
        let before = doc.get_heads();
        let mut trial = doc.clone();
        trial.apply_changes(batch.iter().cloned()).ok()?;
        let kept: HashMap<_, _> =
            trial.get_changes(&before).into_iter().map(|c| (c.hash(), c)).collect();
        let same = |change: &Change| {
            kept.get(&change.hash()).is_some_and(|kept| kept.raw_bytes() == change.raw_bytes())
        };
        (kept.len() == batch.len() && batch.iter().all(same)).then_some(trial)
    })?
}
