//! Deterministic CBOR (RFC 8949 §4.2), decoded strictly.
//!
//! Values are arrays of definite length with shortest-form integers. [`decode`] re-encodes what it
//! read and refuses bytes that differ, so a value has exactly one encoding and a hash of the bytes
//! is a hash of the value. What arrived is kept and forwarded as the exact bytes it was.

use minicbor::{Decode, Encode};

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// More bytes than this kind of value may have.
    #[error("{len} bytes where at most {max} are allowed")]
    TooLong {
        /// How many there were.
        len: usize,
        /// How many may be.
        max: usize,
    },
    /// Not CBOR, or not of this value's shape.
    #[error("malformed: {0}")]
    Malformed(String),
    /// CBOR of the right shape, but not the one canonical encoding, or with bytes behind it.
    #[error("not canonically encoded")]
    NotCanonical,
}

/// The canonical encoding of `value`.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail, and no Encode of ours returns an error of its own.
    let done = minicbor::encode(value, &mut bytes);
    debug_assert!(done.is_ok(), "encoding into memory failed");
    bytes
}

/// Reads one value that takes up all of `bytes`, which are at most `bytes_max` long.
///
/// # Errors
/// [`DecodeError`]; nothing larger than the input is allocated before it is known to be there.
pub fn decode<'b, T: Decode<'b, ()> + Encode<()>>(
    bytes: &'b [u8],
    bytes_max: usize,
) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::TooLong { len: bytes.len(), max: bytes_max });
    }
    let value = minicbor::decode(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))?;
    if encode(&value) == bytes { Ok(value) } else { Err(DecodeError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    #[cbor(array)]
    struct Sample {
        #[n(0)]
        number: u64,
        #[cbor(n(1), with = "minicbor::bytes")]
        bytes: Vec<u8>,
        #[n(2)]
        list: Vec<(u32, String)>,
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(number: u64, bytes: Vec<u8>, list: Vec<(u32, String)>) {
            let sample = Sample { number, bytes, list };
            let encoded = encode(&sample);
            prop_assert_eq!(decode::<Sample>(&encoded, encoded.len()).unwrap(), sample);
            prop_assert!(decode::<Sample>(&encoded, encoded.len() - 1).is_err());
        }

        #[test]
        fn what_decodes_is_canonical(bytes: Vec<u8>) {
            if let Ok(sample) = decode::<Sample>(&bytes, 1 << 16) {
                prop_assert_eq!(encode(&sample), bytes);
            }
        }
    }

    #[test]
    fn overlong_integers_trailing_bytes_and_indefinite_lengths_are_refused() {
        assert!(decode::<u64>(&[0x01], 8).is_ok());
        assert_eq!(decode::<u64>(&[0x18, 0x01], 8), Err(DecodeError::NotCanonical));
        assert_eq!(decode::<u64>(&[0x01, 0x00], 8), Err(DecodeError::NotCanonical));
        assert!(decode::<Vec<u64>>(&[0x9f, 0x01, 0xff], 8).is_err());
    }

    #[test]
    fn a_length_far_beyond_the_input_allocates_nothing() {
        let claims_4_gib = [0x9b, 0, 0, 0, 1, 0, 0, 0, 0];
        assert!(decode::<Vec<u64>>(&claims_4_gib, 64).is_err());
    }
}
