//! `underpass replay`: the cockpit on a recording.

mod source;

use std::process::ExitCode;

use super::{args::ReplayArgs, guest};
use crate::{
    recording::{Player, Recording},
    tui::{Labels, Role},
};

use source::ReplaySource;

/// Shows a recording until the operator quits.
pub(super) fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let recording = Recording::open(&args.files)?;
    let cut_files = recording.cut_files();
    let player = Player::new(recording);
    let labels = Labels { role: Role::Replay, listen: player.listen().to_owned(), ..Labels::default() };
    let source = ReplaySource::new(player, args.speed);
    let hint = "`zstd -dc FILE` prints a recording as lines of JSON";
    guest::show(Box::new(source), labels, args.screen.settings(false)?, hint)?;
    if cut_files > 0 {
        super::output::complain(format_args!(
            "{cut_files} of the files end in the middle: the server was killed or still writes, or the disk was full"
        ));
    }
    Ok(ExitCode::SUCCESS)
}
