//! `huecry manual`, `man`, `completions`, `openapi`: what is written about the command, out of the binary itself.

use super::{Context, Failure};
use crate::record::UnknownName;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

/// The pages of the manual, as they stand in `docs/manual`.
const PAGES: [(&str, &str); 7] = [
    ("membership", include_str!("../../docs/manual/membership.md")),
    ("policy", include_str!("../../docs/manual/policy.md")),
    ("travel", include_str!("../../docs/manual/travel.md")),
    ("ledger", include_str!("../../docs/manual/ledger.md")),
    ("formats", include_str!("../../docs/manual/formats.md")),
    ("window", include_str!("../../docs/manual/window.md")),
    ("lost-root-key", include_str!("../../docs/manual/lost-root-key.md")),
];

/// Read the manual: without a name, which pages there are.
#[derive(clap::Args)]
pub struct ManualArguments {
    page: Option<String>,
}

pub(super) fn manual(context: &Context, arguments: &ManualArguments) -> Result<(), Failure> {
    let Some(name) = &arguments.page else {
        for (name, text) in PAGES {
            let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
            context.screen.line(&format!("{name:<14}  {title}"));
        }
        context.screen.note("huecry manual PAGE shows one");
        return Ok(());
    };
    let page = PAGES.iter().find(|(known, _)| known == name);
    let (_, text) = page.ok_or_else(|| Failure::usage(UnknownName::new("page", name, PAGES.iter().map(|(name, _)| *name))))?;
    text.lines().for_each(|line| context.screen.line(line));
    Ok(())
}

/// Write the pages for man(1) into a directory: one for the command, one for each verb.
#[derive(clap::Args)]
pub struct ManArguments {
    directory: PathBuf,
}

pub(super) fn man(context: &Context, arguments: &ManArguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let failed = |error: std::io::Error| Failure::environment(format!("{}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(super::Arguments::command(), directory).map_err(failed)?;
    context.screen.line(&format!("{}: {} pages", directory.display(), count(directory)));
    Ok(())
}

fn count(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, |entries| entries.flatten().filter(|entry| entry.path().extension().is_some()).count())
}

/// Write what a shell reads to complete words of the command: bash, zsh, fish, elvish, powershell.
#[derive(clap::Args)]
pub struct CompletionsArguments {
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "huecry", &mut text);
    // A script for a program: as it is.
    std::io::stdout().lock().write_all(&text).map_err(Failure::environment)
}

/// Write the description of the node's HTTP interface for programs, in the form of OpenAPI 3.1. A running node serves the same at
/// `/v1/openapi.json`.
#[derive(clap::Args)]
pub struct OpenapiArguments {}

pub(super) fn openapi(_: &OpenapiArguments) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(&crate::http::openapi()).map_err(Failure::environment)?;
    text.push('\n');
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_the_manual_is_in_the_binary() {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual");
        let written: std::collections::BTreeSet<String> = std::fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(written, PAGES.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn every_verb_has_a_page_for_man_and_every_shell_its_words() {
        let place = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(super::super::Arguments::command(), place.path()).unwrap();
        let page = std::fs::read_to_string(place.path().join("huecry-query.1")).unwrap();
        assert!(page.contains("newest") && count(place.path()) > 40);
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut super::super::Arguments::command(), "huecry", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("unblock"), "{shell}");
        }
    }
}
