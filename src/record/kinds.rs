//! The kinds of record, and the one map of keys that they share.
//!
//! ```text
//! bytes -check-> spelled right -kind-> Record | Newer (kept, passed on, judged after an upgrade) | RecordError
//! ```
//!
//! A key means the same in every kind; `docs/wire.cddl` is the table. Bounds are those of `threats.md` section 5 rule 4.

use super::{Observable, ObservableError, ObservableType, Reason, Role, Scope, SightingKind, Timestamp, Use, WireRef, WireValue};
use crate::cbor::{self, CborError, EXTENSION_KEY_MIN, fixed_bytes, int_map, uint_enum};

/// Longest record, in bytes: room for a document's 8 KiB and its description, 16 of them short of a frame.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Longest text field, in bytes.
pub const TEXT_BYTES_MAX: usize = 2_048;
/// Longest text of a document that travels inside its record, in bytes; longer ones travel by hash.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024;
/// Longest tag, actor, malware or technique name, in bytes; the longest MISP galaxy tag is under 200.
pub const WORD_BYTES_MAX: usize = 256;
/// Most entries in any list of a record.
pub const LIST_MAX: usize = 256;
/// Most bytes that extension keys may take in a record.
pub const EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Largest document fetched by its hash, in bytes: a forensic report with pictures.
pub const DOCUMENT_LENGTH_MAX: u64 = 256 * 1024 * 1024;

uint_enum! {
    /// What kind of statement a record makes.
    pub enum Kind("record kind") {
        Report = 1 "report",
        Indicator = 2 "indicator",
        Sighting = 3 "sighting",
        Withdrawal = 4 "withdrawal",
        Renewal = 5 "renewal",
        Question = 6 "question",
        Document = 7 "document",
    }
}

fixed_bytes! {
    /// Root of the Merkle tree over the chunks of a document's content (`envelope::ContentTree`).
    pub struct ContentHash [32]
}

int_map! {
    /// Whose finding it is: members that quote one source corroborate nothing.
    pub struct Source {
        opt 0 organisation: String,
        opt 1 url: String,
        opt 2 external_id: String,
    }
}

int_map! {
    /// What analysts publish together; indicators name it and inherit its defaults.
    pub struct Report {
        req 0 kind: Kind,
        opt 4 role: Role,
        opt 5 usage: Use,
        opt 6 confidence: u8,
        opt 7 valid_from: Timestamp,
        opt 8 valid_until: Timestamp,
        many 9 tags: String,
        req 12 title: String,
        opt 13 description: String,
        opt 14 language: String,
        many 15 actors: String,
        many 16 malware: String,
        many 17 techniques: String,
        many 18 references: String,
        opt 19 source: Source,
        opt 20 caveat: String,
        opt 28 replaces: WireRef,
    }
}

impl Report {
    /// A report that says nothing but its title.
    pub fn titled(title: String) -> Self {
        Self {
            kind: Kind::Report,
            role: None,
            usage: None,
            confidence: None,
            valid_from: None,
            valid_until: None,
            tags: Vec::new(),
            title,
            description: None,
            language: None,
            actors: Vec::new(),
            malware: Vec::new(),
            techniques: Vec::new(),
            references: Vec::new(),
            source: None,
            caveat: None,
            replaces: None,
        }
    }
}

int_map! {
    /// An indicator as it travels; [`Indicator`] is what we work with.
    struct WireIndicator {
        req 0 kind: Kind,
        req 1 value_type: ObservableType,
        req 2 value: WireValue,
        opt 3 report: WireRef,
        opt 4 role: Role,
        opt 5 usage: Use,
        opt 6 confidence: u8,
        opt 7 valid_from: Timestamp,
        opt 8 valid_until: Timestamp,
        many 9 tags: String,
        opt 10 scope: Scope,
        opt 11 other: String,
        opt 19 source: Source,
        opt 28 replaces: WireRef,
    }
}

/// A claim about a value. What it leaves open it inherits from its report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indicator {
    pub value: Observable,
    /// For domains: `Exact` unless said otherwise. No other type has a scope.
    pub scope: Option<Scope>,
    pub report: Option<WireRef>,
    pub role: Option<Role>,
    pub usage: Option<Use>,
    /// 0-100.
    pub confidence: Option<u8>,
    pub valid_from: Option<Timestamp>,
    pub valid_until: Option<Timestamp>,
    pub tags: Vec<String>,
    pub source: Option<Source>,
    pub replaces: Option<WireRef>,
}

