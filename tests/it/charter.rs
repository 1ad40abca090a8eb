//! The charter over its life: no history lets a stranger in, a fork halts, text and diff say what they mean.

use crate::wire::{at, charter, key, next_charter, plain_card, plain_charter};
use huecry::{
    charter::*,
    envelope::{Hash, SecretKey},
    record::*,
};
use proptest::prelude::*;

fn signed_by(before: &SignedCharter, change: impl FnOnce(&mut Charter), seeds: &[u8]) -> Result<SignedCharter, CharterError> {
    let mut next = before.charter().clone();
    (next.version, next.prev, next.resolves) = (next.version + 1, Some(before.hash()), None);
    change(&mut next);
    let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
    before.succeed(next, &keys.iter().collect::<Vec<_>>())
}

#[test]
fn two_charters_of_one_version_halt_changes_until_the_next_names_one() {
    let first = charter(|_| ()).unwrap();
    let (one, other) = (next_charter(|_| (), &[1, 2]), next_charter(|one| one.name = "Rival".to_owned(), &[1, 3]));
    let (one_signed, other_signed) = (first.next(&one).unwrap(), first.next(&other).unwrap());
    // Two nodes, each of which heard another of the two first.
    let node = |heard: &[u8]| {
        let mut roster = Roster::new(first.clone());
        roster.take_charter(heard).unwrap();
        roster
    };
    let (mut here, mut there) = (node(&one), node(&other));
    assert_eq!(here.take_charter(&other).unwrap(), CharterTaken::Rival);
    assert_eq!(there.take_charter(&one).unwrap(), CharterTaken::Rival);
    assert_eq!(here.charter().hash(), one_signed.hash(), "what was in force stays in force");
    // A version that goes on as if nothing had happened is refused, on either side.
    let unaware = signed_by(&one_signed, |_| (), &[1, 2]).unwrap();
    assert!(matches!(here.take_charter(unaware.bytes()), Err(CharterError::Halted { version: 2, .. })));
    assert!(matches!(there.take_charter(unaware.bytes()), Err(CharterError::Halted { version: 2, .. })));
    // The stewards choose the second.
    let resolving = signed_by(&other_signed, |next| next.resolves = Some(other_signed.hash()), &[1, 2]).unwrap();
    for roster in [&mut here, &mut there] {
        assert_eq!(roster.take_charter(resolving.bytes()).unwrap(), CharterTaken::Next);
        assert_eq!((roster.charter().charter().version, roster.rival().is_none()), (3, true));
        assert_eq!(roster.chain()[1], other, "a newcomer is given the one that stands");
    }
}

#[test]
fn s_07_a_threshold_is_of_distinct_people_of_both_versions() {
    let first = charter(|_| ()).unwrap();
    // Two of three must sign: one key, however often, is one.
    assert!(signed_by(&first, |_| (), &[1, 1]).is_err());
    // A new set of stewards cannot bring itself in, nor be brought in against itself.
    let coup = |next: &mut Charter| (0..3).for_each(|index| next.stewards[index].key = key(51 + index as u8).public());
    assert!(matches!(signed_by(&first, coup, &[51, 52, 53]), Err(CharterError::Threshold { version: 1, signed: 0, .. })));
    assert!(matches!(signed_by(&first, coup, &[1, 2]), Err(CharterError::Threshold { version: 2, signed: 0, .. })));
    assert!(signed_by(&first, coup, &[1, 2, 51, 52]).is_ok());
}

#[test]
fn g_34_with_one_of_three_keys_lost_the_others_name_a_new_steward() {
    let first = charter(|_| ()).unwrap();
    let second =
        signed_by(&first, |next| next.stewards[2] = Steward { name: "steward 4".to_owned(), key: key(54).public() }, &[1, 2]).unwrap();
    assert_eq!(second.federation(), first.federation());
    assert!(signed_by(&second, |_| (), &[2, 54]).is_ok(), "the new one counts");
    assert!(signed_by(&second, |_| (), &[2, 3]).is_err(), "the lost one does not any more");
}

#[test]
fn a_replaced_root_key_ends_the_card_under_the_old_one() {
    let first = charter(|_| ()).unwrap();
    let mut roster = Roster::new(first.clone());
    let card = SignedCard::sign(&plain_card(), &key(13), &first.federation()).unwrap();
    roster.take_card(card.bytes()).unwrap();
    roster.take_charter(signed_by(&first, |next| next.members[2].root = key(63).public(), &[1, 2]).unwrap().bytes()).unwrap();
    assert!(roster.card(&"vendor-one".parse().unwrap()).is_none());
    let mut renewed = plain_card();
    renewed.serial = 2;
    // K-05: the old root key signs nothing any more; the new one does.
    assert!(roster.take_card(SignedCard::sign(&renewed, &key(13), &first.federation()).unwrap().bytes()).is_err());
    assert!(roster.take_card(SignedCard::sign(&renewed, &key(63), &first.federation()).unwrap().bytes()).is_ok());
}

