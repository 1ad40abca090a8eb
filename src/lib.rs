//! huecry: a federated peer-to-peer node for sharing cyber-threat indicators.

pub mod cbor;
pub mod charter;
pub mod cli;
pub mod clock;
pub mod config;
pub mod envelope;
pub mod exchange;
pub mod http;
pub mod intake;
pub mod ledger;
pub mod node;
pub mod policy;
pub mod publish;
pub mod query;
pub mod record;
pub mod replica;