impl Indicator {
    /// A bare claim about `value`: everything else is inherited or unknown.
    pub fn of(value: Observable, report: Option<WireRef>) -> Self {
        Self {
            value,
            scope: None,
            report,
            role: None,
            usage: None,
            confidence: None,
            valid_from: None,
            valid_until: None,
            tags: Vec::new(),
            source: None,
            replaces: None,
        }
    }
}

int_map! {
    struct WireSighting {
        req 0 kind: Kind,
        opt 1 value_type: ObservableType,
        opt 2 value: WireValue,
        opt 7 from: Timestamp,
        opt 8 until: Timestamp,
        opt 11 other: String,
        opt 13 description: String,
        many 21 targets: WireRef,
        req 22 sighting: SightingKind,
        opt 23 count: u64,
        opt 24 country: String,
    }
}

/// What a sighting is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighted {
    Value(Observable),
    Records(Vec<WireRef>),
}

/// That a value or record was seen, is harmless, or is no longer of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub of: Sighted,
    pub sighting: SightingKind,
    /// How often; 1 when not said.
    pub count: Option<u64>,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// ISO 3166-1 alpha-2 of where it was seen.
    pub country: Option<String>,
    pub description: Option<String>,
}

int_map! {
    /// Takes back records of the same member, or a whole report with its indicators. Durable; may come first.
    pub struct Withdrawal {
        req 0 kind: Kind,
        opt 13 description: String,
        many 21 targets: WireRef,
        req 25 reason: Reason,
    }
}

int_map! {
    /// Extends a report's validity without sending its records again.
    pub struct Renewal {
        req 0 kind: Kind,
        req 8 valid_until: Timestamp,
        many 21 targets: WireRef,
    }
}

int_map! {
    struct WireQuestion {
        req 0 kind: Kind,
        opt 1 value_type: ObservableType,
        opt 2 value: WireValue,
        opt 8 until: Timestamp,
        opt 11 other: String,
        req 13 text: String,
        opt 14 language: String,
    }
}

/// "Who has seen this?", to an audience; sightings answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub value: Option<Observable>,
    pub text: String,
    pub language: Option<String>,
    pub until: Option<Timestamp>,
}

int_map! {
    struct WireDocument {
        req 0 kind: Kind,
        many 9 tags: String,
        req 12 title: String,
        opt 13 description: String,
        opt 14 language: String,
        many 21 targets: WireRef,
        req 26 media_type: String,
        opt 27 inline: String,
        opt 28 replaces: WireRef,
        opt 29 hash: ContentHash,
        opt 30 length: u64,
    }
}

/// Where a document's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text of at most [`DOCUMENT_BYTES_MAX`], here.
    Inline(String),
    /// Fetched on demand, chunk by chunk, each checked against the root.
    Hash { hash: ContentHash, length: u64 },
}

/// A Sigma or YARA rule, a STIX object, training or forensic material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub title: String,
    pub media_type: String,
    pub content: Content,
    pub description: Option<String>,
    pub language: Option<String>,
    pub tags: Vec<String>,
    /// What it belongs to.
    pub targets: Vec<WireRef>,
    pub replaces: Option<WireRef>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Report(Report),
    Indicator(Indicator),
    Sighting(Sighting),
    Withdrawal(Withdrawal),
    Renewal(Renewal),
    Question(Question),
    Document(Document),
}

/// What a record's bytes turned out to be.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one; a box would cost each an allocation")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    Record(Record),
    /// From a newer huecry: kept and passed on, no field used, judged after the upgrade. The text says what is new.
    Newer(String),
}

/// Why a record falls, alone: its batch stays whole and its neighbours stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Verdict `Reject` of this record.
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error(transparent)]
    Value(#[from] ObservableError),
    #[error("{field} {why}")]
    Field { field: &'static str, why: &'static str },
}

fn field(field: &'static str, why: &'static str) -> RecordError {
    RecordError::Field { field, why }
}

