//! What an app and a space's owners want of personal data in its collections: that it is told, that
//! the document is more sensitive, that they are taken out, or that they are not written at all.
//!
//! Invariants: a contract is looked at before this device writes, and says nothing about what other
//! devices have written; of the app's and the space's the stricter counts; what the classifier
//! found is kept as kinds, never as text.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use larder_classify::{Classifier, Found as Personal, Kind as PersonalKind};
use larder_document::Object;
use larder_log::act::{Act, Role};
pub use larder_log::contract::ContractAction;
use larder_log::contract::{ContractAct, SpaceContracts};
use larder_log::roster::Roster;
use larder_log::{Band, Header, Receipt, VERSION, kind, personal};
use larder_store::space::{control, entries};
use larder_types::limits::DOCUMENT_DEPTH_MAX;
use larder_types::{CollectionName, ObjectId};
use rusqlite::Connection;
use serde_json::Value;

use crate::read::snapshot;
use crate::space::Space;
use crate::unit::parse_collection;
use crate::writer::SpaceWriter;
use crate::{Error, Result};

/// What a write came to in which personal data were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// The document.
    pub object: ObjectId,
    /// Its collection.
    pub collection: CollectionName,
    /// What kinds were found.
    pub kinds: Vec<PersonalKind>,
    /// Those of them that were taken out.
    pub redacted: Vec<PersonalKind>,
    /// The band that the document is of at least because of them, if a contract says so.
    pub raised: Option<Band>,
}

impl Noticed {
    /// The kinds by name, for people.
    pub(crate) fn names(&self) -> String {
        names(&self.kinds)
    }
}

