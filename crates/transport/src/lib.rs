//! Authenticated framed streams over QUIC.