impl Record {
    /// What kind of statement this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Report(_) => Kind::Report,
            Self::Indicator(_) => Kind::Indicator,
            Self::Sighting(_) => Kind::Sighting,
            Self::Withdrawal(_) => Kind::Withdrawal,
            Self::Renewal(_) => Kind::Renewal,
            Self::Question(_) => Kind::Question,
            Self::Document(_) => Kind::Document,
        }
    }

    /// The records that this one is about, where it may name any.
    pub fn targets_mut(&mut self) -> Option<&mut Vec<WireRef>> {
        match self {
            Self::Withdrawal(one) => Some(&mut one.targets),
            Self::Renewal(one) => Some(&mut one.targets),
            Self::Document(one) => Some(&mut one.targets),
            Self::Sighting(Sighting { of: Sighted::Records(targets), .. }) => Some(targets),
            _ => None,
        }
    }

    /// Reads one record of a batch whose format we know.
    pub fn decode(bytes: &[u8]) -> Result<Decoded, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(CborError::Long { length: bytes.len(), max: RECORD_BYTES_MAX }.into());
        }
        let outline = cbor::check(bytes)?;
        if outline.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(field("extension keys", "take more than 4 KiB"));
        }
        let number = outline.key_zero.ok_or_else(|| field("kind", "is missing"))?;
        let Some(kind) = Kind::from_number(number) else {
            return Ok(Decoded::Newer(format!("record kind {number}")));
        };
        if outline.extension_bytes > 0 {
            return Ok(Decoded::Newer(format!("a key from {EXTENSION_KEY_MIN} up in a {kind}")));
        }
        let record = match kind {
            Kind::Report => Self::Report(cbor::decode_checked(bytes)?),
            Kind::Indicator => Self::Indicator(indicator_from(cbor::decode_checked(bytes)?)?),
            Kind::Sighting => Self::Sighting(sighting_from(cbor::decode_checked(bytes)?)?),
            Kind::Withdrawal => Self::Withdrawal(cbor::decode_checked(bytes)?),
            Kind::Renewal => Self::Renewal(cbor::decode_checked(bytes)?),
            Kind::Question => Self::Question(question_from(cbor::decode_checked(bytes)?)?),
            Kind::Document => Self::Document(document_from(cbor::decode_checked(bytes)?)?),
        };
        record.check()?;
        Ok(Decoded::Record(record))
    }

    /// The record's bytes, after the checks that its readers will make.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let bytes = match self {
            Self::Report(report) => cbor::to_vec(report),
            Self::Indicator(indicator) => cbor::to_vec(&indicator_to(indicator)),
            Self::Sighting(sighting) => cbor::to_vec(&sighting_to(sighting)),
            Self::Withdrawal(withdrawal) => cbor::to_vec(withdrawal),
            Self::Renewal(renewal) => cbor::to_vec(renewal),
            Self::Question(question) => cbor::to_vec(&question_to(question)),
            Self::Document(document) => cbor::to_vec(&document_to(document)),
        };
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(CborError::Long { length: bytes.len(), max: RECORD_BYTES_MAX }.into());
        }
        Ok(bytes)
    }

    /// Every reference that the record makes, for the check that each is in its shortest form.
    pub fn references(&self) -> impl Iterator<Item = &WireRef> {
        let (one, other, many): (Option<&WireRef>, Option<&WireRef>, &[WireRef]) = match self {
            Self::Report(report) => (report.replaces.as_ref(), None, &[]),
            Self::Indicator(indicator) => (indicator.report.as_ref(), indicator.replaces.as_ref(), &[]),
            Self::Sighting(Sighting { of: Sighted::Records(targets), .. }) => (None, None, targets),
            Self::Sighting(_) | Self::Question(_) => (None, None, &[]),
            Self::Withdrawal(withdrawal) => (None, None, &withdrawal.targets),
            Self::Renewal(renewal) => (None, None, &renewal.targets),
            Self::Document(document) => (document.replaces.as_ref(), None, &document.targets),
        };
        one.into_iter().chain(other).chain(many)
    }

    /// The rules that hold beyond the shape, for what is read and for what is written.
    fn check(&self) -> Result<(), RecordError> {
        match self {
            Self::Report(report) => check_report(report),
            Self::Indicator(indicator) => check_indicator(indicator),
            Self::Sighting(sighting) => {
                check_order(sighting.from, sighting.until)?;
                check_country(sighting.country.as_deref())?;
                if sighting.count == Some(0) {
                    return Err(field("count", "is 0; a thing that was seen was seen once at least"));
                }
                if let Sighted::Records(targets) = &sighting.of {
                    check_targets(targets)?;
                }
                check_text("description", sighting.description.as_deref(), TEXT_BYTES_MAX)
            }
            Self::Withdrawal(withdrawal) => {
                check_targets(&withdrawal.targets)?;
                check_text("description", withdrawal.description.as_deref(), TEXT_BYTES_MAX)
            }
            Self::Renewal(renewal) => check_targets(&renewal.targets),
            Self::Question(question) => {
                check_text("text", Some(&question.text), TEXT_BYTES_MAX)?;
                check_language(question.language.as_deref())
            }
            Self::Document(document) => check_document(document),
        }
    }
}

