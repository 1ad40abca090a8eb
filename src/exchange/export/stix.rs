//! STIX 2.1: a bundle of what is asserted here, from which the same records can be read again.
//!
//! Ids are made of the record's name, so the same record has the same id wherever and whenever it is exported, and a later
//! export of its withdrawal is the same object with `revoked`. What a pattern cannot say (types that
//! STIX has none for) stands under `x-huecry-value`. With proofs, a property extension carries the signed head and the
//! record's bytes with the proof of its place, so the signature leaves with the statement.
//!
//! Sources: STIX 2.1 sections 2.9, 3.2, 4.7, 7.2, 9; TLP 2.0 markings of the OASIS common object repository.

use super::{Row, namespace};
use crate::{
    envelope::Hash,
    record::{FeedId, Observable, ObservableType, RecordRef, Scope, Timestamp, Tlp},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The property extension that carries what STIX has no place for.
pub const EXTENSION: &str = "extension-definition--9c1a5d0e-6a3b-5a53-8f6e-0d9a4d1b7c52";

/// The id under which a bundle of ours names something: the same wherever and whenever it is written.
pub fn id_of(kind: &str, name: &str) -> String {
    format!("{kind}--{}", Uuid::new_v5(&namespace(), format!("{kind}:{name}").as_bytes()))
}

/// Bits of a record's id that tell its feed, its batch and its place there.
const SEQ_BITS: u32 = 40;
const INDEX_BITS: u32 = 16;
const FEED_BITS: u32 = 122 - SEQ_BITS - INDEX_BITS;

/// The id of a record's object. It has the form of a name's UUID (version 5, RFC 9562 section 5.5), which every reader of STIX
/// takes, and keeps batch and place readable, so that who asks for it is answered without an index of ids.
pub fn record_id(kind: &str, record: &RecordRef) -> String {
    let feed = feed_bits(&record.feed) << (SEQ_BITS + INDEX_BITS);
    let place = (u128::from(record.seq) & ((1 << SEQ_BITS) - 1)) << INDEX_BITS | u128::from(record.index);
    let free = feed | place;
    // 48 bits, the version, 12 bits, the variant, 62 bits.
    let (high, middle, low) = (free >> 74, free >> 62 & 0xfff, free & ((1 << 62) - 1));
    let uuid = Uuid::from_u128(high << 80 | 5 << 76 | middle << 64 | 0b10 << 62 | low);
    format!("{kind}--{uuid}")
}

/// The record that an object's id means, among these feeds.
pub fn record_of_id<'a>(id: &str, feeds: impl IntoIterator<Item = &'a FeedId>) -> Option<RecordRef> {
    let bits = id.split_once("--")?.1.parse::<Uuid>().ok()?.as_u128();
    let free = bits >> 80 << 74 | (bits >> 64 & 0xfff) << 62 | bits & ((1 << 62) - 1);
    let feed = free >> (SEQ_BITS + INDEX_BITS);
    let feed = feeds.into_iter().find(|one| feed_bits(one) == feed)?.clone();
    let seq = u64::try_from(free >> INDEX_BITS & ((1 << SEQ_BITS) - 1)).ok()?;
    let index = u16::try_from(free & ((1 << INDEX_BITS) - 1)).ok()?;
    Some(RecordRef { feed, seq, index })
}

fn feed_bits(feed: &FeedId) -> u128 {
    let Hash(bytes) = Hash::of(format!("urn:huecry:feed:{feed}").as_bytes());
    bytes.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes)) >> (128 - FEED_BITS)
}

/// The marking of TLP 2.0, by the ids that everybody knows.
pub fn marking_of(tlp: Tlp) -> (String, Value) {
    let (uuid, word) = match tlp {
        Tlp::Clear => ("94868c89-83c2-464b-929b-a1a8aa3c8487", "clear"),
        Tlp::Green => ("bab4a63c-aed9-4cf5-a766-dfca5abac2bb", "green"),
        Tlp::Amber => ("55d920b0-5e8b-4f79-9ee9-91f868d9b421", "amber"),
        Tlp::AmberStrict => ("939a9414-2ddd-4d32-a0cd-375ea402b003", "amber+strict"),
        Tlp::Red => ("e828b379-4e03-4974-9ac4-e53a884c97c1", "red"),
    };
    let id = format!("marking-definition--{uuid}");
    let object = json!({
        "type": "marking-definition", "spec_version": "2.1", "id": id, "created": "2022-10-01T00:00:00.000Z",
        "name": format!("TLP:{}", word.to_ascii_uppercase()),
        "extensions": { super::super::TLP_EXTENSION: { "extension_type": "property-extension", "tlp_2_0": word } },
    });
    (id, object)
}