fn names(kinds: &[PersonalKind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

/// What a space's owners set of one kind of personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// The collection; none: all that have no contract of their own for the kind.
    pub collection: Option<CollectionName>,
    /// The kind.
    pub kind: PersonalKind,
    /// What becomes of it.
    pub action: ContractAction,
}

impl Space {
    /// The contracts that the space's owners have set, for every device.
    ///
    /// # Errors
    /// The storage's errors.
    pub fn contracts(&self) -> Result<Vec<Contract>> {
        let published = self.shared.published()?;
        let db = self.shared.pool.reader()?;
        let set = of_space(&*snapshot(&db)?, &published.roster)?;
        let contract = |(collection, bits, action): (Option<&CollectionName>, u8, _)| {
            let collection = collection.cloned();
            kinds(bits).pop().map(|kind| Contract { collection, kind, action })
        };
        Ok(set.set().filter_map(contract).collect())
    }
}

impl SpaceWriter {
    /// Sets what becomes of personal data of a kind in a collection, or in all that have no
    /// contract of their own for it, on every device; `None`: nothing any more.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad collection name, for what makes no sense, and if this device is
    /// no owner's; [`Error::MayNotWrite`]; the storage's errors.
    pub fn set_contract(
        &mut self,
        collection: Option<&str>,
        kind: PersonalKind,
        action: Option<ContractAction>,
    ) -> Result<Receipt> {
        let collection = collection.map(parse_collection).transpose()?;
        let personal = bits(&[kind]);
        self.transact(|tx, state| {
            state.check_may_write()?;
            let own = state.roster.device(&state.device()).map(|device| device.role);
            if own != Some(Role::Owner) {
                return Err(Error::Invalid("only an owner sets a space's contracts".into()));
            }
            let known = of_space(tx, &state.roster)?;
            let revision = known.next_revision(collection.as_ref(), personal);
            let act = ContractAct { v: VERSION, revision, collection, personal, action };
            if let Some(why) = act.wrong() {
                return Err(Error::Invalid(format!("this cannot be set: {why}")));
            }
            state.append_act(tx, &Act::Contract(act))?;
            state.sign(tx)?;
            state.receipt(tx, state.frontier.size())
        })
    }
}

/// The acts that count, taken together: those of owners.
pub(crate) fn of_space(db: &Connection, roster: &Roster) -> Result<SpaceContracts> {
    let mut all = SpaceContracts::default();
    for stored in control::acts_of_kind(db, kind::CONTRACT)? {
        let header = entries::find(db, stored.place.log, stored.place.seq)?
            .and_then(|entry| Header::decode(&entry.header).ok())
            .ok_or_else(|| Error::Corrupt("an act's entry is missing".into()))?;
        if let Ok(Some(Act::Contract(act))) = Act::from_body(stored.kind, &stored.body)
            && roster.owns_at(&header)
        {
            all.take(&act);
        }
    }
    Ok(all)
}

/// The contracts of a profile.
#[derive(Clone, Default)]
pub struct Contracts {
    classifier: Option<Arc<dyn Classifier>>,
    rules: Vec<(Option<CollectionName>, PersonalKind, ContractAction)>,
}

impl Contracts {
    /// Whether something tells what is personal.
    pub fn has_classifier(&self) -> bool {
        self.classifier.is_some()
    }

    /// What tells what is personal.
    pub fn set_classifier(&mut self, classifier: Arc<dyn Classifier>) {
        self.classifier = Some(classifier);
    }

    /// What becomes of `kind` in a collection, or in all that have no rule of their own for it. Of
    /// two for the same the later counts.
    pub fn add(
        &mut self,
        collection: Option<CollectionName>,
        kind: PersonalKind,
        action: ContractAction,
    ) {
        self.rules.push((collection, kind, action));
    }

    fn action(&self, collection: &CollectionName, kind: PersonalKind) -> Option<ContractAction> {
        let rule = |wanted: Option<&CollectionName>| {
            let mut rules = self.rules.iter().rev();
            let found = rules.find(|(of, k, _)| of.as_ref() == wanted && *k == kind);
            found.map(|(.., action)| *action)
        };
        rule(Some(collection)).or_else(|| rule(None))
    }

    /// Whether something has what it finds in documents that leave no device.
    pub(crate) fn raises_to_black(&self) -> bool {
        self.rules.iter().any(|(.., action)| *action == ContractAction::Raise(Band::Black))
    }

    /// Looks through a value that is about to be written. `None`: there is nothing to look for, or
    /// nothing was found.
    pub(crate) fn apply(
        &self,
        of_space: &SpaceContracts,
        (object, collection): (ObjectId, &CollectionName),
        value: &Object,
    ) -> Result<Option<(Noticed, Option<Object>)>> {
        let Some(classifier) = &self.classifier else { return Ok(None) };
        let actions = PersonalKind::ALL.into_iter().filter_map(|kind| {
            let of_app = self.action(collection, kind);
            let action = of_app.max(of_space.action(collection, bits(&[kind])));
            action.map(|action| (kind, action))
        });
        let actions: Vec<_> = actions.collect();
        if actions.is_empty() {
            return Ok(None);
        }
        let mut look = Look { actions, classifier, noted: Vec::new() };
        let mut value = value.clone();
        let looked = catch_unwind(AssertUnwindSafe(|| look.object(&mut value, 0)));
        looked.map_err(|_| {
            let message = "the classifier broke down, so nothing was written: write again without";
            Error::Invalid(message.into())
        })?;
        let mut noted = look.noted;
        noted.sort_unstable();
        noted.dedup();
        let of = |action: ContractAction| {
            let kinds = noted.iter().filter(move |(_, a)| *a == action);
            kinds.map(|(kind, _)| *kind).collect::<Vec<_>>()
        };
        let refused = of(ContractAction::Refuse);
        if !refused.is_empty() {
            let (kinds, collection) = (names(&refused), collection.clone());
            return Err(Error::Contract { object, collection, kinds });
        }
        if noted.is_empty() {
            return Ok(None);
        }
        let redacted = of(ContractAction::Redact);
        let new = (!redacted.is_empty()).then_some(value);
        let bands = noted.iter().filter_map(|(_, action)| match action {
            ContractAction::Raise(band) => Some(*band),
            _ => None,
        });
        let raised = bands.max();
        let kinds = noted.iter().map(|(kind, _)| *kind).collect();
        let collection = collection.clone();
        Ok(Some((Noticed { object, collection, kinds, redacted, raised }, new)))
    }
}

/// The kinds as a section's metadata has them.
pub(crate) fn bits(kinds: &[PersonalKind]) -> u8 {
    kinds.iter().fold(0, |bits, kind| {
        bits | match kind {
            PersonalKind::Contact => personal::CONTACT,
            PersonalKind::Financial => personal::FINANCIAL,
            PersonalKind::Health => personal::HEALTH,
            PersonalKind::Credentials => personal::CREDENTIALS,
            _ => 0,
        }
    })
}

/// What [`bits`] was made from.
pub(crate) fn kinds(bits: u8) -> Vec<PersonalKind> {
    let is_set = |kind: &PersonalKind| bits & self::bits(&[*kind]) != 0;
    PersonalKind::ALL.into_iter().filter(is_set).collect()
}

/// One document looked through.
struct Look<'a> {
    actions: Vec<(PersonalKind, ContractAction)>,
    classifier: &'a Arc<dyn Classifier>,
    noted: Vec<(PersonalKind, ContractAction)>,
}