fn check_report(report: &Report) -> Result<(), RecordError> {
    check_text("title", Some(&report.title), TEXT_BYTES_MAX)?;
    check_text("description", report.description.as_deref(), TEXT_BYTES_MAX)?;
    check_text("caveat", report.caveat.as_deref(), TEXT_BYTES_MAX)?;
    check_language(report.language.as_deref())?;
    check_confidence(report.confidence)?;
    check_order(report.valid_from, report.valid_until)?;
    for (name, words) in
        [("tags", &report.tags), ("actors", &report.actors), ("malware", &report.malware), ("techniques", &report.techniques)]
    {
        check_words(name, words, WORD_BYTES_MAX)?;
    }
    check_words("references", &report.references, TEXT_BYTES_MAX)?;
    check_source(report.source.as_ref())
}

fn check_indicator(indicator: &Indicator) -> Result<(), RecordError> {
    check_confidence(indicator.confidence)?;
    check_order(indicator.valid_from, indicator.valid_until)?;
    check_words("tags", &indicator.tags, WORD_BYTES_MAX)?;
    check_source(indicator.source.as_ref())?;
    if indicator.scope == Some(Scope::Exact) {
        return Err(field("scope", "is `exact`, which is what its absence means; leave it out"));
    }
    if indicator.scope.is_some() && indicator.value.kind() != ObservableType::Domain {
        return Err(field("scope", "belongs to domains"));
    }
    Ok(())
}

fn check_document(document: &Document) -> Result<(), RecordError> {
    check_text("title", Some(&document.title), TEXT_BYTES_MAX)?;
    check_text("description", document.description.as_deref(), TEXT_BYTES_MAX)?;
    check_text("media type", Some(&document.media_type), WORD_BYTES_MAX)?;
    check_language(document.language.as_deref())?;
    check_words("tags", &document.tags, WORD_BYTES_MAX)?;
    if document.targets.len() > LIST_MAX {
        return Err(field("targets", "are more than 256"));
    }
    match &document.content {
        Content::Inline(text) => check_text("inline content", Some(text), DOCUMENT_BYTES_MAX),
        Content::Hash { length, .. } if (1..=DOCUMENT_LENGTH_MAX).contains(length) => Ok(()),
        Content::Hash { .. } => Err(field("length", "is 1 byte to 256 MiB")),
    }
}

fn check_text(name: &'static str, text: Option<&str>, bytes_max: usize) -> Result<(), RecordError> {
    match text {
        None => Ok(()),
        Some("") => Err(field(name, "is empty; leave it out")),
        Some(text) if text.len() > bytes_max => Err(field(name, "is too long")),
        Some(text) if text.contains('\0') || !cbor::normalized(text) => Err(field(name, "has a NUL or is not in Unicode NFC")),
        Some(_) => Ok(()),
    }
}

fn check_words(name: &'static str, words: &[String], bytes_max: usize) -> Result<(), RecordError> {
    if words.len() > LIST_MAX {
        return Err(field(name, "are more than 256"));
    }
    words.iter().try_for_each(|word| check_text(name, Some(word), bytes_max))
}

