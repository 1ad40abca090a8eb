//! `huecry key`: keys as files, anywhere.

use super::{Context, Failure};
use crate::{
    envelope::SecretKey,
    http::sign_decision,
    node::keys::{self, Passphrase, Passphrases, Purpose},
    record::Timestamp,
};
use serde_json::json;
use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Longest share file, in bytes.
const SHARE_BYTES_MAX: u64 = 4096;

/// Make keys, seal them with a passphrase, split them into shares for safes, and put them together again.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a key: steward, operator, root, node, publishing or freshness.
    New {
        purpose: String,
        /// Where to write it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        seal: SealArguments,
    },
    /// Show what a key file is for, and its public half.
    Show { file: PathBuf },
    /// Seal a key with a (new) passphrase, or leave it open.
    Passphrase {
        file: PathBuf,
        #[command(flatten)]
        seal: SealArguments,
    },
    /// Split a key into share files, for different safes.
    Backup {
        file: PathBuf,
        /// How many shares are needed, of how many: 2/3.
        #[arg(long, value_name = "NEEDED/ALL")]
        shares: String,
        /// The directory for the share files.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Put a key together from its shares.
    Restore {
        #[arg(required = true)]
        shares: Vec<PathBuf>,
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        seal: SealArguments,
    },
}

#[derive(clap::Args)]
struct SealArguments {
    /// Take the new passphrase from this file; a terminal is asked unless said.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl SealArguments {
    fn passphrase(&self) -> Result<Option<Passphrase>, Failure> {
        match &self.passphrase_file {
            Some(path) => Passphrase::of_file(path).map(Some).map_err(Failure::environment),
            None if std::io::stdin().is_terminal() => Passphrase::choose().map_err(Failure::environment),
            None => Ok(None),
        }
    }
}

/// Signs a decision that takes two operators, by the operator key of a file. Answers the signature in hexadecimal.
pub(super) fn signed_decision(context: &Context, path: &Path, decision: &str, now: Timestamp) -> Result<String, Failure> {
    let key = read(path, Purpose::Operator)?;
    let roster = super::charter::roster(context)?.roster().map_err(Failure::environment)?;
    Ok(hex::encode(sign_decision(&key, &roster.federation(), decision, now)))
}

pub(super) fn read(path: &Path, purpose: Purpose) -> Result<SecretKey, Failure> {
    keys::read(path, purpose, &Passphrases::default()).map_err(Failure::environment)
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let screen = &context.screen;
    match arguments.verb {
        Verb::New { purpose, out, seal } => {
            let purpose: Purpose = purpose.parse().map_err(Failure::usage)?;
            let key = keys::create(&out, purpose, seal.passphrase()?.as_ref()).map_err(Failure::environment)?;
            shown(context, &out, purpose, &key.public());
        }
        Verb::Show { file } => {
            let purpose = keys::purpose_of(&file).map_err(Failure::environment)?;
            shown(context, &file, purpose, &keys::public(&file, purpose).map_err(Failure::environment)?);
        }
        Verb::Passphrase { file, seal } => {
            let purpose = keys::purpose_of(&file).map_err(Failure::environment)?;
            let key = read(&file, purpose)?;
            let aside = file.with_extension("new");
            keys::write(&aside, purpose, &key, seal.passphrase()?.as_ref()).map_err(Failure::environment)?;
            std::fs::rename(&aside, &file).map_err(|error| Failure::environment(format!("{}: {error}", file.display())))?;
            screen.line(&format!("{} is written anew", file.display()));
        }
        Verb::Backup { file, shares, out } => {
            let wrong = || Failure::usage(format!("`{shares}` is not NEEDED/ALL, such as 2/3"));
            let (needed, all) = shares.split_once('/').ok_or_else(wrong)?;
            let (needed, all) = (needed.parse().map_err(|_| wrong())?, all.parse().map_err(|_| wrong())?);
            let purpose = keys::purpose_of(&file).map_err(Failure::environment)?;
            let texts = keys::split(&read(&file, purpose)?, purpose, needed, all).map_err(Failure::usage)?;
            let mut written = Vec::new();
            for (number, text) in (1..).zip(&texts) {
                let path = out.join(format!("{purpose}.share-{number}-of-{all}"));
                let failed = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
                let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
                screen.line(&format!("wrote {}", path.display()));
                written.push(path);
            }
            screen.value(&json!({ "shares": written, "needed": needed }));
            screen.note(&format!(
                "any {needed} of them give the key back, one alone tells nothing: print them, keep them apart, delete the files"
            ));
        }
        Verb::Restore { shares, out, seal } => {
            let text = |path: &PathBuf| {
                let failed = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
                let mut text = Zeroizing::new(String::new());
                std::fs::File::open(path).map_err(failed)?.take(SHARE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
                Ok(text)
            };
            let texts: Vec<Zeroizing<String>> = shares.iter().map(text).collect::<Result<_, Failure>>()?;
            let (purpose, key) = keys::join(&texts).map_err(Failure::usage)?;
            keys::write(&out, purpose, &key, seal.passphrase()?.as_ref()).map_err(Failure::environment)?;
            shown(context, &out, purpose, &key.public());
        }
    }
    Ok(())
}

fn shown(context: &Context, path: &Path, purpose: Purpose, public: &crate::envelope::PublicKey) {
    let key = hex::encode(public.to_bytes());
    context.screen.line(&format!("{}: a {purpose} key, public half {key}", path.display()));
    context.screen.value(&json!({ "file": path, "purpose": purpose.to_string(), "public": key, "id": public.id().to_string() }));
}
