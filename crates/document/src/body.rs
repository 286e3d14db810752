//! What the sections of a document's life hold (`docs/format/documents.md`).

use larder_types::limits::{REDACTED_OBJECTS_MAX, REDACTED_PATHS_MAX, SECTION_BYTES_MAX};
use larder_types::{ObjectId, canonical};
use minicbor::{Decode, Encode};

use crate::derive::DERIVATION;
use crate::{DocumentError, Heads, Object, json};

/// The format of all three bodies.
pub const VERSION: u8 = 0;

/// A document's first value, or the first of a new generation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Create {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// By which rules its root change is derived: [`DERIVATION`].
    #[n(1)]
    pub derivation: u16,
    /// The value, as [`crate::canonical`] JSON.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub json: Vec<u8>,
    /// The object that it was restored from, or is a redaction of.
    #[n(3)]
    pub from: Option<ObjectId>,
    /// What was redacted, if it was.
    #[n(4)]
    pub redacted: Option<Redacted>,
}

/// What a redacted document stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Redacted {
    /// The objects that it, or one that it stands for, was made from, the last one first; at most
    /// [`REDACTED_OBJECTS_MAX`].
    #[n(0)]
    pub of: Vec<Stood>,
    /// The parts that were taken out of these, each by the names of members from the root on, up to
    /// the first list; at most [`REDACTED_PATHS_MAX`].
    #[n(1)]
    pub paths: Vec<Vec<String>>,
}

/// An object as it was when it was redacted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Stood {
    /// The object.
    #[n(0)]
    pub object: ObjectId,
    /// The version that was redacted: what the object has beside it is not in the new one.
    #[n(1)]
    pub heads: Heads,
}

/// Edits of a document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Change {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// The derivation of the root change that these build on.
    #[n(1)]
    pub derivation: u16,
    /// Automerge changes in order, as [`crate::Document::put`] gives them.
    #[n(2)]
    pub changes: Vec<minicbor::bytes::ByteVec>,
}

/// The end of a document. It wins over any concurrent edit, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Delete {
    /// [`VERSION`].
    #[n(0)]
    pub v: u8,
}

impl Create {
    /// A body that creates a document with this value.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`], [`DocumentError::TooDeep`], [`DocumentError::Reserved`].
    pub fn new(value: &Object) -> Result<Self, DocumentError> {
        Ok(Self {
            v: VERSION,
            derivation: DERIVATION,
            json: json::check(value)?,
            from: None,
            redacted: None,
        })
    }

    /// The value.
    ///
    /// # Errors
    /// [`DocumentError::Newer`], [`DocumentError::NotAnObject`], [`DocumentError::TooLarge`],
    /// [`DocumentError::TooDeep`], [`DocumentError::Reserved`].
    pub fn value(&self) -> Result<Object, DocumentError> {
        version(self.v, self.derivation)?;
        // Canonical form is not required: how floats are written may change with serde_json, and
        // what counts is the value.
        json::parse(&self.json)
    }
}

impl Change {
    /// A body of these edits.
    pub fn new(changes: Vec<Vec<u8>>) -> Self {
        let changes = changes.into_iter().map(Into::into).collect();
        Self { v: VERSION, derivation: DERIVATION, changes }
    }

    /// The edits' bytes, if this version can read them.
    ///
    /// # Errors
    /// [`DocumentError::Newer`].
    pub fn changes(&self) -> Result<impl Iterator<Item = &[u8]>, DocumentError> {
        version(self.v, self.derivation)?;
        Ok(self.changes.iter().map(|change| change.as_slice()))
    }
}

impl Delete {
    /// A body that ends a document.
    pub fn new() -> Self {
        Self { v: VERSION }
    }
}

