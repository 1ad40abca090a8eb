//! The one layer between values and a terminal, a pipe or a log: nothing hostile gets through as itself.
//!
//! Control characters, C1, and everything that reorders or hides text are shown as `\u{202e}`; a line is one line.

use super::Failure;
use crate::record::acts_on_a_screen;
pub use crate::record::visible;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};

/// Where a verb writes.
pub struct Screen {
    json: bool,
}

impl Screen {
    /// A screen that prints results as JSON, or for people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are wanted as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Prints a result for people; nothing under `--json`.
    pub fn line(&self, text: &str) {
        if !self.json {
            self.put(&visible(text));
        }
    }

    /// Prints a result as one line of JSON, under `--json`.
    pub fn value(&self, value: &impl Serialize) {
        if self.json {
            self.put(&json_line(value));
        }
    }

    fn put(&self, text: &str) {
        // A reader that went away (`| head`) is no error of ours.
        let _reader_gone = writeln!(std::io::stdout(), "{text}");
    }

    /// Prints what is no result: hints, progress, errors.
    pub fn note(&self, text: &str) {
        let _reader_gone = writeln!(std::io::stderr(), "{}", visible(text));
    }

    /// A progress bar over `total` bytes, shown only on a terminal and only after a second.
    pub fn bar(&self, total: u64, what: &str) -> ProgressBar {
        if !std::io::stderr().is_terminal() || self.json {
            return ProgressBar::hidden();
        }
        bar_of("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}", total, what)
    }

    /// A progress bar over steps whose number comes later; the same otherwise.
    pub fn counter(&self, what: &str) -> ProgressBar {
        if !std::io::stderr().is_terminal() || self.json {
            return ProgressBar::hidden();
        }
        bar_of("{msg} [{bar:30}] {percent} % {eta}", 0, what)
    }
}

/// Asks whoever sits there; `unattended` is said where nobody does.
pub fn confirm(question: &str, unattended: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(unattended));
    }
    Ok(matches!(ask(&format!("{question} [y/N] "))?.to_lowercase().as_str(), "y" | "yes"))
}

/// Asks whoever sits at the terminal for a line.
pub fn ask(question: &str) -> Result<String, Failure> {
    let mut screen = std::io::stderr();
    let _no_screen = write!(screen, "{}", visible(question)).and_then(|()| screen.flush());
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer).map_err(Failure::environment)? {
        0 => Err(Failure::usage("no answer was given")),
        _ => Ok(answer.trim().to_owned()),
    }
}

fn bar_of(template: &str, total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(visible(what));
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// One line of JSON in which nothing but printable characters stands as itself.
pub fn json_line(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut units = [0; 2];
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        if acts_on_a_screen(char) {
            char.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(char);
        }
        out
    })
}

/// Whole numbers with spaces between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let with_gap = |(index, digit): (usize, char)| {
        let gap = index > 0 && (digits.len() - index).is_multiple_of(3);
        gap.then_some('\u{a0}').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(with_gap).map(|char| if char == '\u{a0}' { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x_01_x_02_what_acts_on_a_screen_is_shown_instead() {
        let hostile = "a\u{1b}]52;c;x\u{7}\u{8}\u{9b}\u{202e}\u{200b}\u{2066}\nb";
        let shown = visible(hostile);
        assert!(shown.chars().all(|char| !acts_on_a_screen(char)), "{shown}");
        assert_eq!(shown, "a\\u{1b}]52;c;x\\u{7}\\u{8}\\u{9b}\\u{202e}\\u{200b}\\u{2066}\\u{a}b");
        let json = json_line(&hostile);
        assert!(json.chars().all(|char| !acts_on_a_screen(char)), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }

    #[test]
    fn numbers_are_read_in_threes() {
        assert_eq!((grouped(7).as_str(), grouped(1234).as_str(), grouped(1_234_567).as_str()), ("7", "1 234", "1 234 567"));
    }
}
