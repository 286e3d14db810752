use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)*) => {
        /// Why a connection or a session ended, as both sides name it (`docs/format/wire.md`).
        ///
        /// On the wire an integer. One that this version does not know is kept as
        /// [`CloseCode::Unknown`], so that a newer peer can say more.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[doc = $doc])+ $name,)*
            /// A code of a newer version.
            Unknown(u16),
        }

        impl CloseCode {
            /// Every code this version knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The integer on the wire.
            pub const fn to_wire(self) -> u16 {
                match self {
                    $(Self::$name => $value,)*
                    Self::Unknown(value) => value,
                }
            }

            /// Reads the integer on the wire.
            pub const fn from_wire(value: u16) -> Self {
                match value {
                    $($value => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl fmt::Display for CloseCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Unknown(value) => write!(f, "code {value} of a newer version"),
                }
            }
        }
    };
}

codes! {
    /// Finished; nothing was wrong.
    Done = 0, "done";
    /// The device shuts down or locks its profile.
    ShuttingDown = 1, "that device is shutting down";
    /// No room for one more connection or session.
    Busy = 2, "that device is busy";
    /// Nothing was said for too long.
    TimedOut = 3, "timed out";
    /// The peer's transport key is not known here.
    UnknownKey = 16, "key not known";
    /// No version of the protocol in common.
    NoCommonVersion = 17, "no protocol version in common";
    /// A frame that does not decode.
    Malformed = 18, "malformed frame";
    /// A frame that has no place here.
    Unexpected = 19, "unexpected frame";
    /// Beyond a limit.
    LimitExceeded = 20, "limit exceeded";
    /// A batch that does not follow what its sender knew to be held.
    Gap = 21, "batch does not follow the log";
    /// A batch whose tree, signature, commitments or authority do not hold.
    BadBatch = 22, "batch refused";
    /// An acknowledgement that does not verify, or takes back an earlier one.
    BadAck = 23, "acknowledgement refused";
    /// Two histories of one log.
    Forked = 24, "log forked";
    /// The space is not shared with this peer, or no longer.
    NotShared = 25, "space not shared";
    /// A chunk that has not the digest it was asked by.
    BadChunk = 26, "blob chunk refused";
    /// The device could not read or write its own storage.
    Storage = 32, "that device's storage failed";
    /// A fault of the program.
    Internal = 33, "internal error";
}

impl<C> minicbor::Encode<C> for CloseCode {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.to_wire())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for CloseCode {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Self::from_wire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire_and_unknown_ones_are_kept() {
        for value in 0..=u16::MAX {
            assert_eq!(CloseCode::from_wire(value).to_wire(), value);
        }
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(code.to_wire()), *code);
        }
        assert_eq!(CloseCode::from_wire(999), CloseCode::Unknown(999));
    }
}
