use super::*;
use crate::{
    charter::MemberKind,
    policy::{ListRole, Listed, Lists, OutletKind, Starter},
    record::{Kind, MemberId, Observable, ObservableType, Role, Tlp, Use},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn with_case<T>(change: impl FnOnce(&mut Case<'_>), then: impl FnOnce(&Case<'_>) -> T) -> T {
    let (origin, lists, disputed) = ("talos".parse().unwrap(), Lists::default(), BTreeSet::new());
    let listed = Listed::nowhere(&lists);
    let mut case = Case {
        origin: Party { id: &origin, kind: MemberKind::Vendor, country: None, standing: "good" },
        channel: "c2",
        kind: Kind::Indicator,
        value_type: Some(ObservableType::Domain),
        role: Role::Attacker,
        usage: Use::Block,
        tlp: Tlp::Green,
        audience: "federation",
        confidence: 80,
        tags: [&[], &[]],
        age_hours: 0,
        expired: false,
        listed: &listed,
        disputed_by: &disputed,
        origins: 0,
    };
    change(&mut case);
    then(&case)
}

fn starter() -> Policy {
    Policy::parse("policy.cedar", Starter::National.policy()).unwrap()
}

#[test]
fn an_answer_without_a_policy_says_so() {
    let sentence = with_case(|case| case.origin.standing = "revoked", |case| starter().judge(case).sentence());
    assert_eq!(sentence, "refused: no policy permits it");
    let outlet = OutletName { name: "resolver", kind: OutletKind::Own };
    let permission = with_case(|case| case.confidence = 1, |case| starter().enforces(case, outlet));
    assert_eq!((permission.permitted, permission.because().as_str()), (false, "no policy permits it"));
}

#[test]
fn p_06_a_policy_with_a_typo_is_refused_with_its_line_and_the_nearest_name() {
    let check = |text: &str, expected: &str| {
        let error = Policy::parse("policy.cedar", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("permit (principal, action == Action::\"accept\", resource)\nwhen { resource.confidance > 3 };", "did you mean `confidence`?");
    check("permit (principal, action == Action::\"acept\", resource);", "accept");
    check("\n\npermit (principal, action, resource", "policy.cedar:3");
    check("", "it holds no policy");
    check("@id(\"a\") permit (principal, action, resource); @id(\"a\") forbid (principal, action, resource);", "is there twice");
    check("@confidence_cap(\"101\") permit (principal, action, resource);", "not a number in range");
    check("@confidence_kap(\"10\") permit (principal, action, resource);", "did you mean @confidence_cap?");
    check(
        "@id(\"x\") permit (principal, action == Action::\"accept\", resource) when { resource.origins > 1 };",
        "policy `x` reads `origins`, which is counted for `enforce` alone",
    );
    check(&" ".repeat(crate::policy::POLICY_BYTES_MAX + 1), "longer than 1 MiB");
}

#[test]
fn two_files_are_in_force_together_and_share_no_id() {
    let piece = |file: &str, id: &str, text: &str| Piece::new(file, format!("@id(\"{id}\") {text} (principal, action, resource);"));
    let both = Policy::of(vec![piece("a", "one", "permit"), piece("b", "two", "forbid")]).unwrap();
    assert_eq!(with_case(|_| (), |case| both.judge(case).verdict), Verdict::Refuse);
    let error = Policy::of(vec![piece("a", "one", "permit"), piece("b", "one", "permit")]).unwrap_err().to_string();
    assert!(error.starts_with("b: the @id `one` is there twice"), "{error}");
}

#[test]
fn the_strictest_obligation_counts() {
    let policy = Policy::parse(
        "p",
        "@id(\"a\") @confidence_cap(\"60\") @expires_in_days(\"30\") permit (principal, action, resource) when { false };
         @id(\"b\") @confidence_cap(\"70\") @expires_in_days(\"9\") permit (principal, action == Action::\"accept\", resource);
         @id(\"c\") @confidence_cap(\"40\") permit (principal, action == Action::\"accept\", resource);",
    )
    .unwrap();
    let judged = with_case(|_| (), |case| policy.judge(case));
    assert_eq!((judged.confidence_cap, judged.expires_in_days), (Some(40), Some(9)));
}

#[test]
fn a_policy_that_cannot_be_evaluated_opens_nothing() {
    // The addition overflows, which only the evaluation finds.
    let text = "@id(\"a\") permit (principal, action, resource);
                @id(\"b\") forbid (principal, action, resource) when { resource.confidence + 9223372036854775807 > 0 };";
    let policy = Policy::parse("p", text).unwrap();
    assert_eq!(with_case(|_| (), |case| policy.judge(case).verdict), Verdict::Refuse);
}

#[test]
fn lists_that_no_policy_asks_for_make_no_case_anew() {
    let policy =
        Policy::parse("p", "permit (principal, action == Action::\"accept\", resource) when { !resource.lists.contains(\"list-9\") };")
            .unwrap();
    let lists = [0, 21, 42].map(deal);
    for (number, lists) in lists.iter().enumerate() {
        let listed = lists.of(&Observable::recognise("v1.org").unwrap());
        let verdict = with_case(|_| (), |case| policy.judge(&Case { listed: &listed, ..case.clone() }).verdict);
        assert_eq!((verdict, policy.memo_counts()), (Verdict::Accept, (number as u64, 1)));
    }
}

/// A condition about one attribute, as people write them.
fn condition() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u8..=100).prop_map(|least| format!("resource.confidence >= {least}")),
        (0u32..50).prop_map(|most| format!("resource.age_hours < {most}")),
        (0u32..3).prop_map(|most| format!("resource.age_days <= {most}")),
        prop_oneof![Just("clears"), Just("warns"), Just("own")].prop_map(|role| format!("resource.list_roles.contains(\"{role}\")")),
        (0usize..3).prop_map(|list| format!("resource.lists.contains(\"list-{list}\")")),
        (0usize..3).prop_map(|list| format!("!resource.lists.contains(\"list-{list}\")")),
        Just("resource.lists.isEmpty()".to_owned()),
        Just("resource.lists.containsAny([\"list-0\", \"list-2\"])".to_owned()),
        Just("resource.lists == resource.list_roles".to_owned()),
        Just("[\"list-1\"].containsAll(resource.lists)".to_owned()),
        Just("resource.disputed_by.isEmpty()".to_owned()),
        Just("resource.disputed_by.contains(\"fr-pn\")".to_owned()),
        Just("resource.expired".to_owned()),
        (0usize..5).prop_map(|tlp| format!("resource.tlp == \"{}\"", Tlp::ALL[tlp].name())),
        Just("[\"c2\", \"phish\"].contains(resource.channel)".to_owned()),
        Just("resource.tags.contains(\"a\")".to_owned()),
        Just("resource.tags.containsAll([\"a\", \"ab\"])".to_owned()),
        Just("resource.use == \"block\"".to_owned()),
        Just("resource.role != \"victim\"".to_owned()),
        Just("resource.type == \"domain\"".to_owned()),
        Just("resource.kind == \"indicator\"".to_owned()),
        Just("resource.audience like \"circle:*\"".to_owned()),
        Just("resource.origin.standing == \"good\"".to_owned()),
        Just("resource.origin has country && resource.origin.country == \"DE\"".to_owned()),
        Just("resource.origin == Member::\"talos\"".to_owned()),
    ]
}

fn policy_text() -> impl Strategy<Value = String> {
    let one = (
        any::<bool>(),
        prop_oneof![Just("accept"), Just("hold"), Just("share"), Just("enforce")],
        proptest::collection::vec(condition(), 0..3),
        0u8..=100,
    );
    proptest::collection::vec(one, 1..6).prop_map(|policies| {
        let text = |(number, (forbids, action, conditions, cap)): (usize, (bool, &str, Vec<String>, u8))| {
            let effect = if forbids { "forbid" } else { "permit" };
            let mut when = conditions;
            if action == "enforce" && cap % 2 == 0 {
                when.push(format!("resource.origins >= {}", cap % 4));
            }
            let when = if when.is_empty() { "true".to_owned() } else { when.join(" && ") };
            format!("@id(\"p{number}\") @confidence_cap(\"{cap}\") {effect} (principal, action == Action::\"{action}\", resource) when {{ {when} }};\n")
        };
        policies.into_iter().enumerate().map(text).collect()
    })
}

#[derive(Clone, Debug)]
struct Draw {
    confidence: u8,
    age_hours: u32,
    expired: bool,
    tlp: usize,
    standing: usize,
    kinds: (usize, usize, usize),
    value: usize,
    tags: usize,
    disputed: usize,
    origins: u32,
    origin: usize,
    reload: bool,
}

fn draw() -> impl Strategy<Value = Draw> {
    let first = (0u8..=100, 0u32..80, any::<bool>(), 0usize..5, 0usize..3, (0usize..3, 0usize..4, 0usize..4));
    let second = (0usize..4, 0usize..4, 0usize..3, 0u32..4, 0usize..2, any::<bool>());
    (first, second).prop_map(
        |((confidence, age_hours, expired, tlp, standing, kinds), (value, tags, disputed, origins, origin, reload))| Draw {
            confidence,
            age_hours,
            expired,
            tlp,
            standing,
            kinds,
            value,
            tags,
            disputed,
            origins,
            origin,
            reload,
        },
    )
}

/// Lists of which each names some of four values; a reload deals them anew.
fn deal(seed: usize) -> Lists {
    let mut lists = Lists::default();
    for list in 0..3 {
        let role = [ListRole::Clears, ListRole::Warns, ListRole::Own][(list + seed) % 3];
        let names: String = (0..4).filter(|value| (seed >> (list + value)) & 1 == 0).map(|value| format!("v{value}.org\n")).collect();
        let _empty = lists.load(&format!("list-{list}"), role, &names);
    }
    lists.settle();
    lists
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Random policies, records, lists and reloads: what is remembered is what Cedar says.
    #[test]
    fn the_memo_answers_as_cedar_itself(text in policy_text(), draws in proptest::collection::vec(draw(), 1..24), seed in 0usize..64) {
        let policy = Policy::parse("p", &text).unwrap();
        let mut lists = deal(seed);
        let origins: [MemberId; 2] = ["talos".parse().unwrap(), "de-bka".parse().unwrap()];
        let tags = ["a", "b", "ab", "ba"].map(str::to_owned);
        for (number, draw) in draws.iter().enumerate() {
            if draw.reload {
                lists = deal(seed.wrapping_add(number));
            }
            let value = Observable::recognise(&format!("v{}.org", draw.value)).unwrap();
            let listed = lists.of(&value);
            let disputed: BTreeSet<MemberId> = ["fr-pn", "it-pol"][..draw.disputed].iter().map(|id| id.parse().unwrap()).collect();
            let origin = &origins[draw.origin];
            let case = Case {
                origin: Party {
                    id: origin,
                    kind: MemberKind::ALL[draw.kinds.0],
                    country: [None, Some("DE")][draw.origin],
                    standing: ["good", "ended", "revoked"][draw.standing],
                },
                channel: ["c2", "phish", "other"][draw.kinds.0],
                kind: [Kind::Indicator, Kind::Sighting, Kind::Report][draw.kinds.0],
                value_type: Some(value.kind()),
                role: Role::ALL[draw.kinds.1],
                usage: Use::ALL[draw.kinds.2],
                tlp: Tlp::ALL[draw.tlp],
                audience: ["federation", "circle:energy"][draw.origin],
                confidence: draw.confidence,
                tags: [&tags[..draw.tags], &tags[draw.tags..]],
                age_hours: draw.age_hours,
                expired: draw.expired,
                listed: &listed,
                disputed_by: &disputed,
                origins: draw.origins,
            };
            let reader = Party { id: &origins[1], kind: MemberKind::Country, country: None, standing: "good" };
            let outlet = OutletName { name: ["resolver", "siem"][draw.origin], kind: OutletKind::ALL[draw.kinds.1] };
            for _again in 0..2 {
                prop_assert_eq!(&*policy.judge(&case), &policy.evaluate(&case));
                prop_assert_eq!(&*policy.shares(&case, &reader), &policy.evaluate_share(&case, &reader));
                prop_assert_eq!(&*policy.enforces(&case, outlet), &policy.evaluate_enforce(&case, outlet));
            }
        }
        let (hits, misses) = policy.memo_counts();
        prop_assert!(hits >= misses, "each was asked twice");
    }
}
