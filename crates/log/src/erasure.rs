//! Acts of erasure: what is to go from every device, shown section by section to be what it is said
//! to be, and what a device says to have erased.

use larder_types::limits::{ERASE_SECTIONS_MAX, ERASED_ACTS_MAX};
use larder_types::{DeviceId, EntryHash, Hash, ObjectId, canonical};

use crate::act::check_version;
use crate::error::VoidReason;
use crate::metadata::{DisclosedField, Disclosure, Field, Opened, kind};
use crate::section::{Class, SectionCommitment};

/// Erases an object: it is deleted over all generations, and the sections that are listed lose
/// their bytes on every device.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct EraseAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// The object, by the id under which it was created.
    #[n(1)]
    pub object: ObjectId,
    /// In order of device, entry and index, each once; at most [`ERASE_SECTIONS_MAX`].
    #[n(2)]
    pub listed: Vec<Listed>,
    /// The object that has what is left of it, if it was redacted.
    #[n(3)]
    pub instead: Option<ObjectId>,
}

/// A section that is to go, with what shows to everybody that it is of the object, or a manifest:
/// who lists another one comes to nothing, also before those who cannot open it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Listed {
    /// Whose log it stands in.
    #[n(0)]
    pub device: DeviceId,
    /// In which entry.
    #[n(1)]
    pub seq: u64,
    /// The section's index there.
    #[n(2)]
    pub index: u32,
    /// What is shown of it.
    #[n(3)]
    pub shown: Shown,
    /// The salt of the field that is shown.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub salt: [u8; 32],
    /// The commitments of the other fields, in order.
    #[n(5)]
    pub others: [Hash; 8],
}

/// What a section that is to go is shown to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Shown {
    /// Of the object: its field `object` says so.
    #[n(3)]
    Object,
    /// A blob's manifest: its field `kind` says so. It goes where no live document names the blob.
    #[n(1)]
    Manifest,
}

impl Shown {
    const fn field(self) -> Field {
        match self {
            Self::Object => Field::Object,
            Self::Manifest => Field::Kind,
        }
    }

    fn value(self, object: &ObjectId) -> Vec<u8> {
        match self {
            Self::Object => canonical::encode(&Some(*object)),
            Self::Manifest => canonical::encode(&kind::BLOB),
        }
    }
}

impl Listed {
    /// Lists an opened section: as a manifest if it is one, else as its object's. `None`: it is
    /// neither.
    pub fn new(device: DeviceId, seq: u64, index: u32, opened: &Opened) -> Option<Self> {
        let metadata = &opened.metadata;
        let shown = match metadata.object {
            Some(_) => Shown::Object,
            None if metadata.kind == kind::BLOB => Shown::Manifest,
            None => return None,
        };
        let mut salt = None;
        let mut others = Vec::with_capacity(8);
        for field in opened.disclose(&[shown.field()], false).fields {
            match field {
                DisclosedField::Shown { salt: shown, .. } => salt = Some(shown),
                DisclosedField::Hidden(hash) => others.push(hash),
            }
        }
        let others = others.try_into().ok()?;
        Some(Self { device, seq, index, shown, salt: salt?, others })
    }

    /// Whether the section with this commitment is what it is said to be.
    pub fn is_shown(&self, object: &ObjectId, commitment: &SectionCommitment) -> bool {
        let mut others = self.others.iter();
        let fields = Field::ALL.map(|field| {
            if field == self.shown.field() {
                let value = self.shown.value(object);
                return DisclosedField::Shown { salt: self.salt, value };
            }
            // As many as there are other fields.
            DisclosedField::Hidden(others.next().copied().unwrap_or(Hash::new([0; 32])))
        });
        commitment.class == Class::Data as u8
            && Disclosure { fields, body: None }.verify(commitment).is_ok()
    }

    fn place(&self) -> (DeviceId, u64, u32) {
        (self.device, self.seq, self.index)
    }
}

impl EraseAct {
    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check_version(self.v)?;
        if self.listed.len() > ERASE_SECTIONS_MAX {
            return Err(VoidReason::Malformed(format!("it lists {} sections", self.listed.len())));
        }
        if self.instead == Some(self.object) {
            return Err(VoidReason::Malformed("it is said to be its own successor".to_owned()));
        }
        in_order(self.listed.is_sorted_by(|a, b| a.place() < b.place()))
    }
}

/// An act of erasure, by the entry that holds it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(array)]
pub struct Erasure {
    /// The entry.
    #[n(0)]
    pub entry: EntryHash,
    /// The section's index there.
    #[n(1)]
    pub index: u32,
}

/// A device's word that nothing of what these acts erase is on its disk any more.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct ErasedAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// In order, each once; at most [`ERASED_ACTS_MAX`].
    #[n(1)]
    pub done: Vec<Erasure>,
}

impl ErasedAct {
    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check_version(self.v)?;
        if self.done.len() > ERASED_ACTS_MAX {
            return Err(VoidReason::Malformed(format!("it names {} acts", self.done.len())));
        }
        in_order(self.done.is_sorted_by(|a, b| a < b))
    }
}

