//! `huecry top`: the node on one screen, while it works. No value is shown, so it may hang on a wall.

use super::{Context, Failure, client::Client, print::grouped, runtime};
use crate::{
    clock::Clock,
    http::MemberLine,
    node::enforcer::OutletLine,
    record::{Timestamp, visible},
};
use ratatui::{
    Frame, Terminal,
    backend::TestBackend,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, List, Padding, Paragraph, Row, Sparkline, Table},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io::IsTerminal as _,
    path::Path,
    time::{Duration, Instant},
};

/// Seconds whose rates are remembered: as wide as screens are.
const RATES_MAX: usize = 400;
/// Without a terminal, as large as one usually is.
const SIZE: (u16, u16) = (100, 30);

/// Watch the node: what comes in, who is connected, what is protecting us, what needs somebody.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one screen and end.
    #[arg(long)]
    once: bool,
    /// Seconds between looks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
    every: u32,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut watched = Watched::default();
    if arguments.once || !std::io::stdout().is_terminal() {
        watched.take(look(&context.data)?);
        let side = |name: &str, usual: u16| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual).clamp(40, 400);
        let (wide, high) = (side("COLUMNS", SIZE.0), side("LINES", SIZE.1));
        context.screen.value(&watched.status);
        watched.text(wide, high).map_err(Failure::environment)?.lines().for_each(|row| context.screen.line(row));
        return Ok(());
    }
    let mut terminal = ratatui::try_init().map_err(Failure::environment)?;
    let outcome = watch(&mut terminal, &context.data, &mut watched, Duration::from_secs(arguments.every.into()));
    ratatui::restore();
    outcome
}

fn watch(terminal: &mut ratatui::DefaultTerminal, data: &Path, watched: &mut Watched, every: Duration) -> Result<(), Failure> {
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            // A node that is away is said to be, and looked for again.
            match look(data) {
                Ok(seen) if !watched.paused => watched.take(seen),
                Ok(_) => (),
                Err(failure) => watched.failure = Some(failure.text),
            }
            due = Instant::now() + every;
        }
        terminal.draw(|frame| watched.draw(frame)).map_err(Failure::environment)?;
        if !event::poll(due.saturating_duration_since(Instant::now())).map_err(Failure::environment)? {
            continue;
        }
        let Event::Key(key) = event::read().map_err(Failure::environment)? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
            KeyCode::Char('p') | KeyCode::Char(' ') => watched.paused = !watched.paused,
            KeyCode::Down | KeyCode::Char('j') => watched.first = (watched.first + 1).min(watched.members.len().saturating_sub(1)),
            KeyCode::Up | KeyCode::Char('k') => watched.first = watched.first.saturating_sub(1),
            KeyCode::Home => watched.first = 0,
            _ => (),
        }
    }
}

/// One look at the node.
struct Seen {
    status: Value,
    members: Vec<MemberLine>,
    outlets: Vec<OutletLine>,
    at: Instant,
    now: Timestamp,
}

fn look(data: &Path) -> Result<Seen, Failure> {
    runtime()?.block_on(async {
        let client = Client::open(data).await?;
        let none = json!({});
        let seen = Seen {
            status: client.get("/v1/status", &none).await?,
            members: client.get("/v1/members", &none).await?,
            outlets: client.get("/v1/outlets", &none).await?,
            at: Instant::now(),
            now: Clock::System.now(),
        };
        client.close().await?;
        Ok(seen)
    })
}

/// What is on the screen.
#[derive(Default)]
struct Watched {
    status: Value,
    members: Vec<MemberLine>,
    outlets: Vec<OutletLine>,
    /// When it was looked last, and how many records had come by then.
    last: Option<(Instant, u64)>,
    now: Timestamp,
    rates: VecDeque<u64>,
    /// The first member that is shown.
    first: usize,
    paused: bool,
    failure: Option<String>,
}

impl Watched {
    fn take(&mut self, seen: Seen) {
        let records = seen.status.get("records").and_then(Value::as_u64).unwrap_or_default();
        if let Some((at, before)) = self.last {
            let ms = u64::try_from(seen.at.duration_since(at).as_millis()).unwrap_or(u64::MAX).max(1);
            self.rates.push_back(records.saturating_sub(before).saturating_mul(1_000) / ms);
            self.rates.drain(..self.rates.len().saturating_sub(RATES_MAX));
        }
        (self.last, self.now, self.failure) = (Some((seen.at, records)), seen.now, None);
        (self.status, self.members, self.outlets) = (seen.status, seen.members, seen.outlets);
        // Those with something to say first, then by name.
        self.members
            .sort_by(|one, other| (other.behind, !other.nodes.is_empty(), &one.id).cmp(&(one.behind, !one.nodes.is_empty(), &other.id)));
    }

