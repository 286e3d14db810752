//! JSON documents with an Automerge history behind them from their first edit on.