/// A text between `'` in a pattern (STIX 2.1 section 9.2).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The pattern of a value; our own reader takes each for the same value.
pub fn pattern_of(value: &Observable) -> String {
    use ObservableType as T;
    let text = value.to_string();
    let (kind, other) = (value.kind(), value.other());
    let value = quoted(&text);
    let of = |path: &str| format!("[{path} = {value}]");
    match kind {
        T::Ipv4 => of("ipv4-addr:value"),
        T::Ipv6 => of("ipv6-addr:value"),
        T::Cidr => format!("[{}:value ISSUBSET {value}]", if text.contains(':') { "ipv6-addr" } else { "ipv4-addr" }),
        T::Domain => of("domain-name:value"),
        T::Url => of("url:value"),
        T::Email => of("email-addr:value"),
        T::Md5 => of("file:hashes.MD5"),
        T::Sha1 => of("file:hashes.'SHA-1'"),
        T::Sha256 => of("file:hashes.'SHA-256'"),
        T::Sha512 => of("file:hashes.'SHA-512'"),
        T::CertSha256 => of("x509-certificate:hashes.'SHA-256'"),
        T::Asn => format!("[autonomous-system:number = {}]", text.trim_start_matches("AS")),
        T::Endpoint => {
            let (host, port) = text.rsplit_once(':').unwrap_or((&text, "0"));
            let host = host.trim_matches(['[', ']']);
            let kind = match host.parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(_)) => "ipv4-addr",
                Ok(std::net::IpAddr::V6(_)) => "ipv6-addr",
                Err(_) => "domain-name",
            };
            let host = quoted(host);
            format!(
                "[network-traffic:dst_ref.type = '{kind}' AND network-traffic:dst_ref.value = {host} AND network-traffic:dst_port = {port}]"
            )
        }
        T::Other if other == Some("filename") => of("file:name"),
        T::Other if other == Some("mutex") => of("mutex:name"),
        T::Other if other == Some("regkey") => of("windows-registry-key:key"),
        _ => {
            let kind = other.map_or_else(|| kind.name().to_owned(), |name| format!("other:{name}"));
            format!("[x-huecry-value:kind = {} AND x-huecry-value:value = {value}]", quoted(&kind))
        }
    }
}

/// What stands behind a row, for a bundle.
#[derive(Clone, Debug)]
pub struct Stated {
    pub row: Row,
    /// When it was signed.
    pub signed: Timestamp,
    /// When it was last judged anew here, a renewal or its end among it.
    pub judged: Option<Timestamp>,
    pub tlp: Tlp,
    /// Name of its report, and that one's marking.
    pub report: Option<(String, Tlp)>,
    pub scope: Option<Scope>,
    /// When it was taken back, if it was.
    pub revoked: Option<Timestamp>,
    /// Signed head and the record with its place, both in base64.
    pub proof: Option<(String, String)>,
}

/// The object of one record.
pub fn indicator_object(stated: &Stated) -> Value {
    let Stated { row, signed, judged, tlp, scope, revoked, proof, .. } = stated;
    // A later version of an object is told by its time.
    let modified = [*judged, *revoked].into_iter().flatten().fold(*signed, Timestamp::max);
    let ((marking_id, _), author) = (marking_of(*tlp), id_of("identity", &row.origin));
    let object_id = id_of_record("indicator", &row.record);
    let from = row.valid_from.unwrap_or(*signed);
    let mut object = json!({
        "type": "indicator", "spec_version": "2.1", "id": object_id, "created_by_ref": author, "created": signed.precise(), "modified": modified.precise(),
        "name": row.value.defanged(), "pattern": pattern_of(&row.value), "pattern_type": "stix", "pattern_version": "2.1", "valid_from": from.precise(),
        "confidence": row.confidence, "object_marking_refs": [marking_id],
        "external_references": [{ "source_name": "huecry", "external_id": row.record }],
    });
    if let Some(object) = object.as_object_mut() {
        decorate(object, row, from, revoked.is_some());
        let mut extension = Map::new();
        extension.insert("extension_type".to_owned(), json!("property-extension"));
        if scope == &Some(Scope::Subdomains) {
            extension.insert("scope".to_owned(), json!("subdomains"));
        }
        if row.usage != "context" || proof.is_some() || extension.len() > 1 {
            extension.insert("use".to_owned(), json!(row.usage));
        }
        if let Some((head, record)) = proof {
            extension.insert("head".to_owned(), json!(head));
            extension.insert("proof".to_owned(), json!(record));
        }
        if extension.len() > 1 {
            object.insert("extensions".to_owned(), json!({ EXTENSION: extension }));
        }
    }
    object
}

