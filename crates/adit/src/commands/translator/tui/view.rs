//! What the table shows of a status, and what keys change about that.

use std::sync::Arc;

use adit_translator::{MachineStatus, Status};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::columns::Column;

/// Most characters that are searched for.
const FILTER_MAX: usize = 64;

/// What is found with machines whose coinbases are too long.
pub(super) const LONG_COINBASE: &str = "long coinbase";

/// What follows from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing that could be seen.
    Wait,
    /// Something to be drawn.
    Draw,
    /// The operator has seen enough.
    Quit,
}

/// The table's state.
#[derive(Debug)]
pub(super) struct View {
    /// What is shown.
    status: Arc<Status>,
    /// What has come since, while the table is paused.
    newer: Option<Arc<Status>>,
    is_paused: bool,
    sort: Column,
    descends: bool,
    filter: String,
    /// Whether keys go into the filter.
    edits: bool,
    /// Places in `status.machines`, of those that pass the filter, in order.
    order: Vec<usize>,
    /// The first of them that is seen.
    top: usize,
    /// How many were seen when it was last drawn.
    height: usize,
    has_trouble: bool,
}

impl View {
    pub(super) fn new(status: Arc<Status>) -> Self {
        let mut view = Self {
            status,
            newer: None,
            is_paused: false,
            sort: Column::Hashrate,
            descends: true,
            filter: String::new(),
            edits: false,
            order: Vec::new(),
            top: 0,
            height: 1,
            has_trouble: false,
        };
        view.arrange();
        view
    }

    /// Takes what has become of the translator.
    pub(super) fn update(&mut self, status: Arc<Status>) -> Turn {
        if self.is_paused {
            self.newer = Some(status);
            return Turn::Wait;
        }
        self.status = status;
        self.arrange();
        Turn::Draw
    }

    /// Remembers that something failed whose message cannot be seen now.
    pub(super) const fn tell_of_trouble(&mut self) {
        self.has_trouble = true;
    }

    /// Does what an event asks for.
    pub(super) fn event(&mut self, event: &Event) -> Turn {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            Event::Resize(..) => Turn::Draw,
            _ => Turn::Wait,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Turn {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Turn::Quit } else { Turn::Wait };
        }
        if self.edits { self.edit(key.code) } else { self.command(key.code) }
    }

    /// A key while the filter is typed.
    fn edit(&mut self, code: KeyCode) -> Turn {
        match code {
            KeyCode::Enter => self.edits = false,
            KeyCode::Esc => {
                self.edits = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(character);
            }
            _ => return Turn::Wait,
        }
        self.top = 0;
        self.arrange();
        Turn::Draw
    }

    fn command(&mut self, code: KeyCode) -> Turn {
        let page = self.height.max(1);
        match code {
            KeyCode::Char('q') => return Turn::Quit,
            KeyCode::Char('/') => self.edits = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('r') => self.descends = !self.descends,
            KeyCode::Left | KeyCode::Right => self.sort_by(self.sort.neighbour(code == KeyCode::Right)),
            KeyCode::Char(digit @ '0'..='9') => self.sort_by_number(digit),
            KeyCode::Up | KeyCode::Char('k') => self.top = self.top.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.top = self.top.saturating_add(1),
            KeyCode::PageUp => self.top = self.top.saturating_sub(page),
            KeyCode::PageDown => self.top = self.top.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => self.top = 0,
            KeyCode::End | KeyCode::Char('G') => self.top = usize::MAX,
            _ => return Turn::Wait,
        }
        self.arrange();
        Turn::Draw
    }

    fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if let Some(status) = self.newer.take() {
            self.status = status;
        }
    }

    /// Sorts by another column, or by the same the other way round.
    fn sort_by(&mut self, column: Column) {
        self.descends = if self.sort == column { !self.descends } else { column.descends() };
        self.sort = column;
    }

    /// Sorts by the column at that place, zero being the tenth.
    fn sort_by_number(&mut self, digit: char) {
        let place = digit.to_digit(10).unwrap_or(0) as usize;
        let last = Column::ALL.len() - 1;
        if let Some(column) = Column::ALL.get(place.checked_sub(1).unwrap_or(last)) {
            self.sort_by(*column);
        }
    }

    /// Filters and sorts anew.
    fn arrange(&mut self) {
        let machines = &self.status.machines;
        let wanted = self.filter.to_lowercase();
        self.order.clear();
        self.order.extend((0..machines.len()).filter(|place| passes(&machines[*place], &wanted)));
        // The sort is stable, so equals stay in the order of their numbers.
        self.order.sort_by(|one, other| {
            let order = self.sort.order(&machines[*one], &machines[*other]);
            if self.descends { order.reverse() } else { order }
        });
        self.stay_inside();
    }

    /// Takes note of how many machines can be seen.
    pub(super) fn set_height(&mut self, height: usize) {
        self.height = height;
        self.stay_inside();
    }

    fn stay_inside(&mut self) {
        self.top = self.top.min(self.order.len().saturating_sub(self.height));
    }

    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// The machines that can be seen, from top to bottom.
    pub(super) fn visible(&self) -> impl Iterator<Item = &MachineStatus> {
        let places = self.order.iter().skip(self.top).take(self.height);
        places.filter_map(|place| self.status.machines.get(*place))
    }

    /// Machines above those that can be seen, and machines that pass the filter.
    pub(super) const fn position(&self) -> (usize, usize) {
        (self.top, self.order.len())
    }

    /// By what it is sorted, and whether the greatest is at the top.
    pub(super) const fn sorting(&self) -> (Column, bool) {
        (self.sort, self.descends)
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) const fn edits(&self) -> bool {
        self.edits
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) const fn has_trouble(&self) -> bool {
        self.has_trouble
    }
}

/// Whether a text in lowercase is somewhere in what is known of a machine.
fn passes(machine: &MachineStatus, wanted: &str) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let names = machine.users.iter().chain([&machine.user_agent]).map(String::as_str).chain([machine.class]);
    let names = names.chain(machine.long_coinbase.map(|_| LONG_COINBASE));
    let mut names = names.map(str::to_lowercase).chain([machine.peer.to_string()]);
    names.any(|name| name.contains(wanted))
}
