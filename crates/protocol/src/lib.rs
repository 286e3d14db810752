//! Sans-IO sync sessions: frames in, frames out.
