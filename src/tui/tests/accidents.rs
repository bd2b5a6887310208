//! Actions by accident: pasted text, bursts of keys, and keys that answer no question on the screen.

use std::time::Duration;

use proptest::prelude::*;

use super::fixture::{Fixture, key, key_of};
use crate::{
    control::{Capabilities, Command},
    ids::ProxyId,
    telemetry::EndReason,
    tui::{
        Exit, Role, Subject,
        model::Overlay,
        msg::{Effect, Msg},
        settings::RawSettings,
        terminal::{Key, KeyCode, KeyModifiers},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// The command that joins a proxy: what an operator copies most often while the cockpit is open.
const JOIN: &str =
    "underpass proxy --server 198.51.100.1:7000 --token Xy+KlP --port 8080 --to 127.0.0.1:80\n";

#[test]
fn pasted_text_outside_a_prompt_only_shows_a_notice() {
    for text in ["xylophone", "Kylie", JOIN, "Xy\n", "q\t\t\n", ":quit!\n", "\u{3}\u{3}"] {
        for screen in ["1", "2", "3", "4", "1>", "1x", "1K", "1X", "1q", "?", "a", "1o"] {
            let mut fixture = Fixture::busy(120, 36);
            fixture.press(&format!("j{screen}"));
            let before = fixture.text();
            assert_eq!(fixture.send(Msg::Pasted(text.to_owned())), [], "{text:?} on {screen}");
            let characters = text.chars().count();
            assert_eq!(
                fixture.notice(),
                format!("paste of {characters} characters ignored: text can be pasted into a prompt only")
            );
            fixture.model.notice = None;
            let after = fixture.text();
            assert_eq!(rows_above_notice(&after), rows_above_notice(&before), "{text:?} on {screen}");
        }
    }
}

/// Returns the screen without the row for notices.
fn rows_above_notice(screen: &str) -> Vec<&str> {
    screen.lines().take(34).collect()
}

#[test]
fn pasted_text_in_a_prompt_is_one_line_of_text() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("/");
    assert_eq!(fixture.send(Msg::Pasted("proxy:fra\r\n\tdown>1M\n".into())), []);
    assert!(fixture.text().contains(" /proxy:fra   down>1M"), "{}", fixture.text());
    assert!(matches!(fixture.model.overlay, Some(Overlay::Prompt(_))), "the line break accepts nothing");
    fixture.press("<:");
    assert_eq!(fixture.send(Msg::Pasted("quit!\n".into())), []);
    assert_eq!(fixture.press(">"), [Effect::Exit(Exit::Quit)], "the operator has seen the text");
}

/// A terminal without bracketed paste, over a slow connection: the letters come one by one.
#[test]
fn of_a_paste_that_arrives_letter_by_letter_at_most_the_first_acts() {
    for gap in [1, 5, 30] {
        for text in ["jxylophone", "jp+-D", "jKylie", JOIN] {
            for screen in ["1", "2", "3", "4", "1>"] {
                let mut fixture = Fixture::busy(120, 36);
                fixture.press(screen);
                fixture.model.last_key = None;
                for (index, c) in text.chars().enumerate() {
                    let effects = fixture.send(Msg::Key(Key::char(c)));
                    assert!(index == 0 || effects.is_empty(), "{c} of {text:?} on {screen}: {effects:?}");
                    fixture.now += Duration::from_millis(gap);
                }
                assert!(fixture.notice().contains("as in a paste"), "{text:?}: {}", fixture.notice());
            }
        }
    }
    // A person types more slowly, and a key that is held repeats.
    let mut fixture = Fixture::busy(120, 36);
    fixture.send(Msg::Key(Key::char('j')));
    fixture.now += Duration::from_millis(80);
    assert_eq!(fixture.send(Msg::Key(Key::char('+'))).len(), 1);
    fixture.now += Duration::from_millis(30);
    fixture.send(Msg::Key(Key::char('+')));
    assert!(!fixture.notice().contains("as in a paste"), "{}", fixture.notice());
}

#[test]
fn keys_that_arrive_at_once_confirm_nothing_and_change_nothing() {
    for text in ["xy", "xylophone", "Kylie", JOIN, "X12y", "x_>", "q_>", "q__>", "^^", ":quit!>", "p+", "eE"]
    {
        for screen in ["1", "2", "3", "4", "1>"] {
            let mut fixture = Fixture::busy(120, 36);
            fixture.press(&format!("j{screen}"));
            assert_eq!(fixture.burst(text), [], "{text:?} on {screen}");
            let ignored = fixture.notice().contains("at once, as in a paste");
            assert!(ignored && fixture.model.overlay.is_none(), "{text:?} on {screen}: {}", fixture.notice());
        }
    }
    // The rest of a paste that did not arrive in one piece belongs to it.
    let mut fixture = Fixture::busy(120, 36);
    fixture.send(Msg::KeyBurst(vec![Key::char('a'), Key::char('x')]));
    fixture.now += Duration::from_millis(20);
    fixture.send(Msg::Key(Key::char('x')));
    assert!(fixture.model.overlay.is_none(), "{}", fixture.text());
    fixture.now += Duration::from_millis(100);
    fixture.press("x");
    assert!(fixture.text().contains("Kill this stream?"));
    assert_eq!(fixture.burst("yy"), []);
    assert!(fixture.text().contains("Kill this stream?"), "the question is still open");
}

#[test]
fn movements_that_a_slow_connection_held_up_are_performed() {
    let mut fixture = Fixture::busy(120, 36);
    assert_eq!(fixture.burst("jjkj"), []);
    assert_eq!(fixture.selected(), fixture.keys().get(2).copied());
}

#[test]
fn a_burst_in_a_prompt_is_text_but_its_enter_accepts_nothing() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press(":");
    assert_eq!(fixture.burst("quit!>"), []);
    assert!(fixture.text().contains(":quit!"), "{}", fixture.text());
    assert!(fixture.notice().starts_with("⏎ ignored"), "{}", fixture.notice());
    assert_eq!(fixture.press(">"), [Effect::Exit(Exit::Quit)]);
}

