//! Pasted text, on terminals with and without bracketed paste: it acts on nothing.

use std::time::Duration;

use crate::{
    demo,
    download::Download,
    exclusive,
    live::{OURS, public_port, select, selected},
};

/// The command that joins a proxy, as an operator copies it from this cockpit. Among its letters are keys that pause,
/// change a priority, write a file and kill.
const JOIN: &str =
    "underpass proxy --server 198.51.100.1:7000 --token Xy+KlP --port 8080 --to 127.0.0.1:80\n";

#[test]
fn pasted_text_acts_on_nothing_with_or_without_bracketed_paste() {
    let _exclusive = exclusive();
    let terminal = demo((200, 60), &[]);
    let download = Download::start(public_port(&terminal), "/file/400M", OURS);
    let key = select(&terminal, OURS);
    let log = || String::from_utf8_lossy(&terminal.log()).into_owned();
    assert!(log().contains("\x1b[?2004h"), "the terminal is asked to mark what is pasted");
    for text in ["xylophone", "Kylie", JOIN] {
        let characters = text.chars().count();
        terminal.press(&format!("\x1b[200~{text}\x1b[201~"));
        terminal.until_shows(&format!("paste of {characters} characters ignored"));
        // A terminal that does not mark it, such as the Linux console with gpm.
        terminal.press(text);
        terminal.until_shows(&format!("ignored: {characters} keys at once, as in a paste"));
        let text = terminal.text();
        assert!(!text.contains("Kill this") && !text.contains("Kill these"), "{text}");
        let row = selected(&text).unwrap();
        assert!(row.contains(&key) && row.contains(" OPEN ") && row.contains(" normal "), "{row}");
    }
    // A burst confirms no question that was on the screen before it either.
    terminal.press("x");
    terminal.until_shows("Kill this stream?");
    terminal.press("y\r");
    terminal.until_shows("ignored: 2 keys at once");
    assert!(terminal.text().contains("Kill this stream?"), "{}", terminal.text());
    terminal.press("\x1b");
    terminal.until_shows(&format!("cancelled: {key} was not killed"));
    // In a prompt pasted text is text, and its line break accepts nothing.
    terminal.press("l");
    terminal.until_shows("limit ");
    terminal.press("\x1b[200~down 9M\n\x1b[201~");
    terminal.until("the text", |screen| {
        let text = screen.contents();
        let prompt = text.lines().last()?.to_owned();
        (prompt.contains("limit ") && prompt.contains("down 9M")).then_some(())
    });
    terminal.press("\x1b");
    terminal.until_shows("cancelled: nothing was changed");
    // Nothing has happened to the download. A key that is pressed works.
    terminal.press("x");
    terminal.until_shows("Kill this stream?");
    terminal.press("y");
    terminal.until_shows(&format!("killed {key}"));
    let (whole, _) = download.end(Duration::from_secs(20));
    assert!(!whole, "a killed download must not look whole");
    terminal.quit();
    assert_eq!(terminal.exit().0, 0);
    assert!(log().contains("\x1b[?2004l"), "the terminal is as it was");
}
