//! Sources: how many stand behind a value, and how sure one may be of it.
//!
//! Public sources copy each other: less than 3 % of their values stand in two, and most of those are copies. So what counts
//! is not how many members say a thing but how many *findings* are behind it: members are counted once however they spell
//! or re-share it, members that quote one source are counted once, and one that does not say whose finding it is never
//! raises the number.

use crate::record::{MemberId, Observable, ObservableType, Source, Timestamp};
use std::collections::BTreeMap;

/// Most claims about one value that are weighed, the newest ones. More do not change a decision.
pub const CLAIMS_MAX: usize = 256;

/// Whose finding a claim is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standpoint {
    /// What tells the source: organisation, site, outside id, each in one spelling. Empty: nobody said.
    keys: Vec<String>,
}

impl Standpoint {
    /// The standpoint that a report's source gives. `member` knows members by id and by name, so that quoting one of them
    /// and being one of them is the same source.
    pub fn of(source: Option<&Source>, member: impl Fn(&str) -> Option<MemberId>) -> Self {
        let Some(source) = source else { return Self::default() };
        let mut keys = Vec::new();
        if let Some(organisation) = source.organisation.as_deref().map(plain).filter(|name| !name.is_empty()) {
            keys.push(member(&organisation).map_or(format!("organisation:{organisation}"), |id| format!("member:{id}")));
        }
        if let Some(site) = source.url.as_deref().and_then(site) {
            keys.push(format!("site:{site}"));
        }
        if let Some(id) = source.external_id.as_deref().map(plain).filter(|id| !id.is_empty()) {
            keys.push(format!("id:{id}"));
        }
        Self { keys }
    }

    /// Whether anybody said whose finding it is.
    pub fn is_known(&self) -> bool {
        !self.keys.is_empty()
    }

    /// For people.
    pub fn sentence(&self) -> String {
        if self.keys.is_empty() { "source not said".to_owned() } else { self.keys.join(", ") }
    }
}

/// A name as it is compared: lower case, only letters and digits.
fn plain(text: &str) -> String {
    text.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The registrable domain of a URL: two pages of one blog are one source.
fn site(url: &str) -> Option<String> {
    let page = Observable::from_text(ObservableType::Url, url).ok()?;
    let host = page.host()?;
    Some(psl::domain_str(&host).unwrap_or(&host).to_owned())
}

/// One member's assertion of a value that counts now: accepted here, not over, not withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub member: MemberId,
    pub standpoint: Standpoint,
    /// The author's confidence, capped by policy.
    pub confidence: u8,
    pub signed: Timestamp,
    pub ends: Timestamp,
    /// Somebody calls it a false positive.
    pub disputed: bool,
}

/// How many independent sources assert a value: the largest number of claims of which no two have a member or a source in
/// common. Disputed claims do not count; claims whose source nobody said make it one at most.
pub fn independent(claims: &[Claim]) -> u32 {
    let claims: Vec<&Claim> = claims.iter().filter(|claim| !claim.disputed).take(CLAIMS_MAX).collect();
    if claims.is_empty() {
        return 0;
    }
    let known: Vec<&Claim> = claims.into_iter().filter(|claim| claim.standpoint.is_known()).collect();
    let sources = source_numbers(&known);
    let mut members: BTreeMap<&MemberId, Vec<usize>> = BTreeMap::new();
    for (claim, source) in known.iter().zip(sources) {
        members.entry(&claim.member).or_default().push(source);
    }
    // Augmenting paths (Kuhn): members on one side, sources on the other.
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let matched = (0..members.len()).filter(|member| augment(*member, &members, &mut taken, &mut Vec::new())).count();
    u32::try_from(matched.max(1)).unwrap_or(u32::MAX)
}