impl Look<'_> {
    fn object(&mut self, object: &mut Object, depth: usize) {
        for (key, value) in object.iter_mut() {
            self.value(key, value, depth);
        }
    }

    /// What is nested deeper is refused for that.
    fn value(&mut self, key: &str, value: &mut Value, depth: usize) {
        match value {
            Value::String(text) => {
                if let Some(redacted) = self.text(key, text) {
                    *text = redacted;
                }
            }
            // A PIN may be a number.
            Value::Number(number) => {
                if let Some(redacted) = self.text(key, &number.to_string()) {
                    *value = Value::String(redacted);
                }
            }
            Value::Array(values) if depth < DOCUMENT_DEPTH_MAX => {
                for value in values {
                    self.value(key, value, depth + 1);
                }
            }
            Value::Object(object) if depth < DOCUMENT_DEPTH_MAX => self.object(object, depth + 1),
            _ => {}
        }
    }

    /// The text without what is to be taken out, if something is.
    fn text(&mut self, key: &str, text: &str) -> Option<String> {
        let mut found = self.classifier.classify(text);
        // `password` may be the field's name.
        let named = format!("{key}: ");
        let with_name = format!("{named}{text}");
        found.extend(self.classifier.classify(&with_name).into_iter().filter_map(|found| {
            let by_name = matches!(found.kind, PersonalKind::Credentials | PersonalKind::Financial);
            let end = found.at.end.checked_sub(named.len())?;
            let at = found.at.start.saturating_sub(named.len())..end;
            (by_name && !at.is_empty()).then_some(Personal { kind: found.kind, at })
        }));
        let mut cuts: Vec<(Range<usize>, PersonalKind)> = Vec::new();
        for Personal { kind, at } in found {
            let action = self.actions.iter().find(|(of, _)| *of == kind).map(|(_, action)| *action);
            let Some(action) = action else { continue };
            if at.is_empty() || text.get(at.clone()).is_none() {
                continue;
            }
            self.noted.push((kind, action));
            if action == ContractAction::Redact {
                cuts.push((at, kind));
            }
        }
        (!cuts.is_empty()).then(|| without(text, cuts))
    }
}

