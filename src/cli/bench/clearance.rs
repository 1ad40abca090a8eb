//! `bench clearance`: does the time of an answer tell that a value is hidden? A hidden value and an absent one are asked in turn, by a
//! reader with a lower clearance; a control asks two absent ones.

use super::{Place, Values};
use crate::{
    cli::{Context, Failure, print::grouped},
    clock::Clock,
    envelope::Class,
    node::{
        door::{Publication, ReportOf},
        membership::IMPORTED,
        setup,
    },
    query::{self, Question},
    record::{Indicator, Observable, Record, Tlp},
    sim::Dice,
};
use serde_json::json;
use std::time::Instant;

/// Questions of each kind that are timed.
const QUESTIONS: usize = 200_000;
/// Questions of each kind whose medians are compared with each other.
const BLOCK: usize = 1_000;
/// Smallest difference that can be seen through a socket, in microseconds.
const INVISIBLE_US: f64 = 2.0;

/// The store that is asked.
#[derive(clap::Args)]
pub struct Arguments {
    /// Indicators that the reader may see.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Indicators above the reader's clearance.
    #[arg(long, default_value_t = 50_000)]
    hidden: u64,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let place = Place::new(None)?;
    super::ingest(context, &Values::made(arguments.records), Some(place.path.clone()))?;
    let mut opened = setup::open(&place.path.join("node"), Clock::System)?;
    let hidden = |number: u64| format!("hidden-{number}.example");
    let all: Vec<u64> = (0..arguments.hidden).collect();
    for chunk in all.chunks(50_000) {
        let record = |number: &u64| Observable::recognise(&hidden(*number)).map(|value| Record::Indicator(Indicator::of(value, None)));
        let records = chunk.iter().map(record).collect::<Result<_, _>>().map_err(Failure::environment)?;
        let channel = IMPORTED.parse().map_err(Failure::environment)?;
        let publication = Publication { channel, tlp: Tlp::Red, class: Class::Content, report: ReportOf::None, records };
        opened.door.publish(publication, &mut Vec::new()).map_err(Failure::environment)?;
        opened.door.commit().map_err(Failure::environment)?;
    }
    opened.door.write_index().map_err(Failure::environment)?;
    opened.ledger.remember_known().join().map_err(|_| Failure::environment("the thread that walks through the index ended"))?;
    opened.ledger.settle_index().map_err(Failure::environment)?;
    let (mut dice, intake, now) = (Dice::new(13), opened.current.get(), Clock::System.now());
    let ask = |text: String| -> Result<f64, Failure> {
        let question = Question { text: Some(text), tlp_max: Some(Tlp::Green), ..Question::default() };
        let begun = Instant::now();
        let answer = query::answer_at_once(&opened.ledger, &intake, &question, Tlp::Green, now).map_err(Failure::environment)?;
        let took = begun.elapsed().as_nanos() as f64 / 1_000.0;
        match answer {
            Some(answer) if answer.values.is_empty() => Ok(took),
            _ => Err(Failure::environment("a hidden or absent value was answered")),
        }
    };
    // Equal length and form: only its presence differs.
    let absent = |dice: &mut Dice| format!("absent-{}.example", dice.below(arguments.hidden));
    let (mut differences, mut controls, mut medians) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    for block in 0..QUESTIONS / BLOCK {
        let mut took = [(); 4].map(|()| Vec::with_capacity(BLOCK));
        for number in 0..BLOCK {
            let texts = [hidden(dice.below(arguments.hidden)), absent(&mut dice), absent(&mut dice), absent(&mut dice)];
            // The first of the four finds colder caches.
            for at in 0..4 {
                let at = (at + number) % 4;
                if let (Some(took), Some(text)) = (took.get_mut(at), texts.get(at)) {
                    took.push(ask(text.clone())?);
                }
            }
        }
        let [hidden, absent, one, other] = took.map(median);
        // The first block fills the caches.
        if block > 0 {
            differences.push(hidden - absent);
            controls.push((one - other).abs());
            medians.iter_mut().zip([hidden, absent]).for_each(|(all, one)| all.push(one));
        }
    }
    let [hidden, absent] = medians.map(median);
    controls.sort_by(f64::total_cmp);
    let control = controls.get(controls.len() * 95 / 100).copied().unwrap_or_default();
    let difference = median(differences).abs();
    let invisible = difference <= control.max(INVISIBLE_US);
    context.screen.line(&format!(
        "clearance: of {} indicators, {} of them hidden: hidden {hidden:.2} us, absent {absent:.2} us, difference {difference:.3} us; \
         control's 95th percentile {control:.3} us",
        grouped(arguments.records + arguments.hidden),
        grouped(arguments.hidden),
    ));
    context.screen.value(&json!({
        "records": arguments.records, "hidden": arguments.hidden, "hidden_us": hidden, "absent_us": absent, "difference_us": difference,
        "control_p95_us": control, "invisible": invisible,
    }));
    opened.door.close().map_err(Failure::environment)?;
    if invisible { Ok(()) } else { Err(Failure::nothing("the time of an answer tells that a value is hidden")) }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}