/// Version 2, in which a member joins with this root key.
fn newcomer_with(first: &SignedCharter, seed: u8) -> SignedCharter {
    let joins = |next: &mut Charter| {
        let mut new = next.members[1].clone();
        (new.id, new.root) = ("xb-police".parse().unwrap(), key(seed).public());
        next.members.push(new);
    };
    signed_by(first, joins, &[1, 2]).unwrap()
}

#[test]
fn x5_a_charter_that_makes_a_key_in_use_a_root_is_refused_whole_and_both_members_stay() {
    let first = charter(|_| ()).unwrap();
    let (vendor, mut roster) = ("vendor-one".parse().unwrap(), Roster::new(first.clone()));
    roster.take_card(SignedCard::sign(&plain_card(), &key(13), &first.federation()).unwrap().bytes()).unwrap();
    let next = newcomer_with(&first, 41);
    let error = roster.take_charter_unless(next.bytes(), |holding| holding.member.as_ref() == Some(&vendor)).unwrap_err();
    assert!(error.to_string().contains("is the node key of `vendor-one` and cannot become the root key of `xb-police`"), "{error}");
    assert_eq!((roster.charter().charter().version, roster.card(&vendor).is_some()), (1, true));
    // The same for whoever proposes or signs it, who need no proof of use.
    let past = roster.past().clone();
    let proposed = Proposal::new(next.charter().clone(), Some(&first), Vec::new(), &past).unwrap_err();
    assert_eq!(proposed, error);
    // A steward without a node has it from the file.
    let harmless = Proposal::new(newcomer_with(&first, 72).charter().clone(), Some(&first), Vec::new(), &past).unwrap();
    let travelled = Proposal::open(&harmless.encode()).unwrap();
    let again = Proposal::new(next.charter().clone(), Some(&first), Vec::new(), travelled.past()).unwrap_err();
    assert_eq!(again, error);
}

#[test]
fn x5_a_key_that_a_card_only_claims_stops_no_charter() {
    // Or any member could see a newcomer's root key in a charter on its way, claim it, and stop that charter.
    let first = charter(|_| ()).unwrap();
    let mut roster = Roster::new(first.clone());
    let mut claims = plain_card();
    claims.nodes[0].key = key(71).public();
    roster.take_card(SignedCard::sign(&claims, &key(13), &first.federation()).unwrap().bytes()).unwrap();
    roster.take_charter(newcomer_with(&first, 71).bytes()).unwrap();
    assert!(roster.card(&"vendor-one".parse().unwrap()).is_none(), "the card that claimed it has no effect any more");
    claims.serial = 2;
    let again = roster.take_card(SignedCard::sign(&claims, &key(13), &first.federation()).unwrap().bytes()).unwrap_err();
    assert!(again.to_string().contains("is the root key of `xb-police`"), "{again}");
}

#[test]
fn x5_keys_of_the_past_belong_to_their_holders_also_after_a_restart() {
    let first = charter(|_| ()).unwrap();
    let mut roster = Roster::new(first.clone());
    let former = plain_card();
    let mut renewed = plain_card();
    (renewed.serial, renewed.nodes[0].key) = (2, key(44).public());
    let sign = |card: &Card, root: u8| SignedCard::sign(card, &key(root), &first.federation()).unwrap().bytes().to_vec();
    let place = tempfile::tempdir().unwrap();
    {
        let (_, mut writer, _) = huecry::ledger::Ledger::open(place.path()).unwrap();
        writer.keep_charter(1, first.bytes()).unwrap();
        for card in [&former, &renewed] {
            roster.take_card(&sign(card, 13)).unwrap();
            writer.keep_card(card, &sign(card, 13)).unwrap();
        }
        writer.close().unwrap();
    }
    let (ledger, _writer, _) = huecry::ledger::Ledger::open(place.path()).unwrap();
    let restored = ledger.roster().unwrap().unwrap();
    let mut other = plain_card();
    (other.member, other.nodes[0].key, other.publishing[0].key) = ("hub".parse().unwrap(), key(41).public(), key(46).public());
    other.channels.truncate(1);
    for mut roster in [roster, restored] {
        let error = roster.take_card(&sign(&other, 11)).unwrap_err();
        assert!(error.to_string().contains("is the node key of `vendor-one` and cannot become the node key of `hub`"), "{error}");
    }
}

