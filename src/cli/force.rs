//! `huecry force`: enforce what a list protects, by the keys of two operators.

use super::{Context, Failure, key, orders};
use crate::{
    clock::Clock,
    enforce::Order,
    http::{OrderParameters, force_text},
};
use std::path::PathBuf;

/// Let the policies decide about a value although a list protects it. Two operators run this with their keys, the same day.
#[derive(clap::Args)]
pub struct Arguments {
    value: String,
    #[arg(long, required_unless_present = "undo")]
    reason: Option<String>,
    /// Until when: a date, the same for both of you.
    #[arg(long, value_name = "DATE", required_unless_present = "undo")]
    until: Option<String>,
    /// Your name among the operators.
    #[arg(long, required_unless_present = "undo")]
    operator: Option<String>,
    /// Your operator key's file.
    #[arg(long, value_name = "FILE", required_unless_present = "undo")]
    key: Option<PathBuf>,
    /// Protect it again; this takes one person.
    #[arg(long)]
    undo: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let value = arguments.value;
    let (Some(reason), Some(until), Some(operator), Some(path)) = (arguments.reason, arguments.until, arguments.operator, arguments.key)
    else {
        let done = format!("{value}: protected again");
        return orders::give(context, &orders::plain(Order::Unforce { value }), &done).map(|_| ());
    };
    let until = orders::moment(&until)?;
    let text = force_text(&value, until, &reason).ok_or_else(|| Failure::usage(format!("`{value}` is no value")))?;
    let signature = key::signed_decision(context, &path, &text, Clock::System.now())?;
    let order = Order::Force { value: value.clone(), reason, until };
    let parameters = OrderParameters { order, tell_author: false, operator: Some(operator), signature: Some(signature) };
    let reply = orders::give(context, &parameters, &format!("{value}: the policies decide, whatever lists say, until {until}"))?;
    if !reply.done {
        context.screen.line(&format!("{value}: signed; a second operator must run the same today, with the same reason and date"));
    }
    Ok(())
}
