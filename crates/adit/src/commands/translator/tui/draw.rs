//! The table as characters on a screen.

use core::time::Duration;
use std::borrow::Cow;
use std::fmt::Write as _;

use adit_dashboard::plain;
use adit_translator::{MachineStatus, UpstreamState, UpstreamStatus};
use adit_units::Hashrate;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::columns::{Column, ago, fit, short};
use super::view::{LONG_COINBASE, View};

/// Most upstreams that are shown.
const UPSTREAMS_SHOWN: usize = 4;
/// Lines that the machines keep, however short the terminal is.
const MACHINES_LEAST: u16 = 3;
/// A machine whose last accepted share is older stands out.
const SILENT_AFTER: Duration = Duration::from_secs(300);

const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const LOUD: Style = Style::new().add_modifier(Modifier::BOLD);
const WRONG: Style = Style::new().fg(Color::Red);
const DOUBTFUL: Style = Style::new().fg(Color::Yellow);
const GOOD: Style = Style::new().fg(Color::Green);

/// Draws everything.
pub(super) fn draw(view: &mut View, area: Rect, buffer: &mut Buffer) {
    let mut page = Page { buffer, area, next: area.y };
    let head = head(view);
    // Heading and footer take a line each.
    let spare = area.height.saturating_sub(MACHINES_LEAST + 2);
    for (text, style) in head.into_iter().take(usize::from(spare)) {
        page.line(&text, style);
    }
    let columns = fit(area.width);
    page.heading(view, &columns);
    let height = page.left().saturating_sub(1);
    view.set_height(usize::from(height));
    for machine in view.visible() {
        page.machine(machine, &columns);
    }
    page.next = area.bottom().saturating_sub(1).max(area.y);
    page.footer(view);
}

/// Totals and upstreams, the most important line first.
fn head(view: &View) -> Vec<(String, Style)> {
    let status = view.status();
    let hashrate = status.machines.iter().map(|machine| machine.hashrate.to_hashes_per_second());
    let hashrate = Hashrate::from_hashes_per_second(hashrate.fold(0, u64::saturating_add));
    let shares = &status.shares;
    let mut lines = vec![(
        format!(
            "{hashrate}  {} machines  {} accepted  {} stale  {} refused  {} blocks  up {}",
            status.machines.len(),
            short(shares.accepted),
            short(shares.stale),
            short(shares.refused().saturating_sub(shares.stale)),
            shares.blocks,
            ago(status.uptime)
        ),
        LOUD,
    )];
    let in_use_first = |upstream: &&UpstreamStatus| upstream.state != UpstreamState::InUse;
    let mut upstreams: Vec<&UpstreamStatus> = status.upstreams.iter().collect();
    upstreams.sort_by_key(in_use_first);
    lines.extend(upstreams.iter().take(UPSTREAMS_SHOWN).map(|upstream| upstream_line(upstream)));
    if let Some(more) = upstreams.len().checked_sub(UPSTREAMS_SHOWN).filter(|more| *more > 0) {
        lines.push((format!("  and {more} more pools"), QUIET));
    }
    let overlong = status.machines.iter().filter(|machine| machine.long_coinbase.is_some()).count();
    if overlong > 0 {
        let text = format!(
            "! {overlong} machines get coinbases that are too long for such devices: /{LONG_COINBASE} shows them"
        );
        lines.push((text, WRONG));
    }
    lines
}

fn upstream_line(upstream: &UpstreamStatus) -> (String, Style) {
    let (mark, state, style) = match &upstream.state {
        UpstreamState::InUse => ('*', "in use".to_owned(), GOOD),
        UpstreamState::Connecting => ('.', "connecting".to_owned(), DOUBTFUL),
        UpstreamState::Failed { reason } => ('!', plain(reason).into_owned(), WRONG),
        UpstreamState::Idle => (' ', "idle".to_owned(), QUIET),
    };
    let shares = &upstream.shares;
    let text = format!(
        "{mark} {}  {state}  {} accepted  {} refused  {} lost  {} pending  {}",
        plain(&upstream.address),
        short(shares.accepted),
        short(shares.refused),
        short(shares.lost),
        short(shares.pending),
        plain(&upstream.user),
    );
    (text, style)
}

/// What remains of the screen.
struct Page<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    /// The next free line.
    next: u16,
}

impl Page<'_> {
    fn left(&self) -> u16 {
        self.area.bottom().saturating_sub(self.next)
    }

    /// Writes a line, cut where the screen ends.
    fn line(&mut self, text: &str, style: Style) {
        if self.left() > 0 {
            let width = usize::from(self.area.width);
            self.buffer.set_stringn(self.area.x, self.next, text, width, style);
            self.next += 1;
        }
    }

    /// Writes texts into their columns; `cell` gives each.
    fn row<'t>(&mut self, columns: &[(Column, u16)], mut cell: impl FnMut(Column) -> (Cow<'t, str>, Style)) {
        if self.left() == 0 {
            return;
        }
        let mut x = self.area.x;
        for (column, width) in columns {
            let (text, style) = cell(*column);
            // Numbers are ASCII, so that their length is their width.
            let indent = if column.is_number() {
                width.saturating_sub(u16::try_from(text.len()).unwrap_or(u16::MAX))
            } else {
                0
            };
            self.buffer.set_stringn(x + indent, self.next, &text, usize::from(width - indent), style);
            x = x.saturating_add(width + 1);
        }
        self.next += 1;
    }

    fn heading(&mut self, view: &View, columns: &[(Column, u16)]) {
        let line = Rect { y: self.next, height: self.left().min(1), ..self.area };
        self.buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        let (sort, descends) = view.sorting();
        self.row(columns, |column| {
            let mark = if descends { '-' } else { '+' };
            let title = column.title();
            if column == sort {
                (format!("{title}{mark}").into(), LOUD)
            } else {
                (title.into(), Style::new())
            }
        });
    }

    fn machine(&mut self, machine: &MachineStatus, columns: &[(Column, u16)]) {
        let silent = machine.last_share.unwrap_or(machine.connected) >= SILENT_AFTER;
        let whole = if silent { DOUBTFUL } else { Style::new() };
        self.row(columns, |column| {
            let text = column.text(machine);
            let is_bad = match column {
                Column::Stale | Column::Refused | Column::Above => text != "0",
                Column::Device => machine.long_coinbase.is_some(),
                _ => false,
            };
            (text, if is_bad { WRONG } else { whole })
        });
    }

    fn footer(&mut self, view: &View) {
        let (top, passing) = view.position();
        let shown = view.visible().count();
        if view.edits() {
            let text = format!("/{}_   Enter keeps, Esc clears   {passing} machines", plain(view.filter()));
            return self.line(&text, LOUD);
        }
        let mut text = match passing {
            0 => "no machines".to_owned(),
            _ => format!("{}-{} of {passing}", top + 1, top + shown),
        };
        if !view.filter().is_empty() {
            // Writing to a string does not fail.
            let _ = write!(text, " with \"{}\"", plain(view.filter()));
        }
        let keys = "q stops the translator  / filter  p pause  1-9,0 or arrows sort  r reverse  j/k, PgUp/PgDn scroll";
        let style = if view.is_paused() || view.has_trouble() { LOUD } else { QUIET };
        if view.is_paused() {
            text.push_str("  PAUSED");
        }
        if view.has_trouble() {
            text.push_str("  something failed: see the log");
        }
        self.line(&format!("{text}  {keys}"), style);
    }
}