/// Numbers sources: two standpoints that share a key are one source, and so are those between them.
fn source_numbers(claims: &[&Claim]) -> Vec<usize> {
    let mut of_key: BTreeMap<&str, usize> = BTreeMap::new();
    let mut parent: Vec<usize> = (0..claims.len()).collect();
    fn root(parent: &[usize], mut at: usize) -> usize {
        while let Some(up) = parent.get(at).copied().filter(|up| *up != at) {
            at = up;
        }
        at
    }
    for (number, claim) in claims.iter().enumerate() {
        for key in &claim.standpoint.keys {
            let first = *of_key.entry(key).or_insert(number);
            let (one, other) = (root(&parent, first), root(&parent, number));
            if let Some(up) = parent.get_mut(one.max(other)) {
                *up = one.min(other);
            }
        }
    }
    (0..claims.len()).map(|number| root(&parent, number)).collect()
}

fn augment(member: usize, members: &[Vec<usize>], taken: &mut BTreeMap<usize, usize>, seen: &mut Vec<usize>) -> bool {
    for source in members.get(member).into_iter().flatten() {
        if seen.contains(source) {
            continue;
        }
        seen.push(*source);
        let holder = taken.get(source).copied();
        if holder.is_none_or(|holder| augment(holder, members, taken, seen)) {
            taken.insert(*source, member);
            return true;
        }
    }
    false
}

/// How sure one may be of a value, and how that came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Confidence {
    /// 0 to 99.
    pub value: u8,
    /// One sentence a step.
    pub steps: Vec<String>,
}

/// Weighs claims of one value. The best claim counts, worn down to half over its life; each further independent source
/// closes half of what is left to 100 by its own weight; each member that disputes it halves the whole.
///
/// The numbers are for ordering and for people; policies read the author's own confidence.
pub fn effective_confidence(claims: &[Claim], disputed_by: usize, now: Timestamp) -> Confidence {
    let mut weights: Vec<(u32, &Claim)> = claims.iter().map(|claim| (worn(claim, now), claim)).collect();
    weights.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let Some((best, claim)) = weights.first() else { return Confidence::default() };
    let mut steps = vec![format!("{} says {}", claim.member, claim.confidence)];
    if *best < u32::from(claim.confidence) {
        steps.push(format!("{best} after {} of its life", percent_of_life(claim, now)));
    }
    let mut value = *best;
    let further = independent(claims).saturating_sub(1);
    for (weight, other) in weights.iter().filter(|(_, other)| other.member != claim.member).take(further as usize) {
        value += (100 - value.min(100)) * weight / 200;
        steps.push(format!("{value} with {} as an independent source", other.member));
    }
    for _ in 0..disputed_by.min(8) {
        value /= 2;
    }
    if disputed_by > 0 {
        steps.push(format!("{value} because {disputed_by} member(s) call it a false positive"));
    }
    Confidence { value: u8::try_from(value.min(99)).unwrap_or(99), steps }
}

fn percent_of_life(claim: &Claim, now: Timestamp) -> String {
    let (life, lived) = (claim.ends.ms_since(claim.signed).max(1), now.ms_since(claim.signed));
    format!("{} %", (u128::from(lived) * 100 / u128::from(life)).min(100))
}

