//! Device keys, HPKE sealing, key schedule, signatures and zeroizing secrets.
