//! MISP: events of a feed, one for each report.
//!
//! Ids are UUIDs of version 5 over the names of records and reports, so a feed that is written again changes nothing that a
//! reader has. A withdrawn attribute stays as `deleted`, and every change gives its attribute and event a later time. `to_ids` stands where a record may be acted on; marking, confidence and tags are tags of the attribute. What
//! MISP has no type for is `other`, with the type's name as its comment.
//!
//! Source: MISP core format, MISP feed format (`manifest.json`, `hashes.csv`), attribute types and categories of MISP 2.5.

use super::{Row, Stated};
use crate::record::{ObservableType, Timestamp, Tlp};
use serde_json::{Value, json};
use uuid::Uuid;

/// One attribute, and what its event has to say.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MispLine {
    pub event: String,
    pub info: String,
    pub organisation: String,
    pub tlp: Tlp,
    pub signed: Timestamp,
    pub attribute: Value,
}

fn id(name: &str) -> String {
    Uuid::new_v5(&super::namespace(), format!("misp:{name}").as_bytes()).to_string()
}

/// Type, category and spelling of a value.
fn typed(row: &Row) -> (String, &'static str, String) {
    use ObservableType as T;
    let text = row.value.to_string();
    let (kind, category) = match row.value.kind() {
        T::Ipv4 | T::Ipv6 | T::Cidr => ("ip-dst", "Network activity"),
        T::Domain => ("domain", "Network activity"),
        T::Url => ("url", "Network activity"),
        T::Asn => ("AS", "Network activity"),
        T::Ja3 => ("ja3-fingerprint-md5", "Network activity"),
        T::CertSha256 => ("x509-fingerprint-sha256", "Network activity"),
        T::Email => ("email-src", "Payload delivery"),
        T::Md5 => ("md5", "Payload delivery"),
        T::Sha1 => ("sha1", "Payload delivery"),
        T::Sha256 => ("sha256", "Payload delivery"),
        T::Sha512 => ("sha512", "Payload delivery"),
        T::Wallet if text.starts_with("bc1") => ("btc", "Financial fraud"),
        T::Endpoint => {
            let (host, port) = text.rsplit_once(':').unwrap_or((&text, "0"));
            let host = host.trim_matches(['[', ']']);
            let kind = if host.parse::<std::net::IpAddr>().is_ok() { "ip-dst|port" } else { "hostname|port" };
            return (kind.to_owned(), "Network activity", format!("{host}|{port}"));
        }
        T::Other => match row.value.other().unwrap_or_default() {
            name @ ("filename" | "ssdeep" | "imphash" | "pehash" | "tlsh") => (name, "Payload delivery"),
            name @ ("mutex" | "regkey") => (name, "Artifacts dropped"),
            name @ ("user-agent" | "uri") => (name, "Network activity"),
            name @ "vulnerability" => (name, "External analysis"),
            name @ ("text" | "comment" | "datetime" | "port" | "size-in-bytes") => (name, "Other"),
            _ => ("other", "Other"),
        },
        T::Ja4 | T::Wallet => ("other", "Other"),
    };
    (kind.to_owned(), category, text)
}

/// The attribute of one record, and its event.
pub fn misp_line(stated: &Stated) -> MispLine {
    let Stated { row, signed, judged, tlp, report, revoked, .. } = stated;
    // Readers ask for what is newer than what they have, so every change has a later time.
    let changed = [*judged, *revoked].into_iter().flatten().fold(*signed, Timestamp::max);
    let (kind, category, value) = typed(row);
    let acts = matches!(row.usage.as_str(), "alert" | "block");
    let confidence = format!("huecry:confidence=\"{}\"", row.confidence);
    let tags = std::iter::once(confidence).chain(row.tags.iter().cloned()).map(|name| json!({ "name": name }));
    let comment = if kind == "other" { row.kind() } else { String::new() };
    let event = report.as_ref().map_or(&row.origin, |(report, _)| report);
    MispLine {
        event: id(event),
        info: if row.title.is_empty() { row.origin.clone() } else { row.title.clone() },
        organisation: row.origin.clone(),
        tlp: *tlp,
        signed: changed,
        attribute: json!({
            "uuid": id(&row.record), "type": kind, "category": category, "value": value, "to_ids": acts, "comment": comment,
            "timestamp": (changed.ms() / 1_000).to_string(), "distribution": "5", "deleted": revoked.is_some(), "Tag": tags.collect::<Vec<_>>(),
        }),
    }
}

/// A whole event, and its line in the manifest.
pub fn misp_event(first: &MispLine, attributes: &[Value]) -> (Value, Value) {
    let tlp = first.tlp.label().to_ascii_lowercase();
    let tags = json!([{ "name": tlp }]);
    let organisation = json!({ "name": first.organisation, "uuid": id(&format!("member:{}", first.organisation)) });
    let date = first.signed.to_string().chars().take(10).collect::<String>();
    let stamp = (first.signed.ms() / 1_000).to_string();
    let listed = json!({
        "Orgc": organisation, "Tag": tags, "info": first.info, "date": date, "analysis": "2", "threat_level_id": "4", "timestamp": stamp,
    });
    let event = json!({ "Event": {
        "uuid": first.event, "info": first.info, "date": date, "timestamp": stamp, "publish_timestamp": stamp, "published": true, "analysis": "2",
        "threat_level_id": "4", "Orgc": organisation, "Tag": tags, "Attribute": attributes,
    } });
    (event, listed)
}
