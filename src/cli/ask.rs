//! `huecry ask` and `huecry sighting`: a question to an audience, and what one has to say in answer.

use super::{Context, Failure, client::Client, print::grouped};
use crate::{
    http::{AskParameters, QuestionLine, QuestionsFilter, Said, SightingParameters},
    node::membership::INDICATORS,
};

/// Ask a channel's readers "who has seen this?"; without a question, show what is asked and what was answered.
#[derive(clap::Args)]
pub struct Arguments {
    /// The value that it is about, in any spelling; or the name of a question, to see its answers.
    #[arg(value_name = "VALUE|REF")]
    about: Option<String>,
    /// The question in words.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    #[arg(long, default_value = INDICATORS)]
    channel: String,
    /// clear, green, amber, amber+strict or red.
    #[arg(long, default_value = "green")]
    tlp: String,
    /// How long answers are of use.
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Only our own questions.
    #[arg(long, conflicts_with_all = ["about", "text"])]
    ours: bool,
    /// Also questions that are over, held, refused or withdrawn.
    #[arg(long, conflicts_with_all = ["about", "text"])]
    all: bool,
    /// Ask although no other member has told this node its own last head since the start.
    #[arg(long)]
    alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[arg(long)]
    anyway: bool,
}

/// Say that a value or a record was seen, is harmless, or is over: in a channel of ours, or among the record's own readers.
#[derive(clap::Args)]
pub struct SightingArguments {
    /// A record, such as a question, or a value.
    #[arg(value_name = "REF|VALUE")]
    of: String,
    /// seen, false-positive or expired.
    #[arg(long, default_value = "seen", value_name = "WORD")]
    say: String,
    /// How often.
    #[arg(long)]
    count: Option<u64>,
    /// Where: a country's two letters.
    #[arg(long)]
    country: Option<String>,
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Left out for a record: the channel of ours that reaches its author and none but its readers.
    #[arg(long)]
    channel: Option<String>,
    /// Left out for a record: its own marking.
    #[arg(long)]
    tlp: Option<String>,
    /// Say it although no other member has told this node its own last head since the start.
    #[arg(long)]
    alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[arg(long)]
    anyway: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { about, text, channel, tlp, days, ours, all, alone, anyway } = arguments;
    let what = about.clone().filter(|about| text.is_none() && about.contains('#'));
    if what.is_some() || (about.is_none() && text.is_none()) {
        return show(context, &QuestionsFilter { what, ours, all });
    }
    let text = text.unwrap_or_else(|| "Who has seen this?".to_owned());
    let parameters = AskParameters { value: about, text, channel, tlp, days, alone, anyway };
    let said: Said = Client::with(&context.data, async |client| client.post("/v1/ask", &parameters).await)?;
    told(context, &said, "asked");
    if let Some(reference) = &said.reference {
        context.screen.note(&format!("answers: huecry ask {reference}"));
    }
    Ok(())
}

pub(super) fn sighting(context: &Context, arguments: SightingArguments) -> Result<(), Failure> {
    let SightingArguments { of, say, count, country, note, channel, tlp, alone, anyway } = arguments;
    let parameters = SightingParameters { of, sighting: say, count, country, note, channel, tlp, alone, anyway };
    let said: Said = Client::with(&context.data, async |client| client.post("/v1/sighting", &parameters).await)?;
    told(context, &said, "said");
    Ok(())
}

fn told(context: &Context, said: &Said, word: &str) {
    let screen = &context.screen;
    screen.value(said);
    let members = if said.reaches == 1 { "one other member".to_owned() } else { format!("{} other members", said.reaches) };
    match &said.reference {
        Some(reference) => screen.line(&format!("{word} {reference}, {}, to {members}", said.tlp)),
        None => screen.line(&format!("queued for {}, {}; nothing is signed yet", said.channel, said.tlp)),
    }
}

fn show(context: &Context, filter: &QuestionsFilter) -> Result<(), Failure> {
    let lines: Vec<QuestionLine> = Client::with(&context.data, async |client| client.get("/v1/questions", filter).await)?;
    let screen = &context.screen;
    screen.value(&lines);
    for line in &lines {
        let about = line.value.as_ref().map(|value| format!("{value}: ")).unwrap_or_default();
        let until = line.until.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
        screen.line(&format!("{}  {}  {about}{}", line.reference, line.tlp, line.text));
        screen.line(&format!("    asked by {} of {} at {}{until}", line.from, line.audience, line.asked));
        for answer in &line.answers {
            let place = answer.country.as_ref().map(|country| format!(" in {country}")).unwrap_or_default();
            let note = answer.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            screen.line(&format!(
                "    {}  {} {}x{place} at {} ({}){note}",
                answer.from,
                answer.sighting,
                grouped(answer.count),
                answer.at,
                answer.reference
            ));
        }
        if line.answers.is_empty() {
            screen.line("    nobody has answered yet");
        }
    }
    if lines.is_empty() { Err(Failure::nothing("no question is open here")) } else { Ok(()) }
}