/// The text with what is cut out named by its kind.
fn without(text: &str, mut cuts: Vec<(Range<usize>, PersonalKind)>) -> String {
    cuts.sort_unstable_by_key(|(at, _)| (at.start, at.end));
    let (mut new, mut done) = (String::with_capacity(text.len()), 0);
    for (at, kind) in cuts {
        if at.start >= done {
            new.push_str(text.get(done..at.start).unwrap_or(""));
            new.push_str("[removed: ");
            new.push_str(kind.name());
            new.push(']');
        }
        done = done.max(at.end);
    }
    new.push_str(text.get(done..).unwrap_or(""));
    new
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Finds `@` as contact, `#` and what follows as credentials, and breaks down at `!`.
    struct Signs;

    impl Classifier for Signs {
        fn classify(&self, text: &str) -> Vec<Personal> {
            assert!(!text.contains('!'), "on purpose");
            let places = |sign: char, kind, to_end: bool| {
                text.match_indices(sign)
                    .map(|(at, _)| Personal {
                        kind,
                        at: at..if to_end { text.len() } else { at + 1 },
                    })
                    .collect::<Vec<_>>()
            };
            let mut found = places('@', PersonalKind::Contact, false);
            found.extend(places('#', PersonalKind::Credentials, true));
            // No place of the text, and one that cuts a character.
            found.push(Personal { kind: PersonalKind::Health, at: text.len()..text.len() + 9 });
            found.extend(
                text.find('ä')
                    .map(|at| Personal { kind: PersonalKind::Health, at: at + 1..at + 2 }),
            );
            found
        }
    }

    fn contracts(rules: &[(Option<&str>, PersonalKind, ContractAction)]) -> Contracts {
        let mut contracts = Contracts::default();
        contracts.set_classifier(Arc::new(Signs));
        for (collection, kind, action) in rules {
            contracts.add(collection.map(|name| name.parse().unwrap()), *kind, *action);
        }
        contracts
    }

    fn apply(contracts: &Contracts, value: Value) -> Result<Option<(Noticed, Option<Object>)>> {
        let Value::Object(value) = value else { panic!() };
        let (object, notes) = (ObjectId::new([1; 16]), "notes".parse().unwrap());
        contracts.apply(&SpaceContracts::default(), (object, &notes), &value)
    }

    #[test]
    fn the_rule_of_the_collection_counts_before_that_of_all() {
        use ContractAction::{Redact, Refuse, Warn};
        use PersonalKind::{Contact, Credentials};
        let both = contracts(&[
            (None, Contact, Refuse),
            (Some("notes"), Contact, Warn),
            (Some("other"), Credentials, Refuse),
            (None, Credentials, Redact),
        ]);
        assert!(apply(&both, json!({ "a": "ä" })).unwrap().is_none(), "no rule for health");
        let (noticed, new) =
            apply(&both, json!({ "a": ["x @ y", { "b": "k #9" }] })).unwrap().unwrap();
        assert_eq!(
            (noticed.kinds, noticed.redacted),
            (vec![Contact, Credentials], vec![Credentials])
        );
        let expected = json!({ "a": ["x @ y", { "b": "k [removed: credentials]" }] });
        assert_eq!(Value::Object(new.unwrap()), expected);

        let refusing = contracts(&[(None, Contact, Refuse), (None, Credentials, Refuse)]);
        let error = apply(&refusing, json!({ "a": "geheim@#geheim" })).unwrap_err().to_string();
        assert!(error.contains("contact, credentials") && !error.contains("geheim"), "{error}");
        assert!(apply(&refusing, json!({ "a": 7, "b": null, "c": [true] })).unwrap().is_none());
        // Nothing is asked for, so nothing is looked at.
        assert!(apply(&contracts(&[]), json!({ "a": "!" })).unwrap().is_none());
        let error = apply(&refusing, json!({ "a": "!" })).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }

    #[test]
    fn places_that_overlap_are_cut_once_and_bits_are_kinds() {
        use PersonalKind::{Contact, Credentials};
        let cuts = vec![(2..5, Credentials), (0..3, Contact), (4..5, Contact), (6..7, Contact)];
        assert_eq!(without("abcdefg", cuts), "[removed: contact]f[removed: contact]");
        for n in 0..16 {
            assert_eq!(bits(&kinds(n)), n);
        }
    }
}
