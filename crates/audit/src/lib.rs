//! Verifies a receipt export with public keys alone.
