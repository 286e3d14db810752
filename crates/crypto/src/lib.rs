//! Device keys, HPKE sealing, signatures, password hashing and zeroizing secrets.
//!
//! Invariants: nothing here draws randomness ([`larder_types::Entropy`] is handed in); secrets
//! zeroize on drop, print as redacted and can be neither compared nor serialised; every algorithm
//! is one that a standard fixes, and is held to that standard's vectors in `tests/`.

pub mod aead;
pub mod kdf;
mod secret;

pub use secret::Secret;