#[test]
fn x5_a_charter_that_lost_against_its_rival_leaves_no_claims() {
    let first = charter(|_| ()).unwrap();
    // The same newcomer, once with a mistake in its name.
    let wrong = newcomer_with(&first, 72);
    let joins = |next: &mut Charter| {
        let mut new = next.members[1].clone();
        (new.id, new.root) = ("xb-federal-police".parse().unwrap(), key(72).public());
        next.members.push(new);
    };
    let right = signed_by(&first, joins, &[1, 3]).unwrap();
    let mut roster = Roster::new(first.clone());
    roster.take_charter(wrong.bytes()).unwrap();
    assert_eq!(roster.take_charter(right.bytes()).unwrap(), CharterTaken::Rival);
    let resolving = signed_by(&right, |next| next.resolves = Some(right.hash()), &[1, 2]).unwrap();
    assert_eq!(roster.take_charter(resolving.bytes()).unwrap(), CharterTaken::Next);
    assert!(roster.member(&"xb-federal-police".parse().unwrap()).is_some());
}

#[test]
fn x6_a_circle_that_is_made_again_counts_on_and_the_diff_says_who_reads_what() {
    let first = charter(|_| ()).unwrap();
    let removed = signed_by(&first, |next| next.circles.clear(), &[1, 2]).unwrap();
    let mut past = Past::of(first.charter());
    past.add_charter(removed.charter());
    let mut draft = Draft { charter: removed.charter().clone(), cards: Vec::new() };
    (draft.charter.version, draft.charter.prev) = (3, Some(removed.hash()));
    let text = charter_text(&draft) + "\n[[circle]]\nname = \"finance\"\nhistory = \"closed\"\nmembers = [\"hub\"]\n";
    let again = charter_of_text(&text, Some(&removed), &past, at(DAY_MS)).unwrap().charter;
    assert_eq!((again.circles[0].generation, again.circles[0].members[0].since), (3, 3));
    let words = changes(Some(removed.charter()), &again, &past).join("\n");
    assert!(words.contains("was removed at generation 2: the members cannot read its records"), "{words}");
    let words = changes(Some(first.charter()), removed.charter(), &past).join("\n");
    assert!(words.contains("no new record reaches `xa-police` through it"), "{words}");
    // By hand, with a generation of its first life.
    let mut back = again.clone();
    (back.circles[0].generation, back.circles[0].members[0].since) = (1, 1);
    let error = Proposal::new(back, Some(&removed), Vec::new(), &past).unwrap_err();
    assert!(error.to_string().contains("has had generation 2, and begins again at generation 3"), "{error}");
}

#[test]
fn a_text_read_back_is_the_same_charter_and_its_generations_follow() {
    let first = charter(|_| ()).unwrap();
    let mut next = first.charter().clone();
    (next.version, next.prev, next.issued) = (2, Some(first.hash()), at(DAY_MS));
    let draft = Draft { charter: next.clone(), cards: Vec::new() };
    let read = charter_of_text(&charter_text(&draft), Some(&first), &Past::of(first.charter()), at(DAY_MS)).unwrap();
    assert_eq!(read.charter, next, "an edit that changes nothing changes nothing");
    let joined = charter_text(&draft).replace("members = [\"xa-police\"]", "members = [\"xa-police\", \"hub\"]");
    let read = charter_of_text(&joined, Some(&first), &Past::default(), at(DAY_MS)).unwrap().charter;
    assert_eq!((read.circles[0].generation, read.circles[0].members[1].since), (3, 3));
    let left = charter_text(&draft).replace("members = [\"xa-police\"]", "members = []");
    let read = charter_of_text(&left, Some(&first), &Past::default(), at(DAY_MS)).unwrap().charter;
    assert_eq!((read.circles[0].generation, read.circles[0].members[0].until), (3, Some(2)));
    let words = changes(Some(first.charter()), &read, &Past::default());
    assert!(words.contains(&"circle `finance` loses `xa-police`, generation 3".to_owned()), "{words:?}");
}

