//! Names: references to records in free text. Whoever writes `vendor/c2#12.3` into a note tells its readers that this record exists.

use super::{Content, ObservableType, Record, RecordRef, Sighted, Source, WireRef};

/// Longest name that is recognised, in bytes, up to its `#`.
const FEED_BYTES_MAX: usize = 256;
/// Longest place behind the `#`: two numbers.
const PLACE_BYTES_MAX: usize = 32;

/// Every record that a text names, in order. Upper case counts as lower case.
pub fn names_in(text: &str) -> Vec<RecordRef> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for at in memchr::memchr_iter(b'#', bytes) {
        let is_feed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_/.:@~+".contains(byte);
        let before = bytes.get(at.saturating_sub(FEED_BYTES_MAX)..at).unwrap_or_default();
        let begin = before.iter().rposition(|byte| !is_feed(byte)).map_or(0, |last| last + 1);
        let feed = before.get(begin..).unwrap_or_default();
        let after = bytes.get(at + 1..bytes.len().min(at + 1 + PLACE_BYTES_MAX)).unwrap_or_default();
        let seq = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if seq == 0 {
            continue;
        }
        let index = after.get(seq + 1..).map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
        let Some(place) = after.get(..seq + 1 + index).and_then(|place| std::str::from_utf8(place).ok()) else { continue };
        // A word may stand before it without a space, as in `see:vendor/c2#12.3`.
        let starts = (0..feed.len()).filter(|start| *start == 0 || feed.get(start - 1).is_some_and(|byte| b"/.:@~+".contains(byte)));
        let named = starts.filter_map(|start| {
            let name = std::str::from_utf8(feed.get(start..)?).ok()?.to_ascii_lowercase();
            format!("{name}#{place}").parse::<RecordRef>().ok()
        });
        found.extend(named);
    }
    found
}

/// Names in a text that comes in pieces.
#[derive(Default)]
pub struct NameScanner {
    rest: String,
}

impl NameScanner {
    /// The names that end in this piece. Bytes that are no UTF-8 separate words.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<RecordRef> {
        self.rest.push_str(&String::from_utf8_lossy(piece));
        let found = names_in(&self.rest);
        let keep = self.rest.len().saturating_sub(FEED_BYTES_MAX + PLACE_BYTES_MAX);
        let keep = (keep..=self.rest.len()).find(|at| self.rest.is_char_boundary(*at)).unwrap_or(0);
        self.rest.drain(..keep);
        found
    }
}

/// The free text of a quoted source. Its external id is an id of another system, and may look like one of our names.
fn of_source(source: Option<&Source>) -> impl Iterator<Item = &str> {
    let fields = source.into_iter().flat_map(|one| [&one.organisation, &one.url]);
    fields.filter_map(Option::as_deref)
}

impl Record {
    /// The records that this one names with their feed, except an indicator's report: a file may mark a report above its indicators, and who may
    /// not read the report is not shown its name. Shorter references stay within a batch, a feed or a member.
    pub fn whole_references(&self) -> impl Iterator<Item = &RecordRef> {
        let report = if let Self::Indicator(indicator) = self { indicator.report.as_ref() } else { None };
        let named = self.references().filter(move |one| report.is_none_or(|report| !std::ptr::eq(*one, report)));
        named.filter_map(|one| if let WireRef::Whole(name) = one { Some(name) } else { None })
    }

    /// Returns true if any free text of the record satisfies `test`: titles, notes, tags, quotes of sources, contents, and values without a
    /// grammar of their own.
    pub fn any_text(&self, mut test: impl FnMut(&str) -> bool) -> bool {
        let mut all = |texts: &mut dyn Iterator<Item = &str>| {
            for text in texts {
                if test(text) {
                    return true;
                }
            }
            false
        };
        match self {
            Self::Report(one) => {
                let lists = [&one.tags, &one.actors, &one.malware, &one.techniques, &one.references].into_iter().flatten();
                let single = [Some(&one.title), one.description.as_ref(), one.caveat.as_ref()].into_iter().flatten();
                all(&mut lists.chain(single).map(String::as_str).chain(of_source(one.source.as_ref())))
            }
            Self::Indicator(one) => {
                let free = matches!(one.value.kind(), ObservableType::Other | ObservableType::Url);
                let value = one.value.text().filter(|_| free);
                let tags = one.tags.iter().map(String::as_str);
                all(&mut tags.chain(value).chain(of_source(one.source.as_ref())))
            }
            Self::Sighting(one) => {
                let value = if let Sighted::Value(value) = &one.of { Some(value.to_string()) } else { None };
                all(&mut one.description.as_deref().into_iter().chain(value.as_deref()))
            }
            Self::Withdrawal(one) => all(&mut one.description.as_deref().into_iter()),
            Self::Renewal(_) => false,
            Self::Question(one) => {
                let value = one.value.as_ref().map(ToString::to_string);
                all(&mut std::iter::once(one.text.as_str()).chain(value.as_deref()))
            }
            Self::Document(one) => {
                let inline = if let Content::Inline(text) = &one.content { Some(text.as_str()) } else { None };
                let single = [Some(one.title.as_str()), one.description.as_deref(), inline].into_iter().flatten();
                all(&mut single.chain(one.tags.iter().map(String::as_str)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<String> {
        names_in(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn x9_a_name_is_found_wherever_it_stands_in_a_text() {
        for text in [
            "some-vendor/leads#12.3",
            "see some-vendor/leads#12.3.",
            "(some-vendor/leads#12.3)",
            "see:some-vendor/leads#12.3",
            "https://portal.example/some-vendor/leads#12.3",
            "Some-Vendor/Leads#12.3",
            "tag=some-vendor/leads#12.3;x",
            "as in \u{201c}some-vendor/leads#12.3\u{201d}",
        ] {
            assert!(found(text).contains(&"some-vendor/leads#12.3".to_owned()), "{text}: {:?}", found(text));
        }
        assert_eq!(found("one a/b#1.0, two c/d#2.1"), ["a/b#1.0", "c/d#2.1"]);
        for text in ["issue #12.3", "C# 12.3", "http://host.example/path#section", "#", "a/b#", "a/b#1", "a/b#1.", "a/b#01.0"] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_searched_without_a_panic_and_in_pieces_as_in_whole(text in ".{0,80}", cut in 1usize..40) {
            let whole = format!("{text} some-vendor/leads#12.3 {text}");
            let mut scanner = NameScanner::default();
            let pieces: Vec<RecordRef> = whole.as_bytes().chunks(cut).flat_map(|piece| scanner.feed(piece)).collect();
            prop_assert!(pieces.iter().any(|one| one.to_string() == "some-vendor/leads#12.3"));
            prop_assert!(names_in(&whole).iter().any(|one| one.to_string() == "some-vendor/leads#12.3"));
        }
    }
}
