//! Tests of the live table: what is drawn, what keys do, narrow terminals and hostile names.

use std::net::{Ipv4Addr, SocketAddr};

use adit_translator::{MachineStatus, ShareCounts, UpstreamShares, UpstreamState, UpstreamStatus};
use adit_units::{Difficulty, Hashrate};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::{Column, ago, fit, short};
use super::*;

fn machine(id: u64, user: &str, terahashes: u64) -> MachineStatus {
    let last = u8::try_from(id % 250).unwrap();
    MachineStatus {
        id,
        peer: SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 5000)),
        user_agent: "bmminer/2.0.0".to_owned(),
        class: "antminer",
        users: vec![user.to_owned()],
        extranonce1: [0, 0, 0, last],
        extranonce2_len: 8,
        version_mask: None,
        difficulty: Difficulty::from_whole(65_536 * id),
        hashrate: Hashrate::from_hashes_per_second(terahashes * 1_000_000_000_000),
        shares: ShareCounts { accepted: 1000 + id, stale: 2, low_difficulty: 1, ..ShareCounts::default() },
        upstream: UpstreamShares::default(),
        connected: Duration::from_secs(7200),
        last_share: Some(Duration::from_secs(9)),
        best: None,
        long_coinbase: None,
    }
}

fn upstream(address: &str, state: UpstreamState) -> UpstreamStatus {
    let shares = UpstreamShares { accepted: 123_456, refused: 7, ..UpstreamShares::default() };
    UpstreamStatus {
        address: address.to_owned(),
        user: "alice".to_owned(),
        state,
        channels: Vec::new(),
        shares,
    }
}

fn farm() -> Status {
    let failed = UpstreamState::Failed { reason: "connection refused".to_owned() };
    let mut pad = machine(3, "alice.pad", 90);
    pad.user_agent = String::new();
    pad.class = "avalon";
    pad.last_share = None;
    Status {
        uptime: Duration::from_secs(90_000),
        aggregated: true,
        upstreams: vec![
            upstream("one.example.org:3333", failed),
            upstream("two.example.org:3333", UpstreamState::InUse),
        ],
        machines: vec![machine(1, "alice.rig1", 100), machine(2, "alice.rig2", 120), pad],
        machines_seen: 3,
        connections_refused: 0,
        shares: ShareCounts {
            accepted: 3006,
            stale: 6,
            low_difficulty: 3,
            blocks: 1,
            ..ShareCounts::default()
        },
    }
}