    fn at(&self, path: &str) -> &Value {
        self.status.pointer(path).unwrap_or(&Value::Null)
    }

    fn text_at(&self, path: &str) -> String {
        visible(self.at(path).as_str().unwrap_or_default())
    }

    fn number_at(&self, path: &str) -> u64 {
        self.at(path).as_u64().unwrap_or_default()
    }

    /// How long ago something was, in its largest unit.
    fn ago(&self, time: Option<&str>) -> String {
        let Some(time) = time.and_then(Timestamp::parse) else { return "never".to_owned() };
        let seconds = self.now.ms_since(time) / 1_000;
        match seconds {
            0..120 => format!("{seconds} s"),
            120..7_200 => format!("{} min", seconds / 60),
            7_200..172_800 => format!("{} h", seconds / 3_600),
            _ => format!("{} d", seconds / 86_400),
        }
    }

    /// What needs somebody, the worst first.
    fn needs(&self) -> Vec<(Style, String)> {
        let act = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let look = Style::new().fg(Color::Yellow);
        let mut needs: Vec<(Style, String)> = Vec::new();
        needs.extend(self.failure.iter().map(|failure| (act, failure.clone())));
        let texts =
            |path: &str| self.at(path).as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        needs.extend(texts("/alarms").into_iter().map(|text| (act, text)));
        if self.at("/charter").as_str().is_some_and(|charter| charter != "current") {
            needs.push((act, format!("the charter is {}", self.text_at("/charter"))));
        }
        for outlet in &self.outlets {
            needs.extend(outlet.failure.as_ref().map(|why| (act, format!("outlet {}: {why}", outlet.name))));
            needs.extend(outlet.stopped.as_ref().map(|scope| (look, format!("outlet {} is stopped with {scope}", outlet.name))));
            let capped = outlet.origins.iter().filter(|origin| origin.at_cap);
            needs.extend(capped.map(|origin| (look, format!("{} has used up the hour's additions at {}", origin.origin, outlet.name))));
        }
        let held = self.number_at("/counts/held");
        let wait = if held == 1 { "record waits" } else { "records wait" };
        needs.extend((held > 0).then(|| (look, format!("{} {wait} for a decision: huecry held list", grouped(held)))));
        needs.extend(texts("/ending").into_iter().map(|text| (look, text)));
        needs.into_iter().map(|(style, text)| (style, visible(&text))).collect()
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let needs = self.needs();
        let room = u16::try_from(needs.len().clamp(1, 6)).unwrap_or(6) + 2;
        let outlets = u16::try_from(self.outlets.len().clamp(1, 8)).unwrap_or(8) + 3;
        let parts = [Constraint::Length(1), Constraint::Length(6), Constraint::Length(room), Constraint::Length(outlets)];
        let parts = [&parts[..], &[Constraint::Min(4), Constraint::Length(1)]].concat();
        let [head, records, need, protecting, members, foot] = *Layout::vertical(parts).split(frame.area()) else { return };
        let quiet = Style::new().add_modifier(Modifier::DIM);
        let name = format!("{} ({})", self.text_at("/member"), self.text_at("/federation_name"));
        let running = match self.at("/running") {
            Value::Bool(true) => format!("up {}", self.ago(self.at("/since").as_str())),
            _ => "not running".to_owned(),
        };
        let rest = format!("   charter {}, {}   {running}   {}", self.number_at("/charter_version"), self.text_at("/charter"), self.now);
        frame.render_widget(Line::from(vec![Span::styled(name, Modifier::BOLD), Span::styled(rest, quiet)]), head);
        self.draw_records(frame, records);
        let lines: Vec<Line<'_>> = match needs.is_empty() {
            true => vec![Line::styled("nothing", Style::new().fg(Color::Green))],
            false => needs.into_iter().map(|(style, text)| Line::styled(text, style)).collect(),
        };
        frame.render_widget(List::new(lines).block(titled("Needs somebody")), need);
        self.draw_outlets(frame, protecting);
        self.draw_members(frame, members);
        let paused = if self.paused { "PAUSED   " } else { "" };
        frame.render_widget(Line::styled(format!("{paused}q leaves   p pauses   arrows move through the members"), quiet), foot);
    }

    fn draw_records(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = titled("Records");
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [left, right] = *Layout::horizontal([Constraint::Length(44), Constraint::Min(10)]).split(inner) else { return };
        let count = |path: &str| grouped(self.number_at(path));
        let rate = self.rates.back().copied().unwrap_or_default();
        let lines = vec![
            Line::from(vec![
                Span::styled(grouped(self.number_at("/records")), Modifier::BOLD),
                Span::raw(" here, "),
                Span::raw(format!("{}/s", grouped(rate))),
            ]),
            Line::raw(format!("{} accepted", count("/counts/accepted"))),
            Line::raw(format!("{} held, {} waiting", count("/counts/held"), count("/counts/waiting"))),
            Line::raw(format!("{} refused, {} malformed", count("/counts/refused"), count("/counts/bad"))),
        ];
        frame.render_widget(Paragraph::new(lines), left);
        let wide = usize::from(right.width);
        let rates: Vec<u64> = self.rates.iter().rev().take(wide).rev().copied().collect();
        frame.render_widget(Sparkline::default().data(rates).style(Style::new().fg(Color::Cyan)), right);
    }

    fn draw_outlets(&self, frame: &mut Frame<'_>, area: Rect) {
        let row = |outlet: &OutletLine| {
            let sum = |of: fn(&crate::enforce::StageCounts) -> usize| {
                grouped(outlet.origins.iter().map(|origin| of(&origin.counts) as u64).sum())
            };
            let mode = if outlet.stopped.is_some() { "STOPPED".to_owned() } else { outlet.mode.clone() };
            let cells = [
                outlet.name.clone(),
                outlet.kind.clone(),
                mode,
                grouped(outlet.lines as u64),
                sum(|counts| counts.staged),
                sum(|counts| counts.monitored),
                self.ago(outlet.written.as_deref()),
            ];
            let style = if outlet.failure.is_some() { Style::new().fg(Color::Red) } else { Style::new() };
            Row::new(cells.map(|cell: String| visible(&cell))).style(style)
        };
        let wide = [Constraint::Min(12), Constraint::Length(10), Constraint::Length(9)];
        let wide = [&wide[..], &[Constraint::Length(11); 3], &[Constraint::Length(9)]].concat();
        let head = Row::new(["outlet", "kind", "mode", "lines", "staged", "watched", "written"]).style(Modifier::DIM);
        let rows: Vec<Row<'_>> = self.outlets.iter().map(row).collect();
        let block = titled("Protecting");
        match rows.is_empty() {
            true => frame.render_widget(Paragraph::new("no tool is connected: [[outlets]] in node.toml").block(block), area),
            false => frame.render_widget(Table::new(rows, wide).header(head).block(block), area),
        }
    }

    fn draw_members(&self, frame: &mut Frame<'_>, area: Rect) {
        let row = |member: &MemberLine| {
            let (state, style) = match (member.own, member.nodes.len(), member.behind) {
                (true, ..) => ("this node".to_owned(), Style::new()),
                (_, 0, _) => ("silent".to_owned(), Style::new().add_modifier(Modifier::DIM)),
                (_, nodes, 0) => (format!("{nodes} connected"), Style::new().fg(Color::Green)),
                (_, nodes, behind) => (format!("{nodes} connected, {} behind", grouped(behind)), Style::new().fg(Color::Yellow)),
            };
            let cells = [
                member.id.clone(),
                state,
                grouped(member.records),
                grouped(member.accepted),
                grouped(member.held),
                self.ago(member.newest.as_deref()),
            ];
            Row::new(cells.map(|cell: String| visible(&cell))).style(style)
        };
        let wide = [Constraint::Min(16), Constraint::Length(26)];
        let wide = [&wide[..], &[Constraint::Length(12); 3], &[Constraint::Length(9)]].concat();
        let head = Row::new(["member", "state", "records", "accepted", "held", "newest"]).style(Modifier::DIM);
        let rows: Vec<Row<'_>> = self.members.iter().skip(self.first).map(row).collect();
        let connected = self.members.iter().filter(|member| !member.own && !member.nodes.is_empty()).count();
        let others = self.members.iter().filter(|member| !member.own).count();
        let title = format!("Federation: {connected} of {others} others connected");
        frame.render_widget(Table::new(rows, wide).header(head).block(titled(&title)), area);
    }

    /// The screen as text.
    fn text(&self, wide: u16, high: u16) -> Result<String, std::convert::Infallible> {
        let mut terminal = Terminal::new(TestBackend::new(wide, high))?;
        terminal.draw(|frame| self.draw(frame))?;
        let buffer = terminal.backend().buffer();
        let row = |y: u16| (0..wide).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect::<String>();
        let rows: Vec<String> = (0..high).map(|y| row(y).trim_end().to_owned()).collect();
        Ok(rows.join("\n"))
    }
}

fn titled(title: &str) -> Block<'_> {
    Block::new().borders(Borders::TOP).title(Span::styled(format!(" {title} "), Modifier::BOLD)).padding(Padding::horizontal(1))
}
