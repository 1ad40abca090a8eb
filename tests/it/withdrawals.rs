//! Withdrawals: before their target, after a rebuild, again and again, and more of them than anybody has records.

use crate::partnership::{Node, founded_by_hand};
use huecry::{
    envelope::Class,
    intake::Placed,
    node::door::{Arrived, DoorError, TakeBack},
    query::Standing,
    record::*,
    replica::Served,
};

fn carry(from: &Node, to: &mut Node, seq: u64) -> Result<(), String> {
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let batch = from.ledger.batch_at(&feed, seq).unwrap().unwrap();
    let intake = to.current.get();
    let head = match to.door.place(&intake, &batch.entry.head).map_err(|refusal| refusal.code.to_owned())? {
        Placed::Next(head) | Placed::Ahead { head, .. } | Placed::Gap(head) => head,
        other => return Err(format!("{other:?}").split('(').next().unwrap().to_owned()),
    };
    let served = Served { body: batch.entry.body.to_vec(), withheld: 0, path: Vec::new(), from: [7; 32] };
    let beyond = batch.head.class == Class::Removal;
    let done = to.door.batch(*Arrived::of(Box::new(head), served, beyond));
    to.door.commit().unwrap();
    to.door.write_index().unwrap();
    done.map_err(|error| match error {
        DoorError::Refused(refusal) => refusal.code.to_owned(),
        other => other.to_string(),
    })
}

fn withdraw(node: &mut Node, targets: Vec<RecordRef>) {
    node.door.withdraw(TakeBack { targets, reason: Reason::Wrong, note: None }, &mut Vec::new()).unwrap();
    node.door.commit().unwrap();
}

#[test]
fn c_07_c_08_a_withdrawal_that_comes_first_keeps_its_target_dead_over_replays_and_rebuilds() {
    let place = tempfile::tempdir().unwrap();
    let (mut police, mut vendor, now) = founded_by_hand(place.path());
    vendor.publish("one.example").unwrap();
    vendor.publish("two.example").unwrap();
    withdraw(&mut vendor, vec!["vendor-one/c2#1.0".parse().unwrap()]);
    // The withdrawal overtakes what it takes back.
    carry(&vendor, &mut police, 3).unwrap();
    carry(&vendor, &mut police, 1).unwrap();
    carry(&vendor, &mut police, 2).unwrap();
    assert_eq!(police.standing("one.example", now), Some(Standing::Withdrawn), "never active, not for a moment");
    assert_eq!(police.standing("two.example", now), Some(Standing::Accepted));
    // The original again, after the withdrawal: it is known, and stays what it is.
    assert_eq!(carry(&vendor, &mut police, 1), Err("Known".to_owned()));
    // State and index are derived: the journal alone says the same.
    let (path, roster) = (place.path().join("police"), std::sync::Arc::clone(&police.current.get().roster));
    drop(police);
    for derived in ["state", "index"] {
        std::fs::remove_dir_all(path.join("ledger").join(derived)).unwrap();
    }
    let mut police = Node::new(&path, "xa-police", (32, 42), &roster, &huecry::clock::Clock::Driven(std::sync::Arc::new(now.ms().into())));
    assert_eq!(police.standing("one.example", now), Some(Standing::Withdrawn));
    assert_eq!(carry(&vendor, &mut police, 1), Err("Known".to_owned()));
    assert_eq!(police.standing("one.example", now), Some(Standing::Withdrawn));
}

#[test]
fn c_10_withdrawals_of_what_nobody_has_are_held_to_a_quota_and_others_pass() {
    let place = tempfile::tempdir().unwrap();
    let (mut police, mut vendor, _) = founded_by_hand(place.path());
    // The vendor's own node has the records, so that it can take them back; the police have never heard of them.
    let values: Vec<String> = (0..256).map(|number| format!("n{number}.example")).collect();
    for _ in 0..400 {
        vendor.publish_all(&values).unwrap();
    }
    vendor.publish("known.example").unwrap();
    carry(&vendor, &mut police, 401).unwrap_err();
    let mut targets = Vec::new();
    for seq in 1..=400 {
        targets.extend((0..256).map(|index| RecordRef { feed: "vendor-one/c2".parse().unwrap(), seq, index }));
    }
    for chunk in targets.chunks(51_200) {
        withdraw(&mut vendor, chunk.to_vec());
    }
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let last = vendor.ledger.feed(&feed).unwrap().last();
    let mut refused = 0;
    for seq in 402..=last {
        match carry(&vendor, &mut police, seq) {
            Ok(()) => (),
            Err(code) => {
                assert_eq!(code, "removal-quota");
                refused += 1;
            }
        }
    }
    let taken = last - 401 - refused;
    assert!(taken >= 1 && taken * 256 <= 50_000 && refused > 0, "{taken} of {} batches of withdrawals were taken", last - 401);
    // When the targets have come the rest is no invention any more.
    for seq in 1..=401 {
        carry(&vendor, &mut police, seq).unwrap();
    }
    for seq in 402..=last {
        let _taken_before = carry(&vendor, &mut police, seq);
    }
    assert_eq!(police.ledger.feed(&feed).unwrap().spans.count(), last);
}
