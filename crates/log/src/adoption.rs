//! Acts about single sections of others. Of adoption: who may write takes over what another device
//! wrote where that device might not, because own edits build on it. And of what nobody has.

use larder_types::limits::ADOPTED_SECTIONS_MAX;
use larder_types::{DeviceId, EntryHash};

use crate::act::check_version;
use crate::error::VoidReason;

/// Makes sections count that stand where their author may not write.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct AdoptionAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// In order, each once; at most [`ADOPTED_SECTIONS_MAX`].
    #[n(1)]
    pub adopted: Vec<Adopted>,
}

/// A section that is adopted, or lacked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(array)]
pub struct Adopted {
    /// Whose log it stands in.
    #[n(0)]
    pub device: DeviceId,
    /// In which entry.
    #[n(1)]
    pub seq: u64,
    /// The section's index there.
    #[n(2)]
    pub index: u32,
    /// The entry: the log may have another one there.
    #[n(3)]
    pub entry: EntryHash,
}

/// Says of sections of others' entries, which its author holds, that it has no bytes of them, nor a
/// snapshot's leaf: what nobody has who might is waited for no more. Or, of such as it said that
/// of, that it has found them. Of what a device says of a section the last in its log counts.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct LackAct {
    /// [`crate::VERSION`].
    #[n(0)]
    pub v: u8,
    /// In order, each once; at most [`ADOPTED_SECTIONS_MAX`].
    #[n(1)]
    pub lacked: Vec<Adopted>,
    /// They were found; left out otherwise.
    #[n(2)]
    pub found: Option<bool>,
}

impl AdoptionAct {
    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        check(self.v, &self.adopted)
    }
}

impl LackAct {
    pub(crate) fn check(&self) -> Result<(), VoidReason> {
        if self.found == Some(false) {
            return Err(VoidReason::Malformed("what is lacked is not said to be found".into()));
        }
        check(self.v, &self.lacked)
    }
}

fn check(v: u8, named: &[Adopted]) -> Result<(), VoidReason> {
    check_version(v)?;
    if named.len() > ADOPTED_SECTIONS_MAX {
        return Err(VoidReason::Malformed(format!("it names {} sections", named.len())));
    }
    if !named.is_sorted_by(|a, b| a < b) {
        let message = "the sections that it names are not in order, each once".to_owned();
        return Err(VoidReason::Malformed(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use larder_types::canonical;

    use super::*;
    use crate::act::Act;
    use crate::kind;

    #[test]
    fn what_is_adopted_is_in_order_and_bounded() {
        let of = |seq| Adopted {
            device: DeviceId::new([1; 32]),
            seq,
            index: 0,
            entry: EntryHash::new([2; 32]),
        };
        let read = |adopted: Vec<Adopted>, v| {
            Act::from_body(kind::ADOPTION, &canonical::encode(&AdoptionAct { v, adopted }))
        };
        let most: Vec<_> = (0..).take(ADOPTED_SECTIONS_MAX).map(of).collect();
        let act = AdoptionAct { v: 0, adopted: most.clone() };
        assert_eq!(read(most.clone(), 0), Ok(Some(Act::Adoption(act))));
        assert!(read(most, 1).is_err());
        assert!(read((0..).take(ADOPTED_SECTIONS_MAX + 1).map(of).collect(), 0).is_err());
        assert!(read(vec![of(2), of(1)], 0).is_err());
        assert!(read(vec![of(1), of(1)], 0).is_err());
        for (found, is_one) in [(None, true), (Some(true), true), (Some(false), false)] {
            let act = LackAct { v: 0, lacked: vec![of(1)], found };
            let read = Act::from_body(kind::LACK, &canonical::encode(&act));
            assert_eq!(read.ok(), is_one.then_some(Some(Act::Lack(act))));
        }
    }
}
