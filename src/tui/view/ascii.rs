//! Reduces a drawn frame to ASCII, for terminals without UTF-8.

use ratatui::buffer::Buffer;

/// Replaces every character outside ASCII with one that looks similar.
pub(super) fn replace_non_ascii(buf: &mut Buffer) {
    for cell in &mut buf.content {
        let ascii = match cell.symbol().chars().next() {
            None | Some('\0'..='\x7f') => continue,
            Some(c) => replacement(c),
        };
        cell.set_char(ascii);
    }
}

/// Returns the ASCII character that replaces `c`; `?` for one that the cockpit does not draw itself.
fn replacement(c: char) -> char {
    match c {
        'µ' => 'u',
        '▎' | '┃' | '│' | '┤' | '├' | '▏' | '▕' => '|',
        '─' | '·' | '…' | '┄' => {
            if c == '…' {
                '~'
            } else {
                '-'
            }
        }
        '━' | '╸' => '=',
        '▒' => '%',
        '┼' | '╭' | '╮' | '╰' | '╯' => '+',
        '▌' | '▶' | '→' | '▸' | '≥' => '>',
        '←' => '<',
        '●' | '×' | '✓' => '*',
        '↓' | '▾' => 'v',
        '↑' | '▴' => '^',
        '╳' => 'X',
        '▁' | '▂' => '.',
        '▃' | '▄' => ':',
        '▅' | '▆' => '+',
        '▇' | '█' => '#',
        '\u{2800}'..='\u{28FF}' => match (u32::from(c) - 0x2800).count_ones() {
            0 => ' ',
            1..=2 => '.',
            3..=5 => ':',
            _ => '#',
        },
        '⏎' => 'E',
        '⇥' | '⇧' => 'T',
        '␣' => '_',
        '«' | '»' => '"',
        'ü' => 'u',
        _ => '?',
    }
}
