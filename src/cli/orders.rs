//! What the verbs that order something about enforcement have in common.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    clock::Clock,
    enforce::Order,
    http::{OrderParameters, OrderReply},
    record::{DAY_MS, HOUR_MS, Timestamp},
};

/// Gives an order and prints what came of it.
pub fn give(context: &Context, parameters: &OrderParameters, done: &str) -> Result<OrderReply, Failure> {
    let reply: OrderReply = Client::with(&context.data, async |client| client.post("/v1/order", parameters).await)?;
    if reply.done {
        context.screen.line(done);
    }
    for (outlet, lines) in &reply.outlets {
        context.screen.line(&format!("  outlet {outlet}: {} lines now", grouped(*lines as u64)));
    }
    context.screen.value(&reply);
    if !reply.failures.is_empty() {
        let text = format!("the order stands, but an export did not reach its tool: {}", reply.failures.join("; "));
        return Err(Failure::environment(text));
    }
    Ok(reply)
}

/// A plain order, which takes one person.
pub fn plain(order: Order) -> OrderParameters {
    OrderParameters { order, tell_author: false, operator: None, signature: None }
}

/// A moment as people say it: `2026-12-31`, `2026-12-31T18:00:00Z`, or how long from now: `12h`, `7d`.
pub fn moment(text: &str) -> Result<Timestamp, Failure> {
    let now = Clock::System.now();
    span(text).map(|ms| now.plus_ms(ms)).or_else(|| Timestamp::parse(text)).ok_or_else(|| no_time(text))
}

/// The same, but `12h` and `7d` are that long ago.
pub fn ago(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    span(text).map(|ms| now.minus_ms(ms)).or_else(|| Timestamp::parse(text)).ok_or_else(|| no_time(text))
}

fn span(text: &str) -> Option<u64> {
    let unit = |unit: char, ms: u64| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(ms);
    unit('d', DAY_MS).or_else(|| unit('h', HOUR_MS))
}

fn no_time(text: &str) -> Failure {
    Failure::usage(format!("`{text}` is no time; write 12h, 7d, 2026-12-31 or 2026-12-31T18:00:00Z"))
}
