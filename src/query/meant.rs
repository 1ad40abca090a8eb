//! Meant: whether a record is one of those that a question asks for, whatever way led to it and however it stands.

use super::{Found, QueryError, Question, Reading, is_source, question};
use crate::{
    intake::value_of,
    ledger::{LedgerError, Lengths, OutcomeLine, Said, says, value_key},
    record::{Record, Tlp},
};
use std::collections::BTreeSet;

/// What a question asks for, understood once.
pub struct Meant<'a> {
    pub(super) question: &'a Question,
    pub(super) said: BTreeSet<(Said, String)>,
    /// What was set aside is meant by what it said before.
    aside_too: bool,
}

impl<'a> Meant<'a> {
    /// Understands a question.
    pub fn of(question: &'a Question) -> Result<Self, QueryError> {
        Ok(Self { question, said: question.said()?, aside_too: false })
    }

    /// The same for one who looks for what does not stand any more: words find that too.
    pub fn whatever_stands(question: &'a Question) -> Result<Self, QueryError> {
        Ok(Self { aside_too: true, ..Self::of(question)? })
    }

    /// Whether a record is meant, as far as its value is concerned too.
    pub fn is_meant_by_value(&self, reading: &mut Reading<'_>, found: &Found) -> Result<bool, QueryError> {
        if self.question.text.is_some() {
            let Some(value) = value_of(&found.record) else { return Ok(false) };
            let (plan, key) = (question::plan(self.question.text.as_deref(), Lengths::ALL)?, value_key(value));
            let speaks_below = matches!(&found.record, Record::Indicator(one) if one.scope == Some(crate::record::Scope::Subdomains));
            if !plan.finds(&key, speaks_below) {
                return Ok(false);
            }
        }
        Ok(self.is_meant(reading, found)?)
    }

    /// Whether a record is meant that was found by its value, if one is asked for.
    pub fn is_meant(&self, reading: &mut Reading<'_>, found: &Found) -> Result<bool, LedgerError> {
        let (question, head) = (self.question, &found.batch.head);
        let received = found.batch.entry.received;
        let meant = question.origin.as_ref().is_none_or(|origin| *origin == head.member)
            && question.channel.as_ref().is_none_or(|channel| *channel == head.channel)
            && question.kind.is_none_or(|kind| value_of(&found.record).is_some_and(|value| value.kind() == kind))
            && question.record.is_none_or(|kind| kind == found.record.kind())
            && question.tlp_max.is_none_or(|tlp| head.tlp <= tlp)
            && question.since.is_none_or(|since| since <= received)
            && question.until.is_none_or(|until| received < until);
        if !meant {
            return Ok(false);
        }
        if let Some(asked) = &question.source {
            let own = match &found.record {
                Record::Indicator(indicator) => indicator.source.as_ref(),
                Record::Report(report) => report.source.as_ref(),
                _ => None,
            };
            let source = match own {
                Some(own) => Some(own),
                None => reading.lent_source(found, question.tlp_max.unwrap_or(Tlp::Red))?,
            };
            if !source.is_some_and(|source| is_source(source, asked)) {
                return Ok(false);
            }
        }
        if self.said.is_empty() {
            return Ok(true);
        }
        // What was never judged has no words in the index, and what was set aside says nothing.
        let aside = found.batch.aside.is_some() && !self.aside_too;
        if aside || !matches!(found.outcome, OutcomeLine::Judged { .. }) {
            return Ok(false);
        }
        let report = match &found.report {
            Some(report) if self.aside_too => reading.named_or_aside(report)?,
            Some(report) => reading.named(report)?,
            None => None,
        };
        // A report above the marking lends no words to its records.
        let report = report.filter(|report| question.tlp_max.is_none_or(|tlp| report.batch.head.tlp <= tlp));
        let said_here = |(what, word): &(Said, String)| {
            says(&found.record, *what, word) || report.as_ref().is_some_and(|report| says(&report.record, *what, word))
        };
        Ok(self.said.iter().all(said_here))
    }
}