fn check_source(source: Option<&Source>) -> Result<(), RecordError> {
    let Some(source) = source else { return Ok(()) };
    let parts = [&source.organisation, &source.url, &source.external_id];
    if parts.iter().all(|part| part.is_none()) {
        return Err(field("source", "names nothing; leave it out"));
    }
    parts.into_iter().try_for_each(|part| check_text("source", part.as_deref(), TEXT_BYTES_MAX))
}

fn check_confidence(confidence: Option<u8>) -> Result<(), RecordError> {
    if confidence.is_some_and(|value| value > 100) { Err(field("confidence", "is 0 to 100")) } else { Ok(()) }
}

fn check_order(from: Option<Timestamp>, until: Option<Timestamp>) -> Result<(), RecordError> {
    match (from, until) {
        (Some(from), Some(until)) if until < from => Err(field("valid_until", "is before valid_from")),
        _ => Ok(()),
    }
}

fn check_targets(targets: &[WireRef]) -> Result<(), RecordError> {
    match targets.len() {
        0 => Err(field("targets", "are missing")),
        1..=LIST_MAX => Ok(()),
        _ => Err(field("targets", "are more than 256")),
    }
}

/// A BCP 47 tag in outline: letters, digits and hyphens, at most 35 bytes (RFC 5646 section 4.4.1).
fn check_language(language: Option<&str>) -> Result<(), RecordError> {
    let fits = |tag: &str| (2..=35).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if language.is_none_or(fits) { Ok(()) } else { Err(field("language", "is a BCP 47 tag, as in `en` or `pt-BR`")) }
}

fn check_country(country: Option<&str>) -> Result<(), RecordError> {
    let fits = |code: &str| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if country.is_none_or(fits) { Ok(()) } else { Err(field("country", "is two capital letters, as in `FR`")) }
}

fn indicator_from(wire: WireIndicator) -> Result<Indicator, RecordError> {
    let WireIndicator { value_type, value, report, role, usage, confidence, valid_from, valid_until, .. } = wire;
    Ok(Indicator {
        value: Observable::from_wire(value_type, value, wire.other)?,
        scope: wire.scope,
        report,
        role,
        usage,
        confidence,
        valid_from,
        valid_until,
        tags: wire.tags,
        source: wire.source,
        replaces: wire.replaces,
    })
}

fn indicator_to(indicator: &Indicator) -> WireIndicator {
    let Indicator { value, scope, report, role, usage, confidence, valid_from, valid_until, .. } = indicator.clone();
    WireIndicator {
        kind: Kind::Indicator,
        value_type: value.kind(),
        value: value.wire().clone(),
        report,
        role,
        usage,
        confidence,
        valid_from,
        valid_until,
        tags: indicator.tags.clone(),
        scope,
        other: value.other().map(str::to_owned),
        source: indicator.source.clone(),
        replaces: indicator.replaces.clone(),
    }
}

/// The value parts of kinds that may speak of one.
fn optional_value(
    value_type: Option<ObservableType>,
    value: Option<WireValue>,
    other: Option<String>,
) -> Result<Option<Observable>, RecordError> {
    match (value_type, value) {
        (Some(value_type), Some(value)) => Ok(Some(Observable::from_wire(value_type, value, other)?)),
        (None, None) if other.is_none() => Ok(None),
        _ => Err(field("value", "and its type come together")),
    }
}

fn sighting_from(wire: WireSighting) -> Result<Sighting, RecordError> {
    let value = optional_value(wire.value_type, wire.value, wire.other)?;
    let of = match (value, wire.targets) {
        (Some(value), targets) if targets.is_empty() => Sighted::Value(value),
        (None, targets) if !targets.is_empty() => Sighted::Records(targets),
        _ => return Err(field("sighting", "is of a value or of records, one of the two")),
    };
    let WireSighting { sighting, count, from, until, country, description, .. } = wire;
    Ok(Sighting { of, sighting, count, from, until, country, description })
}

fn sighting_to(sighting: &Sighting) -> WireSighting {
    let (value, targets) = match &sighting.of {
        Sighted::Value(value) => (Some(value), Vec::new()),
        Sighted::Records(targets) => (None, targets.clone()),
    };
    WireSighting {
        kind: Kind::Sighting,
        value_type: value.map(Observable::kind),
        value: value.map(|value| value.wire().clone()),
        from: sighting.from,
        until: sighting.until,
        other: value.and_then(Observable::other).map(str::to_owned),
        description: sighting.description.clone(),
        targets,
        sighting: sighting.sighting,
        count: sighting.count,
        country: sighting.country.clone(),
    }
}