#[test]
fn a_bad_text_is_refused_with_its_place() {
    let text = charter_text(&Draft { charter: plain_charter(), cards: Vec::new() });
    let refused = |from: &str, to: &str, words: &str| {
        assert!(text.contains(from), "{from}");
        let error = charter_of_text(&text.replacen(from, to, 1), None, &Past::default(), at(0)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused("threshold = 2", "treshold = 2", "did you mean `threshold`?");
    refused("threshold = 2", "threshold = \"two\"", "line 8");
    refused("version = 1", "version = 4", "this text is of version 4");
    refused("kind = \"vendor\"", "kind = \"vendro\"", "member `vendor-one`: `vendro` is no member kind known here; did you mean `vendor`?");
    refused("after_end = \"purge\"", "after_end = \"burn\"", "agreement `vendor-one-1`");
    refused("expires = \"2026-11-13", "expires = \"2030-11-13", "400 days at most");
}

#[test]
fn what_a_charter_changes_is_said_in_words() {
    let before = plain_charter();
    let said = |change: fn(&mut Charter), words: &str| {
        let mut after = before.clone();
        change(&mut after);
        let lines = changes(Some(&before), &after, &Past::default());
        assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:?}");
    };
    said(|one| one.members[2].root = key(77).public(), "ROOT KEY REPLACED");
    said(|one| one.members[1].revoked = Some(at(0)), "member `xa-police` (xa-police, country XA");
    said(|one| one.members[1].revoked = Some(at(0)), "REVOKED from");
    said(|one| drop(one.members.remove(1)), "removes member `xa-police`");
    said(|one| one.agreements[0].until = at(350 * DAY_MS), "extended from 2026-08-05 to 2026-09-24");
    said(|one| one.agreements[0].tlp_max = Tlp::Red, "its terms were");
    said(|one| drop(one.stewards.remove(2)), "2 of 2 stewards sign from now on, 2 of 3 did");
    said(|one| one.freshness.clear(), "removes freshness key");
    assert!(changes(None, &before, &Past::default())[0].contains("founds the federation"));
}

#[test]
fn t_06_without_a_stamp_for_a_week_the_charter_is_stale_and_any_coordinator_ends_that() {
    let first = charter(|_| ()).unwrap();
    let mut roster = Roster::new(first.clone());
    assert_eq!(roster.freshness(at(7 * DAY_MS)), Freshness::Current, "a young charter needs no stamp");
    assert!(matches!(roster.freshness(at(7 * DAY_MS + 1)), Freshness::Stale { .. }));
    let stamp = SignedStamp::sign(&first, &key(21), at(7 * DAY_MS)).unwrap();
    roster.take_stamp(stamp.bytes()).unwrap();
    assert_eq!(roster.freshness(at(14 * DAY_MS)), Freshness::Current, "a coordinator may be down for a week");
    assert!(SignedStamp::sign(&first, &key(1), at(0)).is_err(), "a steward's key is no stamp key");
}

/// One attempt in a random history.
#[derive(Clone, Debug)]
enum Attempt {
    Steward { replace: usize, by: u8 },
    Threshold(u64),
    Nothing,
}

fn attempt() -> impl Strategy<Value = (Attempt, Vec<u8>, u64)> {
    let what = prop_oneof![
        (0usize..5, 1u8..12).prop_map(|(replace, by)| Attempt::Steward { replace, by }),
        (0u64..7).prop_map(Attempt::Threshold),
        Just(Attempt::Nothing),
    ];
    (what, proptest::collection::btree_set(1u8..12, 0..6).prop_map(|seeds| seeds.into_iter().collect()), 0u64..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever is tried, versions rise by one, and every step was signed by enough distinct stewards of the version
    /// before it and of its own.
    #[test]
    fn no_history_lets_a_stranger_in(attempts in proptest::collection::vec(attempt(), 1..12)) {
        let mut roster = Roster::new(charter(|_| ()).unwrap());
        for (what, seeds, jump) in attempts {
            let before = roster.charter().clone();
            let mut next = before.charter().clone();
            (next.version, next.prev) = (next.version + jump, Some(before.hash()));
            match what {
                Attempt::Steward { replace, by } => {
                    if let Some(one) = next.stewards.get_mut(replace) {
                        *one = Steward { name: format!("steward {by}"), key: key(by + 100).public() };
                    }
                }
                Attempt::Threshold(threshold) => next.threshold = threshold,
                Attempt::Nothing => (),
            }
            // Seeds 1 to 3 are the first stewards, 101 and up those that are brought in.
            let all: Vec<u8> = seeds.iter().flat_map(|seed| [*seed, seed + 100]).collect();
            let keys: Vec<SecretKey> = all.iter().map(|seed| key(*seed)).collect();
            let bytes = huecry::envelope::Cosigned::seal(
                huecry::cbor::to_vec(&next), &keys.iter().collect::<Vec<_>>(), huecry::envelope::Domain::Charter, &before.federation(),
            ).unwrap().bytes().to_vec();
            let taken = roster.take_charter(&bytes);
            let signed = |charter: &Charter| charter.stewards.iter().filter(|one| keys.iter().any(|key| key.public() == one.key)).count() as u64;
            if taken.is_ok() {
                prop_assert_eq!(next.version, before.charter().version + 1);
                prop_assert!(signed(before.charter()) >= before.charter().threshold);
                prop_assert!(signed(&next) >= next.threshold && next.threshold * 2 > next.stewards.len() as u64);
            } else {
                prop_assert_eq!(roster.charter().hash(), before.hash(), "a refused charter changes nothing");
            }
        }
    }
}

#[test]
fn the_hash_of_a_charter_is_of_what_was_signed() {
    let signed = charter(|_| ()).unwrap();
    assert_eq!(signed.hash(), Hash::of(&huecry::cbor::to_vec(&plain_charter())));
}
