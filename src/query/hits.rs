//! Hits: what is known about values that were seen somewhere, in few words: the strongest assertion about each.

use super::{QueryError, Reading, Standing, question::plan};
use crate::{ledger::SCAN_ROWS_MAX, matching::counts, record::Observable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One value that was seen, and what is known about it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// As it was seen.
    pub seen: String,
    /// What is known: the same, a domain above it, or a network around it.
    pub indicator: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Everyone who asserts it.
    pub origins: Vec<String>,
    /// The assertion of the highest confidence.
    pub reference: String,
    pub title: String,
    pub confidence: u8,
    pub tlp: String,
    pub ends: String,
}

/// The accepted records about `value` that `reading` may see; with `since`, only those that came with that batch or later.
pub fn hit(reading: &mut Reading<'_>, value: &Observable, since: u64) -> Result<Option<Hit>, QueryError> {
    let plan = plan(Some(&value.to_string()), reading.ledger.lengths())?;
    let (today, clearance) = (reading.now.day(), reading.clearance);
    let (mut best, mut origins): (Option<Hit>, BTreeSet<String>) = (None, BTreeSet::new());
    for (range, above) in plan.speaking() {
        let (rows, _more) = reading.ledger.scan_up_to(range, clearance, SCAN_ROWS_MAX)?;
        for row in rows.into_iter().filter(|row| counts(row, clearance, today, since) && (!above || row.about.below)) {
            let Some(found) = reading.found(row.place)? else { continue };
            if reading.standing(&found).0 != Standing::Accepted {
                continue;
            }
            let Some(indicator) = crate::intake::value_of(&found.record) else { continue };
            let said = reading.assertion(&found)?;
            origins.insert(said.origin.clone());
            if best.as_ref().is_none_or(|best| said.confidence > best.confidence) {
                best = Some(Hit {
                    seen: value.to_string(),
                    indicator: indicator.to_string(),
                    kind: indicator.kind().to_string(),
                    origins: Vec::new(),
                    reference: said.reference,
                    title: said.title.unwrap_or_default(),
                    confidence: said.confidence,
                    tlp: said.tlp,
                    ends: said.ends,
                });
            }
        }
    }
    Ok(best.map(|best| Hit { origins: origins.into_iter().collect(), ..best }))
}