#[test]
fn a_dialog_takes_no_answer_that_comes_with_the_question() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.send(Msg::Key(Key::char('x')));
    // Letter by letter, as from a slow serial line.
    fixture.now += Duration::from_millis(20);
    assert_eq!(fixture.send(Msg::Key(Key::char('y'))), []);
    assert!(fixture.notice().starts_with("ignored: the key came at once with the question"));
    fixture.now += Duration::from_millis(100);
    assert_eq!(fixture.send(Msg::Key(Key::char('y'))).len(), 1);
}

#[test]
fn the_typed_number_and_enter_confirm_and_a_cancelled_action_says_so() {
    let mut fixture = Fixture::busy(120, 36);
    let footer = |fixture: &Fixture| fixture.text().lines().last().unwrap_or_default().to_owned();
    fixture.press("2x");
    assert!(fixture.text().contains("Type 12 to confirm"), "{}", fixture.text());
    assert_eq!(footer(&fixture), " 0-9 number  ⏎ cancel  ⇥ → next  Esc n cancel");
    fixture.press("1");
    assert_eq!(footer(&fixture), " 0-9 number  ⇥ → next  Esc n cancel");
    assert_eq!(fixture.press(">"), []);
    assert_eq!(fixture.notice(), "type 12 and press ⏎ to confirm; Esc cancels");
    fixture.press("2");
    assert!(fixture.text().contains("[ Kick ]"), "{}", fixture.text());
    assert_eq!(footer(&fixture), " ⏎ kick  y kick  ⇥ → next  Esc n cancel");
    let effects = fixture.press(">");
    assert!(matches!(effects.as_slice(), [Effect::SendCommand(_, Command::KickProxy(_))]), "{effects:?}");
    // Another digit makes it another number.
    fixture.press("x123>");
    assert!(matches!(fixture.model.overlay, Some(Overlay::Dialog(_))));
    fixture.press("<");
    assert_eq!(fixture.notice(), "cancelled: edge-fra was not kicked");
    fixture.press("x>");
    assert_eq!(fixture.notice(), "cancelled: edge-fra was not kicked");
    fixture.press("1gx");
    let key = fixture.selected().unwrap();
    assert_eq!(footer(&fixture), " ⏎ cancel  y kill  ⇥ → next  Esc n cancel");
    fixture.press("n");
    assert_eq!(fixture.notice(), format!("cancelled: {key} was not killed"));
    fixture.press("q");
    assert_eq!(footer(&fixture), " ⏎ cancel  ⇥ → next  Esc n cancel", "no letter ends the program");
    fixture.press("_");
    assert_eq!(footer(&fixture), " ⏎ drain first  ⇥ → next  Esc n cancel");
    fixture.press("<");
    assert_eq!(fixture.notice(), "cancelled: the server continues");
    fixture.press("l");
    fixture.press("<");
    assert_eq!(fixture.notice(), "cancelled: nothing was changed");
}