impl Default for Delete {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! bytes {
    ($name:ident, $fits:expr) => {
        impl $name {
            /// The body's bytes.
            pub fn encode(&self) -> Vec<u8> {
                canonical::encode(self)
            }

            /// Reads a body.
            ///
            /// # Errors
            /// As [`canonical::decode`], and for more in a list than the format allows.
            pub fn decode(bytes: &[u8]) -> Result<Self, canonical::DecodeError> {
                let fits: fn(&Self) -> bool = $fits;
                let body = canonical::decode(bytes, SECTION_BYTES_MAX)?;
                if !fits(&body) {
                    return Err(canonical::DecodeError::Malformed("too many in a list".into()));
                }
                Ok(body)
            }
        }
    };
}
bytes!(Create, |create: &Self| create.redacted.as_ref().is_none_or(Redacted::fits));
bytes!(Change, |_| true);
bytes!(Delete, |_| true);
bytes!(Redacted, Redacted::fits);

impl Redacted {
    fn fits(&self) -> bool {
        self.of.len() <= REDACTED_OBJECTS_MAX && self.paths.len() <= REDACTED_PATHS_MAX
    }
}

fn version(version: u8, derivation: u16) -> Result<(), DocumentError> {
    if version == VERSION && derivation == DERIVATION {
        Ok(())
    } else {
        Err(DocumentError::Newer { version, derivation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn bodies_survive_their_encoding() {
        let create = Create::new(&object(r#"{"b":[1,1.0,null],"a":"é"}"#)).unwrap();
        assert_eq!(create.json, r#"{"a":"é","b":[1,1.0,null]}"#.as_bytes());
        assert_eq!(Create::decode(&create.encode()).unwrap(), create);
        assert_eq!(create.value().unwrap(), object(r#"{"a":"é","b":[1,1.0,null]}"#));
        assert_eq!(create.encode()[..3], [0x83, 0, 0]);
        let restored = Create { from: Some(ObjectId::new([7; 16])), ..create };
        assert_eq!(restored.encode()[..3], [0x84, 0, 0]);
        assert_eq!(Create::decode(&restored.encode()).unwrap(), restored);
        let redacted = Redacted {
            of: vec![Stood { object: ObjectId::new([7; 16]), heads: Heads::FLAT }],
            paths: vec![vec!["a".to_owned(), "b".to_owned()]],
        };
        let redacted = Create { redacted: Some(redacted), ..restored };
        assert_eq!(Create::decode(&redacted.encode()).unwrap(), redacted);
        let with = |objects, paths| {
            let stood = Stood { object: ObjectId::new([7; 16]), heads: Heads::FLAT };
            let paths = vec![vec!["a".to_owned()]; paths];
            let lists = Some(Redacted { of: vec![stood; objects], paths });
            Create::decode(&Create { redacted: lists, ..redacted.clone() }.encode())
        };
        assert!(with(REDACTED_OBJECTS_MAX, REDACTED_PATHS_MAX).is_ok());
        assert!(with(REDACTED_OBJECTS_MAX + 1, 1).is_err());
        assert!(with(1, REDACTED_PATHS_MAX + 1).is_err());
        let change = Change::new(vec![vec![1, 2], vec![]]);
        assert_eq!(change.encode(), [0x83, 0, 0, 0x82, 0x42, 1, 2, 0x40]);
        assert_eq!(Change::decode(&change.encode()).unwrap(), change);
        assert_eq!(change.changes().unwrap().collect::<Vec<_>>(), [&[1u8, 2][..], &[]]);
        assert_eq!(Delete::decode(&Delete::new().encode()).unwrap(), Delete::new());
    }

    #[test]
    fn what_is_newer_or_no_object_is_refused() {
        let create = Create::new(&object("{}")).unwrap();
        for newer in [Create { v: 1, ..create.clone() }, Create { derivation: 1, ..create }] {
            assert!(matches!(newer.value(), Err(DocumentError::Newer { .. })));
        }
        for bad in ["[]", "", "{}x", "{\"a\":NaN}", "\"{}\"", "\u{feff}{}"] {
            let create =
                Create { v: 0, derivation: 0, json: bad.into(), from: None, redacted: None };
            assert!(matches!(create.value(), Err(DocumentError::NotAnObject(_))), "{bad}");
        }
        let json = br#"{"$trash":1}"#.to_vec();
        let create = Create { v: 0, derivation: 0, json, from: None, redacted: None };
        assert_eq!(create.value(), Err(DocumentError::Reserved));
        assert!(Change { v: 0, derivation: 7, changes: vec![] }.changes().is_err());
    }
}