/// A claim's confidence, falling evenly to half at its end.
fn worn(claim: &Claim, now: Timestamp) -> u32 {
    let (life, lived) = (u128::from(claim.ends.ms_since(claim.signed).max(1)), u128::from(now.ms_since(claim.signed)));
    let confidence = u128::from(claim.confidence);
    let lost = confidence * lived.min(life) / (2 * life);
    u32::try_from(confidence - lost).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::DAY_MS;

    fn claim(member: &str, organisation: &str, url: &str) -> Claim {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let source = Source { organisation: some(organisation), url: some(url), external_id: None };
        let members = |name: &str| ["talos", "trend"].contains(&name).then(|| name.parse().unwrap());
        let alias = |name: &str| if name == "ciscotalos" { members("talos") } else { members(name) };
        Claim {
            member: member.parse().unwrap(),
            standpoint: Standpoint::of(Some(&source), alias),
            confidence: 80,
            signed: Timestamp::from_ms(0).unwrap(),
            ends: Timestamp::from_ms(10 * DAY_MS).unwrap(),
            disputed: false,
        }
    }

    #[test]
    fn members_that_quote_one_source_are_one_source() {
        let check = |claims: &[(&str, &str, &str)], expected: u32| {
            let claims: Vec<Claim> = claims.iter().map(|(member, organisation, url)| claim(member, organisation, url)).collect();
            assert_eq!(independent(&claims), expected, "{claims:?}");
        };
        check(&[], 0);
        check(&[("de-bka", "", "")], 1);
        check(&[("de-bka", "", ""), ("fr-pn", "", ""), ("it-pol", "", "")], 1);
        check(&[("de-bka", "Unit 42", ""), ("fr-pn", "unit-42", "")], 1);
        check(&[("de-bka", "Unit 42", ""), ("fr-pn", "ESET", "")], 2);
        check(&[("de-bka", "Unit 42", ""), ("fr-pn", "", "")], 1);
        check(&[("de-bka", "Unit 42", ""), ("de-bka", "ESET", "")], 1);
        check(&[("de-bka", "Unit 42", ""), ("de-bka", "ESET", ""), ("fr-pn", "ESET", "")], 2);
        check(&[("de-bka", "", "https://blog.lab.example/a"), ("fr-pn", "", "https://www.lab.example/b")], 1);
        check(&[("de-bka", "Lab", "https://lab.example/a"), ("fr-pn", "", "https://lab.example/b"), ("it-pol", "Lab", "")], 1);
        check(&[("talos", "Talos", ""), ("fr-pn", "Cisco Talos", "")], 1);
        check(&[("talos", "Talos", ""), ("trend", "Trend", "")], 2);
    }

    #[test]
    fn a_disputed_claim_does_not_count() {
        let mut claims = [claim("talos", "talos", ""), claim("trend", "trend", "")];
        claims[0].disputed = true;
        assert_eq!(independent(&claims), 1);
        claims[1].disputed = true;
        assert_eq!(independent(&claims), 0);
    }

    #[test]
    fn effective_confidence_tells_how_it_came_about() {
        let at = |days: u64| Timestamp::from_ms(days * DAY_MS).unwrap();
        let claims = [claim("talos", "talos", ""), claim("trend", "trend", "")];
        assert_eq!(effective_confidence(&claims[..1], 0, at(0)).value, 80);
        assert_eq!(effective_confidence(&claims[..1], 0, at(5)).value, 60);
        assert_eq!(effective_confidence(&claims[..1], 0, at(50)).value, 40);
        let both = effective_confidence(&claims, 0, at(0));
        assert_eq!((both.value, both.steps.len()), (88, 2));
        let disputed = effective_confidence(&claims, 1, at(0));
        assert_eq!(disputed.value, 44);
        assert!(disputed.steps.last().unwrap().contains("false positive"), "{disputed:?}");
    }

    proptest::proptest! {
        #[test]
        fn saying_it_again_never_raises_the_number_and_more_sources_never_lower_it(
            claims in proptest::collection::vec((0usize..4, 0usize..4), 1..8),
            more in (0usize..5, 0usize..5),
        ) {
            let (members, sources) = (["aa", "bb", "cc", "dd", "ee"], ["", "s1", "s2", "s3", "s4"]);
            let of = |(member, source): &(usize, usize)| claim(members[*member], sources[*source], "");
            let all: Vec<Claim> = claims.iter().map(of).collect();
            let count = independent(&all);
            let distinct_sources = claims.iter().filter(|one| one.1 > 0).map(|one| one.1).collect::<std::collections::BTreeSet<_>>().len();
            let distinct_members = claims.iter().map(|one| one.0).collect::<std::collections::BTreeSet<_>>().len();
            assert!(count as usize <= distinct_members.min(distinct_sources.max(1)));
            let again: Vec<Claim> = all.iter().chain(&all).cloned().collect();
            assert_eq!(independent(&again), count);
            let larger: Vec<Claim> = all.iter().cloned().chain([of(&more)]).collect();
            assert!((count..=count + 1).contains(&independent(&larger)));
        }
    }
}