#[test]
fn no_letter_and_no_control_c_answers_the_question_whether_to_quit() {
    for opens in ["q", "^"] {
        let mut fixture = Fixture::busy(120, 36);
        assert_eq!(fixture.press(opens), []);
        assert!(fixture.text().contains("Quit?"));
        for c in (' '..='~').filter(|c| !"nq_<>^".contains(*c)).chain(['^', '^']) {
            assert_eq!(fixture.press(&c.to_string()), [], "{c}");
            assert!(fixture.text().contains("[ Cancel ]"), "{c}: {}", fixture.text());
        }
        assert_eq!(fixture.press("__>"), [Effect::Exit(Exit::Quit)]);
    }
}

#[test]
fn control_c_closes_what_is_open_before_it_asks() {
    let mut fixture = Fixture::busy(120, 36);
    for opens in ["x", "/", ":", "?", "o", "a", "l"] {
        fixture.press(opens);
        assert!(fixture.model.overlay.is_some(), "{opens}");
        assert_eq!(fixture.press("^"), [], "{opens}");
        assert!(fixture.model.overlay.is_none(), "{opens}");
    }
}

/// One step of a generated script.
#[derive(Debug, Clone)]
enum Step {
    Press(Key),
    Burst(String),
    Paste(String),
    Open { user: u32, stream: u32 },
    End(usize),
    Pass(u64),
    Resize(u16, u16),
}

/// Every character that a keyboard types and every key with a binding; those that ask and answer come more often.
fn any_key() -> impl Strategy<Value = Key> {
    let named = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Right,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(9),
    ];
    prop_oneof![
        4 => prop::char::range(' ', '~').prop_map(Key::char),
        2 => prop::sample::select(named.to_vec()).prop_map(Key::plain),
        1 => prop::sample::select(vec!['c', 'd', 'u', 'l', 'w']).prop_map(Key::ctrl),
        1 => Just(Key::new(KeyCode::BackTab, KeyModifiers::SHIFT)),
        6 => prop::sample::select("xKXAmjqypD+-l1234>>__".chars().collect::<Vec<_>>()).prop_map(key_of),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let text = || {
        prop_oneof![
            "[ -~\n]{2,12}",
            prop::sample::select(vec!["xylophone", "Kylie", "xy\n", "q\t\t\n", ":quit!\n", JOIN])
                .prop_map(str::to_owned),
        ]
    };
    prop_oneof![
        12 => any_key().prop_map(Step::Press),
        2 => text().prop_map(Step::Burst),
        2 => text().prop_map(Step::Paste),
        2 => (0..3u32, 1..6u32).prop_map(|(user, stream)| Step::Open { user, stream }),
        1 => any::<usize>().prop_map(Step::End),
        3 => (1..1500u64).prop_map(Step::Pass),
        1 => prop::sample::select(vec![(120, 36), (80, 24), (60, 15), (20, 4)]).prop_map(|(w, h)| Step::Resize(w, h)),
    ]
}

/// What the cockpit shows, and what it may change.
#[derive(Debug, Clone, Copy)]
struct Kind {
    role: Role,
    subject: Subject,
    is_read_only: bool,
}

