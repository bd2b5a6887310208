use ratatui::buffer::Buffer;

/// Puts a plain character in the place of each that a terminal without UTF-8 cannot show.
pub(super) fn only(buf: &mut Buffer) {
    for cell in &mut buf.content {
        let plain = match cell.symbol().chars().next() {
            None | Some('\0'..='\x7f') => continue,
            Some(c) => stand_in(c),
        };
        cell.set_char(plain);
    }
}

fn stand_in(c: char) -> char {
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
        '▌' | '▶' | '→' | '▸' => '>',
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
