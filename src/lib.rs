//! huecry: a federated peer-to-peer node for sharing cyber-threat indicators.

pub mod cbor;
pub mod record;
pub mod envelope;
pub mod charter;
pub mod policy;
pub mod publish;
pub mod intake;
pub mod replica;
pub mod ledger;
pub mod query;
pub mod exchange;
pub mod clock;
pub mod config;
pub mod node;
pub mod http;
pub mod cli;