/// Asserts that what `pressed` caused was offered by the screen on which it was pressed: by the footer's or the
/// dialog's own words, about rows that it showed as selected or marked.
fn check(kind: Kind, screen: &str, pressed: Key, effects: &[Effect]) -> Result<(), TestCaseError> {
    let last = screen.lines().last().unwrap_or_default().trim_end();
    let is_prompt =
        [" :", " /", " limit ", " weight of ", " policy of "].iter().any(|mark| last.starts_with(mark));
    let accepts = pressed == Key::plain(KeyCode::Enter);
    // The answer that Enter gives has brackets around it, and `y` answers only where the footer says so.
    let answers = |button: &str| {
        let word = button.to_lowercase();
        (accepts && screen.contains(&format!("[ {button} ]")))
            || (pressed == Key::char('y') && last.contains(&format!("y {word}")))
            // On a small screen, the notice of an ignored burst takes the row of the footer.
            || (pressed == Key::char('y')
                && last.contains("ignored")
                && matches!(button, "Kill" | "Kick")
                && screen.contains(&format!(" {button} ")))
    };
    let selected: Vec<&str> =
        screen.lines().filter(|line| line.starts_with('▌') || line.starts_with(" *")).collect();
    let shows = |name: &str| {
        selected.iter().any(|row| row.contains(name)) || screen.contains(&format!("▎ Stream  {name}"))
    };
    // The lines of a dialog, without what is beside it; the axis of a chart may be there, too.
    let between_borders = |line| {
        let parts: Vec<&str> = str::split(line, '│').collect();
        parts.get(1..parts.len() - 1).unwrap_or_default().to_vec()
    };
    let asked: Vec<&str> = screen.lines().flat_map(between_borders).collect();
    let asks_about = |name: &str| asked.iter().any(|line| line.split_whitespace().any(|word| word == name));
    // Of many streams the dialog names some and counts the others.
    let counts_others =
        asked.iter().any(|line| line.starts_with(" and ") && line.trim_end().ends_with(" more"));
    // The proxies are called edge-1 (P1) and edge-10 (P2); a channel below one is P1/1.
    let selects_proxy = |proxy: ProxyId| {
        let name = if proxy == ProxyId(1) { "edge-1" } else { "edge-10" };
        let names = |word: &str| word == name || word.starts_with(&format!("{proxy}/"));
        selected.iter().any(|row| row.split_whitespace().any(names))
    };
    let may_change = !kind.is_read_only && kind.role != Role::Replay;
    for effect in effects {
        let is_offered = match effect {
            Effect::SendCommand(..) | Effect::Drain if !may_change => false,
            Effect::SendCommand(_, command) if kind.subject == Subject::Proxy && !command.is_for_proxy() => {
                false
            }
            Effect::SendCommand(_, Command::KillStream(key)) => {
                answers("Kill") && (asks_about(&key.to_string()) || counts_others)
            }
            Effect::SendCommand(_, Command::KillUser(user)) => {
                answers("Kill") && asks_about(&user.to_string())
            }
            Effect::SendCommand(_, Command::KickProxy(proxy)) => {
                answers("Kick") && asks_about(&proxy.to_string())
            }
            Effect::SendCommand(
                _,
                Command::PauseStream(key) | Command::ResumeStream(key) | Command::SetPriority(key, _),
            ) => {
                let by_key = ['p', '+', '-'].map(Key::char).contains(&pressed) && !is_prompt;
                (by_key || (accepts && is_prompt)) && shows(&key.to_string())
            }
            Effect::SendCommand(_, Command::DrainProxy(proxy) | Command::UndrainProxy(proxy)) => {
                (pressed == Key::char('D') && selects_proxy(*proxy)) || (accepts && is_prompt)
            }
            Effect::SendCommand(
                _,
                Command::SetLimit(..)
                | Command::SetWeight(..)
                | Command::SetPolicy(..)
                | Command::Unblock(_)
                | Command::Ban(_)
                | Command::Unban(_),
            ) => accepts && is_prompt,
            Effect::Exit(Exit::Quit) => {
                let nothing_open = screen.contains("  0 open") || screen.starts_with("0 open");
                let is_quit = [Key::char('q'), Key::ctrl('c')].contains(&pressed);
                let ends_server = kind.role == Role::Server && kind.is_read_only;
                !ends_server
                    && (answers("Quit now")
                        || screen.contains("[Quit now]")
                        || nothing_open
                        // Only this cockpit ends.
                        || (kind.role != Role::Server && is_quit)
                        || (accepts && last.starts_with(" :")))
            }
            Effect::Exit(_) => false,
            Effect::Drain => {
                kind.role == Role::Server
                    && (answers("Drain first") || screen.contains("quit? [Drain first]"))
            }
            Effect::Play(_) => kind.role == Role::Replay,
            // What concerns only this terminal: files, the clipboard, the mouse, painting, and a shell that resumes it.
            Effect::Repaint
            | Effect::Copy(_)
            | Effect::Save(_)
            | Effect::SaveScreenshot
            | Effect::Mouse(_)
            | Effect::Suspend => true,
        };
        prop_assert!(is_offered, "{pressed:?} caused {effect:?} on\n{screen}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 1024 }))]

    /// On every screen and in every dialog, of the server's own cockpit, one attached to a server or to a proxy, and a
    /// replay, whatever is pressed, pasted, opens or ends meanwhile: text and bursts cause nothing, and a key causes
    /// what the screen offers for it.
    #[test]
    fn only_what_the_screen_offers_takes_place(
        (role, subject) in prop::sample::select(vec![
            (Role::Server, Subject::Server),
            (Role::Server, Subject::Server),
            (Role::Attached, Subject::Server),
            (Role::Attached, Subject::Proxy),
            (Role::Replay, Subject::Server),
        ]),
        is_read_only in prop::bool::weighted(0.2),
        screen in prop::sample::select(vec!["1", "2", "3", "4", "1>"]),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let kind = Kind { role, subject, is_read_only };
        let mut fixture = Fixture::empty(120, 36);
        (fixture.model.labels.role, fixture.model.labels.subject) = (role, subject);
        fixture.model.labels.drain = (role == Role::Server).then_some(Duration::from_secs(8));
        let settings = RawSettings { read_only: is_read_only, ..RawSettings::default() }.resolve().unwrap();
        let supported = match (role, subject) {
            (Role::Replay, _) => Capabilities::none(),
            (_, Subject::Proxy) => Capabilities::of_proxy(),
            (_, Subject::Server) => Capabilities::all(),
        };
        fixture.model.apply_capabilities(&settings, supported);
        fixture.proxy("edge-1");
        fixture.proxy("edge-10");
        for stream in 1..=12 {
            let index = fixture.open(stream % 2, stream + 10);
            fixture.assign(index, (stream % 2) as usize);
        }
        fixture.tick(TICK);
        fixture.tick(TICK);
        fixture.press(&format!("j{screen}"));
        fixture.now += Duration::from_secs(1);
        for step in steps {
            match step {
                Step::Press(pressed) => {
                    // A person looks before a key.
                    fixture.now += Duration::from_millis(150);
                    let screen = fixture.text();
                    let moved_at = fixture.model.selection_moved_at;
                    let has_marks = !fixture.model.streams_screen.marks.is_empty();
                    let effects = fixture.send(Msg::Key(pressed));
                    check(kind, &screen, pressed, &effects)?;
                    // Nobody has seen yet what has just been selected.
                    let is_unseen = moved_at.is_some_and(|at| fixture.now - at < Duration::from_millis(700));
                    if is_unseen && !has_marks && ['p', '+', '-', 'D'].map(Key::char).contains(&pressed) {
                        let sent = effects.iter().any(|effect| matches!(effect, Effect::SendCommand(..)));
                        prop_assert!(!sent, "{pressed:?} acted on what has just been selected:\n{screen}");
                    }
                }
                Step::Burst(text) => {
                    let keys = text.chars().map(|c| match c {
                        '\n' => Key::plain(KeyCode::Enter),
                        '\t' => Key::plain(KeyCode::Tab),
                        c => Key::char(c),
                    });
                    prop_assert_eq!(fixture.send(Msg::KeyBurst(keys.collect())), []);
                }
                Step::Paste(text) => prop_assert_eq!(fixture.send(Msg::Pasted(text)), []),
                Step::Open { user, stream } => {
                    if !fixture.streams.iter().any(|open| open.stats().key == key(user, stream)) {
                        fixture.open(user, stream);
                    }
                }
                Step::End(index) if !fixture.streams.is_empty() => {
                    let index = index % fixture.streams.len();
                    fixture.end(index, EndReason::Finished);
                }
                Step::End(_) => {}
                Step::Pass(ms) => fixture.tick(Duration::from_millis(ms)),
                Step::Resize(width, height) => fixture.resize(width, height),
            }
        }
    }
}