fn in_order(is_in_order: bool) -> Result<(), VoidReason> {
    if is_in_order {
        Ok(())
    } else {
        Err(VoidReason::Malformed("what it names is not in order, each once".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use larder_types::{Clock, Timestamp};

    use super::*;
    use crate::act::Act;
    use crate::metadata::Metadata;

    fn opened(kind: u16, object: Option<ObjectId>) -> Opened {
        let clock = Clock { wall: Timestamp(1), count: 0 };
        let (collection, generation, actor, correlation) = (None, None, None, None);
        let metadata = Metadata {
            kind,
            collection,
            object,
            generation,
            actor,
            correlation,
            clock,
            personal: None,
        };
        Opened { meta_salt: [7; 16], metadata, body: b"a letter".to_vec() }
    }

    fn commitment(opened: &Opened, class: Class) -> SectionCommitment {
        SectionCommitment {
            class: class as u8,
            masked_band: 0,
            meta: opened.meta_commitment(),
            sealed: Hash::new([1; 32]),
            len: 1,
            key_salt: [0; 16],
        }
    }

    const DEVICE: DeviceId = DeviceId::new([2; 32]);

    #[test]
    fn a_section_is_shown_to_be_of_its_object_and_of_no_other() {
        let (object, other) = (ObjectId::new([3; 16]), ObjectId::new([4; 16]));
        let of_object = opened(kind::DOCUMENT_CHANGE, Some(object));
        let listed = Listed::new(DEVICE, 1, 0, &of_object).unwrap();
        let right = commitment(&of_object, Class::Data);
        assert!(listed.is_shown(&object, &right));
        assert!(!listed.is_shown(&other, &right));
        assert!(!listed.is_shown(&object, &commitment(&of_object, Class::Control)));
        // Another section of the same object does not go with it, nor one of another object.
        let mut another = of_object.clone();
        another.meta_salt = [8; 16];
        assert!(!listed.is_shown(&object, &commitment(&another, Class::Data)));
        let foreign = opened(kind::DOCUMENT_CHANGE, Some(other));
        assert!(!listed.is_shown(&object, &commitment(&foreign, Class::Data)));
        // Said to be a manifest it is shown to be none.
        let manifest = Listed { shown: Shown::Manifest, ..listed.clone() };
        assert!(!manifest.is_shown(&object, &right));
        let mut forged = listed.clone();
        forged.salt[0] ^= 1;
        assert!(!forged.is_shown(&object, &right));
    }

    #[test]
    fn a_manifest_is_shown_to_be_one() {
        let manifest = opened(kind::BLOB, None);
        let listed = Listed::new(DEVICE, 1, 0, &manifest).unwrap();
        let object = ObjectId::new([3; 16]);
        assert_eq!(listed.shown, Shown::Manifest);
        assert!(listed.is_shown(&object, &commitment(&manifest, Class::Data)));
        let other = opened(kind::DOCUMENT_CREATE, None);
        assert!(!listed.is_shown(&object, &commitment(&other, Class::Data)));
        assert!(Listed::new(DEVICE, 1, 0, &other).is_none());
    }

    #[test]
    fn acts_of_erasure_are_read_as_they_were_written_and_void_in_any_other_form() {
        let object = ObjectId::new([3; 16]);
        let of_object = opened(kind::DOCUMENT_CREATE, Some(object));
        let listed = |seq| Listed::new(DEVICE, seq, 0, &of_object).unwrap();
        let act = |listed| EraseAct { v: 0, object, listed, instead: None };
        let read = |act: EraseAct| Act::from_body(kind::ERASE, &canonical::encode(&act));
        let whole = act(vec![listed(1), listed(2)]);
        assert_eq!(read(whole.clone()), Ok(Some(Act::Erase(whole.clone()))));
        assert!(read(act(Vec::new())).is_ok());
        assert!(read(act(vec![listed(2), listed(1)])).is_err());
        assert!(read(act(vec![listed(1), listed(1)])).is_err());
        assert!(read(EraseAct { v: 1, ..whole.clone() }).is_err());
        let instead = Some(ObjectId::new([4; 16]));
        let redaction = EraseAct { instead, ..whole.clone() };
        assert_eq!(read(redaction.clone()), Ok(Some(Act::Erase(redaction))));
        assert!(read(EraseAct { instead: Some(object), ..whole }).is_err());
        // As many as may be are no larger than an act, at the largest numbers.
        let last = |n: usize| {
            let seq = u64::MAX - u64::try_from(ERASE_SECTIONS_MAX - n).unwrap();
            Listed { index: u32::MAX, ..listed(seq) }
        };
        let most: Vec<_> = (0..ERASE_SECTIONS_MAX).map(last).collect();
        assert!(read(EraseAct { instead, ..act(most.clone()) }).is_ok());
        let more = [vec![listed(1)], most].concat();
        assert!(read(act(more)).is_err());

        let erasure = |n| Erasure { entry: EntryHash::new([n; 32]), index: u32::MAX };
        let report = |done| ErasedAct { v: 0, done };
        let read = |act: ErasedAct| Act::from_body(kind::ERASED, &canonical::encode(&act));
        assert!(read(report(vec![erasure(1), erasure(2)])).is_ok());
        assert!(read(report(vec![erasure(2), erasure(1)])).is_err());
        let numbered = |n: usize| {
            let mut hash = [255; 32];
            hash[..8].copy_from_slice(&u64::try_from(n).unwrap().to_be_bytes());
            Erasure { entry: EntryHash::new(hash), index: u32::MAX }
        };
        assert!(read(report((0..ERASED_ACTS_MAX).map(numbered).collect())).is_ok());
        assert!(read(report((0..=ERASED_ACTS_MAX).map(numbered).collect())).is_err());
    }
}