/// The lines of a screen of that size, without the spaces at their ends.
fn lines(view: &mut View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(view, frame.area(), frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(view: &mut View, code: KeyCode) -> Turn {
    view.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn write(view: &mut View, text: &str) {
    for character in text.chars() {
        press(view, KeyCode::Char(character));
    }
}

/// The users that are seen, from top to bottom.
fn users(view: &mut View) -> Vec<String> {
    lines(view, 100, 30);
    view.visible().map(|machine| machine.users[0].clone()).collect()
}

#[test]
fn machines_totals_and_pools_are_shown() {
    let mut view = View::new(Arc::new(farm()));
    let seen = lines(&mut view, 150, 12);
    assert_eq!(seen[0], "310 TH/s  3 machines  3006 accepted  6 stale  3 refused  1 blocks  up 25h");
    assert_eq!(seen[1], "* two.example.org:3333  in use  123k accepted  7 refused  0 lost  0 pending  alice");
    assert!(seen[2].starts_with("! one.example.org:3333  connection refused  123k accepted"), "{}", seen[2]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(words(&seen[3]), "User Hashrate- Diff Accepted Stale Refused Pool no Last Device Address");
    assert_eq!(words(&seen[4]), "alice.rig2 120 TH/s 131k 1002 2 1 0 9s bmminer/2.0.0 192.0.2.2");
    assert_eq!(words(&seen[6]), "alice.pad 90.0 TH/s 196k 1003 2 1 0 - avalon 192.0.2.3");
    assert!(seen[11].starts_with("1-3 of 3  q stops the translator"), "{}", seen[11]);
}

#[test]
fn a_coinbase_that_is_too_long_for_a_machine_stood_in_the_log_only() {
    let mut status = farm();
    status.machines[1].long_coinbase = Some(2_345);
    let mut view = View::new(Arc::new(status));
    let seen = lines(&mut view, 150, 13);
    assert_eq!(
        seen[3],
        "! 1 machines get coinbases that are too long for such devices: /long coinbase shows them"
    );
    assert!(seen[5].contains("!2345 B bmminer/2.0.0"), "{}", seen[5]);
    press(&mut view, KeyCode::Char('/'));
    write(&mut view, "long coinbase");
    assert_eq!(users(&mut view), ["alice.rig2"]);
}

#[test]
fn nothing_connected_is_shown_too() {
    let mut view = View::new(Arc::new(Status::default()));
    let seen = lines(&mut view, 80, 10);
    assert!(seen[0].starts_with("0 H/s  0 machines"), "{}", seen[0]);
    assert!(seen[9].starts_with("no machines"), "{}", seen[9]);
}

#[test]
fn keys_sort_by_each_column_and_back() {
    let mut view = View::new(Arc::new(farm()));
    assert_eq!(users(&mut view), ["alice.rig2", "alice.rig1", "alice.pad"]);
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(users(&mut view), ["alice.pad", "alice.rig1", "alice.rig2"]);
    // Names ascend at first, numbers descend, and the same key again turns the order round.
    press(&mut view, KeyCode::Char('1'));
    assert_eq!(users(&mut view), ["alice.pad", "alice.rig1", "alice.rig2"]);
    press(&mut view, KeyCode::Char('1'));
    assert_eq!(users(&mut view), ["alice.rig2", "alice.rig1", "alice.pad"]);
    press(&mut view, KeyCode::Char('4'));
    assert_eq!(users(&mut view), ["alice.pad", "alice.rig2", "alice.rig1"]);
    press(&mut view, KeyCode::Char('8'));
    assert_eq!(users(&mut view), ["alice.rig1", "alice.rig2", "alice.pad"]);
    press(&mut view, KeyCode::Char('0'));
    assert_eq!(view.sorting(), (Column::Address, false));
    for column in Column::ALL {
        press(&mut view, KeyCode::Right);
        assert_eq!(view.sorting(), (column, column.descends()));
        assert_eq!(users(&mut view).len(), 3);
    }
    press(&mut view, KeyCode::Left);
    assert_eq!(view.sorting().0, Column::Device);
}

#[test]
fn a_filter_searches_names_devices_and_addresses() {
    let mut view = View::new(Arc::new(farm()));
    for (text, found) in
        [("RIG2", &["alice.rig2"][..]), ("avalon", &["alice.pad"]), ("2.1:5", &["alice.rig1"]), ("zz", &[])]
    {
        press(&mut view, KeyCode::Char('/'));
        write(&mut view, text);
        assert!(lines(&mut view, 100, 12)[11].starts_with(&format!("/{text}_")));
        press(&mut view, KeyCode::Enter);
        assert_eq!(users(&mut view), found, "{text}");
        assert!(lines(&mut view, 100, 12)[11].contains(&format!("with \"{text}\"")));
        // Keys are keys again, and Esc takes the filter away.
        press(&mut view, KeyCode::Esc);
        assert_eq!(users(&mut view).len(), 3);
    }
    press(&mut view, KeyCode::Char('/'));
    write(&mut view, &"q".repeat(1000));
    assert_eq!(view.filter().len(), 64);
    press(&mut view, KeyCode::Backspace);
    assert_eq!(view.filter().len(), 63);
    press(&mut view, KeyCode::Esc);
    assert_eq!((view.filter(), view.edits()), ("", false));
}

#[test]
fn many_machines_are_scrolled() {
    let machines = (1..=1000).map(|id| machine(id, &format!("alice.{id:04}"), 1)).collect();
    let mut view = View::new(Arc::new(Status { machines, ..farm() }));
    let first = |view: &mut View| users(view)[0].clone();
    press(&mut view, KeyCode::Char('1'));
    assert_eq!(first(&mut view), "alice.0001");
    press(&mut view, KeyCode::Down);
    press(&mut view, KeyCode::Char('j'));
    assert_eq!(first(&mut view), "alice.0003");
    let page = users(&mut view).len();
    press(&mut view, KeyCode::PageDown);
    assert_eq!(first(&mut view), format!("alice.{:04}", 3 + page));
    press(&mut view, KeyCode::End);
    assert_eq!(users(&mut view).last().unwrap(), "alice.1000");
    assert_eq!(users(&mut view).len(), page);
    press(&mut view, KeyCode::Down);
    assert_eq!(users(&mut view).last().unwrap(), "alice.1000");
    press(&mut view, KeyCode::PageUp);
    press(&mut view, KeyCode::Up);
    assert_eq!(users(&mut view).last().unwrap(), &format!("alice.{:04}", 1000 - page - 1));
    press(&mut view, KeyCode::Home);
    assert_eq!(first(&mut view), "alice.0001");
    // Fewer machines leave no empty space above them.
    press(&mut view, KeyCode::End);
    view.update(Arc::new(farm()));
    assert_eq!(users(&mut view).len(), 3);
}

#[test]
fn a_paused_table_stands_still() {
    let mut view = View::new(Arc::new(farm()));
    assert_eq!(press(&mut view, KeyCode::Char('p')), Turn::Draw);
    assert_eq!(view.update(Arc::new(Status::default())), Turn::Wait);
    assert_eq!(users(&mut view).len(), 3);
    assert!(lines(&mut view, 80, 10)[9].contains("PAUSED"));
    press(&mut view, KeyCode::Char(' '));
    assert_eq!(users(&mut view), Vec::<String>::new());
    assert_eq!(view.update(Arc::new(farm())), Turn::Draw);
}

#[test]
fn quitting_is_always_possible() {
    let mut view = View::new(Arc::new(farm()));
    let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(press(&mut view, KeyCode::Char('q')), Turn::Quit);
    press(&mut view, KeyCode::Char('/'));
    assert_eq!(press(&mut view, KeyCode::Char('q')), Turn::Draw);
    assert_eq!(view.event(&interrupt), Turn::Quit);
    assert_eq!(view.event(&Event::Resize(3, 3)), Turn::Draw);
    assert_eq!(view.event(&Event::FocusLost), Turn::Wait);
    assert_eq!(press(&mut view, KeyCode::F(5)), Turn::Wait);
}

#[test]
fn trouble_is_told() {
    let mut view = View::new(Arc::new(farm()));
    view.tell_of_trouble();
    assert!(lines(&mut view, 150, 10)[9].contains("see the log"));
}

#[test]
fn every_size_of_terminal_works() {
    let mut many = farm();
    many.upstreams = (0..40).map(|_| upstream("x.example.org:3333", UpstreamState::Connecting)).collect();
    let mut view = View::new(Arc::new(many));
    for width in (0..60).chain([80, 200, 1000]) {
        for height in (0..14).chain([50]) {
            let seen = lines(&mut view, width, height);
            assert_eq!(seen.len(), usize::from(height));
        }
    }
    // As long as there is room for anything, there is room for a machine.
    assert!(lines(&mut view, 40, 3)[1].starts_with("alice.rig2"));
    let narrow = lines(&mut view, 40, 24);
    assert!(narrow.iter().any(|line| line.contains("Hashrate-") && line.contains("Accepted")), "{narrow:?}");
    for width in 0..300 {
        let columns = fit(width);
        let total: u16 = columns.iter().map(|(_, width)| width + 1).sum();
        assert!(total <= width + 1 && !columns.is_empty(), "{width}");
    }
    assert_eq!(fit(200).len(), Column::ALL.len());
}

#[test]
fn numbers_are_short() {
    for (number, text) in [
        (0, "0"),
        (99_999, "99999"),
        (100_000, "100k"),
        (1_234_567, "1.23M"),
        (12_345_678, "12.3M"),
        (999_999_999, "999M"),
        (u64::MAX, "18.4E"),
    ] {
        assert_eq!(short(number), text);
    }
    for (seconds, text) in
        [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (172_799, "47h"), (172_800, "2d")]
    {
        assert_eq!(ago(Duration::from_secs(seconds)), text);
    }
    let mut small = machine(1, "esp", 0);
    for (text, shown) in
        [("0.000244140625", "0.000244"), ("0.5", "0.5"), ("99", "99"), ("1024", "1024"), ("1048576", "1.04M")]
    {
        small.difficulty = text.parse().unwrap();
        assert_eq!(Column::Difficulty.text(&small), shown);
    }
}

#[test]
fn hostile_names_do_nothing() {
    const PARTS: &str = include_str!("../../../../../../test-vectors/monitoring/hostile-names.json");
    let parts: Vec<String> = serde_json::from_str(PARTS).unwrap();
    let mut names = parts.clone();
    for first in &parts {
        names.extend(parts.iter().step_by(3).map(|second| format!("alice{first}.rig{second}")));
    }
    names.extend(parts.iter().map(|part| part.repeat(100)));
    assert!(names.len() > 1000);
    for name in &names {
        let mut status = farm();
        status.machines[1].users = vec![name.clone()];
        status.machines[1].user_agent.clone_from(name);
        status.upstreams[0].state = UpstreamState::Failed { reason: name.clone() };
        status.upstreams[1].user.clone_from(name);
        let mut view = View::new(Arc::new(status));
        let seen = lines(&mut view, 150, 12);
        let prints = |line: &String| line.chars().all(adit_channel::prints);
        assert!(seen.iter().all(prints), "{name:?}: {seen:?}");
        // What stands beside the name stands where it always stands.
        assert!(seen[1].starts_with("* two.example.org:3333  in use  123k accepted"), "{name:?}");
        assert!(seen[5].starts_with("alice.rig1 "), "{name:?}: {seen:?}");
        assert!(seen[4].contains("120 TH/s") && seen[4].ends_with("192.0.2.2"), "{name:?}: {}", seen[4]);
    }
}