/// The object of a member.
pub fn identity_object(member: &str) -> Value {
    json!({ "type": "identity", "spec_version": "2.1", "id": id_of("identity", member), "created": "2026-01-01T00:00:00.000Z",
        "modified": "2026-01-01T00:00:00.000Z", "name": member, "identity_class": "organization" })
}

/// The object of a report, with those of its indicators that are named.
pub fn report_object(report: &str, author: &str, title: &str, at: (Timestamp, Timestamp), tlp: Tlp, members: &[String]) -> Value {
    let (created, modified) = at;
    json!({
        "type": "report", "spec_version": "2.1", "id": id_of_record("report", report), "created_by_ref": id_of("identity", author),
        "created": created.precise(), "modified": modified.precise(), "name": if title.is_empty() { report } else { title },
        "published": created.precise(), "object_marking_refs": [marking_of(tlp).0], "object_refs": members,
    })
}

fn id_of_record(kind: &str, record: &str) -> String {
    record.parse().map_or_else(|_| id_of(kind, record), |record| record_id(kind, &record))
}

/// Writes a bundle object by object. What others refer to comes with the first that does.
#[derive(Default)]
pub struct StixBundle {
    begun: bool,
    said: std::collections::BTreeSet<String>,
    /// Reports with the ids of their indicators, written last.
    reports: std::collections::BTreeMap<String, (Value, Vec<String>)>,
}

impl StixBundle {
    /// The object of one record, with what it refers to.
    pub fn add(&mut self, stated: &Stated) -> String {
        let Stated { row, signed, tlp, report, .. } = stated;
        let mut text = String::new();
        let ((marking_id, marked), author) = (marking_of(*tlp), id_of("identity", &row.origin));
        self.once(&mut text, &marking_id, || marked);
        self.once(&mut text, &author, || identity_object(&row.origin));
        let object = indicator_object(stated);
        if object.get("extensions").is_some() {
            self.once(&mut text, EXTENSION, || definition_object(&author));
        }
        if let Some((report, report_tlp)) = report {
            let (marking_id, marked) = marking_of(*report_tlp);
            self.once(&mut text, &marking_id, || marked);
            let (_, members) = self
                .reports
                .entry(report.clone())
                .or_insert_with(|| (report_object(report, &row.origin, &row.title, (*signed, *signed), *report_tlp, &[]), Vec::new()));
            members.push(id_of_record("indicator", &row.record));
        }
        self.put(&mut text, &object);
        text
    }

    /// The reports, and the end.
    pub fn finish(mut self) -> String {
        let mut text = String::new();
        for (_, (mut report, members)) in std::mem::take(&mut self.reports) {
            if let Some(report) = report.as_object_mut() {
                report.insert("object_refs".to_owned(), json!(members));
            }
            self.put(&mut text, &report);
        }
        if !self.begun {
            text.push_str(&head());
        }
        text.push_str("\n]}\n");
        text
    }

    fn once(&mut self, text: &mut String, id: &str, object: impl FnOnce() -> Value) {
        if self.said.insert(id.to_owned()) {
            self.put(text, &object());
        }
    }

    fn put(&mut self, text: &mut String, object: &Value) {
        if std::mem::replace(&mut self.begun, true) {
            text.push(',');
        } else {
            text.push_str(&head());
        }
        text.push('\n');
        text.push_str(super::rows::json_line(object).trim_end());
    }
}

fn head() -> String {
    format!("{{\"type\":\"bundle\",\"id\":\"{}\",\"objects\":[", id_of("bundle", "huecry"))
}

fn decorate(object: &mut Map<String, Value>, row: &Row, from: Timestamp, revoked: bool) {
    if row.until > from {
        object.insert("valid_until".to_owned(), json!(row.until.precise()));
    }
    object.insert("indicator_types".to_owned(), json!([indicator_type_of(&row.role)]));
    if !row.tags.is_empty() {
        object.insert("labels".to_owned(), json!(row.tags));
    }
    if revoked {
        object.insert("revoked".to_owned(), json!(true));
    }
}

/// The word of STIX for a role (section 10.5).
pub fn indicator_type_of(role: &str) -> &'static str {
    match role {
        "attacker" => "malicious-activity",
        "compromised" => "compromised",
        _ => "unknown",
    }
}

/// What the extension means that our objects carry.
pub fn definition_object(author: &str) -> Value {
    json!({
        "type": "extension-definition", "spec_version": "2.1", "id": EXTENSION, "created_by_ref": author, "created": "2026-01-01T00:00:00.000Z",
        "modified": "2026-01-01T00:00:00.000Z", "name": "huecry record", "version": "1.0.0", "extension_types": ["property-extension"],
        "schema": "urn:huecry:record", "description": "What a receiver may do with it, whether names below it are meant, and the signed head with the record's proof (base64).",
    })
}