fn question_from(wire: WireQuestion) -> Result<Question, RecordError> {
    let value = optional_value(wire.value_type, wire.value, wire.other)?;
    Ok(Question { value, text: wire.text, language: wire.language, until: wire.until })
}

fn question_to(question: &Question) -> WireQuestion {
    let value = question.value.as_ref();
    WireQuestion {
        kind: Kind::Question,
        value_type: value.map(Observable::kind),
        value: value.map(|value| value.wire().clone()),
        until: question.until,
        other: value.and_then(Observable::other).map(str::to_owned),
        text: question.text.clone(),
        language: question.language.clone(),
    }
}

fn document_from(wire: WireDocument) -> Result<Document, RecordError> {
    let content = match (wire.inline, wire.hash, wire.length) {
        (Some(text), None, None) => Content::Inline(text),
        (None, Some(hash), Some(length)) => Content::Hash { hash, length },
        _ => return Err(field("document", "has its text, or its hash and length")),
    };
    let WireDocument { title, media_type, description, language, tags, targets, replaces, .. } = wire;
    Ok(Document { title, media_type, content, description, language, tags, targets, replaces })
}

fn document_to(document: &Document) -> WireDocument {
    let (inline, hash, length) = match &document.content {
        Content::Inline(text) => (Some(text.clone()), None, None),
        Content::Hash { hash, length } => (None, Some(*hash), Some(*length)),
    };
    WireDocument {
        kind: Kind::Document,
        tags: document.tags.clone(),
        title: document.title.clone(),
        description: document.description.clone(),
        language: document.language.clone(),
        targets: document.targets.clone(),
        media_type: document.media_type.clone(),
        inline,
        replaces: document.replaces.clone(),
        hash,
        length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indicator(text: &str) -> Record {
        Record::Indicator(Indicator::of(Observable::recognise(text).unwrap(), Some(WireRef::Batch(0))))
    }

    #[test]
    fn an_inheriting_indicator_is_small_and_reads_back() {
        let record = indicator("192.0.2.7");
        let bytes = record.encode().unwrap();
        assert_eq!(hex::encode(&bytes), "a4000201010244c00002070300");
        assert_eq!(Record::decode(&bytes).unwrap(), Decoded::Record(record));
    }

    #[test]
    fn e_04_an_unknown_key_below_64_is_refused() {
        // The same indicator with key 63.
        let bytes = hex::decode("a5000201010244c00002070300183f01").unwrap();
        assert!(Record::decode(&bytes).unwrap_err().to_string().contains("unknown key 63"));
    }

    #[test]
    fn e_13_a_newer_kind_or_extension_key_is_kept_unread() {
        for bytes in ["a100182a", "a5000201010244c00002070300184001"] {
            assert!(matches!(Record::decode(&hex::decode(bytes).unwrap()), Ok(Decoded::Newer(_))), "{bytes}");
        }
    }

    #[test]
    fn e_11_empty_and_oversized_records_are_refused() {
        assert!(Record::decode(&[]).is_err());
        assert!(Record::decode(&[0xa0]).is_err());
        assert!(Record::decode(&[0; RECORD_BYTES_MAX + 1]).is_err());
        // A report with an empty title, and one with an empty list of tags.
        assert!(Record::decode(&hex::decode("a200010c60").unwrap()).is_err());
        assert!(Record::decode(&hex::decode("a3000109800c6178").unwrap()).is_err());
    }

    #[test]
    fn t_03_an_end_before_its_beginning_is_refused() {
        let Record::Indicator(mut claim) = indicator("evil.example") else { unreachable!() };
        claim.valid_from = Timestamp::from_ms(2);
        claim.valid_until = Timestamp::from_ms(1);
        assert!(Record::Indicator(claim).encode().is_err());
    }

    #[test]
    fn a_debug_line_never_shows_a_value() {
        assert!(!format!("{:?}", indicator("evil.example")).contains("evil"));
    }
}
