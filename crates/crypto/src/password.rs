//! Keys from passwords: Argon2id (RFC 9106).

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::Secret;
use crate::error::PasswordError;

/// What deriving a key costs. Recorded beside the salt, and bounded when read back: a record that
/// was tampered with must neither make the derivation cheap nor take all memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Argon2Params {
    /// Memory, in KiB: from [`Self::MEMORY_KIB_MIN`] to [`Self::MEMORY_KIB_MAX`].
    #[n(0)]
    pub memory_kib: u32,
    /// Passes over the memory: 1 to [`Self::PASSES_MAX`].
    #[n(1)]
    pub passes: u32,
    /// Lanes: 1 to [`Self::LANES_MAX`].
    #[n(2)]
    pub lanes: u32,
}

impl Argon2Params {
    /// Least memory accepted, for every lane: what RFC 9106 allows at least.
    pub const MEMORY_KIB_MIN: u32 = 8;
    /// Most memory accepted: 1 GiB.
    pub const MEMORY_KIB_MAX: u32 = 1 << 20;
    /// Most passes accepted.
    pub const PASSES_MAX: u32 = 64;
    /// Most lanes accepted.
    pub const LANES_MAX: u32 = 16;

    /// Whether the values are within bounds.
    ///
    /// # Errors
    /// [`PasswordError::Params`].
    pub fn check(&self) -> Result<(), PasswordError> {
        let lanes_fit = (1..=Self::LANES_MAX).contains(&self.lanes);
        let memory_fits = lanes_fit
            && (Self::MEMORY_KIB_MIN * self.lanes..=Self::MEMORY_KIB_MAX)
                .contains(&self.memory_kib);
        if memory_fits && (1..=Self::PASSES_MAX).contains(&self.passes) {
            Ok(())
        } else {
            let Self { memory_kib, passes, lanes } = *self;
            Err(PasswordError::Params { memory_kib, passes, lanes })
        }
    }
}

impl Default for Argon2Params {
    /// 64 MiB, 3 passes, 1 lane: RFC 9106's second recommended option, in one lane.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

/// 32 bytes from `password`. Takes the memory and time that `params` say.
///
/// # Errors
/// [`PasswordError`].
pub fn derive(
    password: &[u8],
    salt: &[u8; 16],
    params: &Argon2Params,
) -> Result<Secret<32>, PasswordError> {
    params.check()?;
    let failed = |e: argon2::Error| PasswordError::Derivation(e.to_string());
    let cost =
        Params::new(params.memory_kib, params.passes, params.lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cost)
        .hash_password_into(password, salt, &mut *key)
        .map_err(failed)?;
    Ok(Secret::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_password_salt_and_cost() {
        let params = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };
        let key = |password: &[u8], salt, params| {
            *derive(password, &[salt; 16], &params).unwrap().expose()
        };
        let first = key(b"correct horse", 0, params);
        assert_eq!(key(b"correct horse", 0, params), first);
        assert_ne!(key(b"Correct horse", 0, params), first);
        assert_ne!(key(b"correct horse", 1, params), first);
        assert_ne!(key(b"correct horse", 0, Argon2Params { passes: 2, ..params }), first);
    }

    #[test]
    fn absurd_costs_are_refused_before_anything_is_allocated() {
        let good = Argon2Params::default();
        assert!(good.check().is_ok());
        for bad in [
            Argon2Params { memory_kib: u32::MAX, ..good },
            Argon2Params { memory_kib: 0, ..good },
            Argon2Params { memory_kib: 31, lanes: 4, ..good },
            Argon2Params { passes: 0, ..good },
            Argon2Params { passes: u32::MAX, ..good },
            Argon2Params { lanes: 0, ..good },
            Argon2Params { lanes: u32::MAX, ..good },
        ] {
            assert!(matches!(derive(b"p", &[0; 16], &bad), Err(PasswordError::Params { .. })));
        }
    }
}
