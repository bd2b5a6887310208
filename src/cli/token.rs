//! The files of tokens: those of the operator, and that of the token that the server generates and keeps.

use std::{fs::File, io::stdin, path::Path, process::ExitCode};

use anyhow::{Context, bail};

use super::{
    args::NewTokenArgs,
    output,
    state_dir::{self, KeptFile, KeptIn},
    text_file,
};
use crate::wire::handshake::Token;

/// The longest file of a token in bytes. A longer one is another file.
const MAX_BYTES: usize = 1024;

/// The file of the token that the server generates. A line end and a byte order mark fit, too.
const KEPT: KeptFile = KeptFile { name: "token", content: "token", max_bytes: MAX_BYTES + 8 };

/// Reads the token from a file of the operator's.
///
/// # Errors
/// The file cannot be read, or contains no token.
pub(super) fn read_file(path: &Path) -> anyhow::Result<Token> {
    let read = || {
        let file = File::open(path)?;
        state_dir::warn_if_open_to_all(&file.metadata()?, "token", path);
        text_file::read(file, MAX_BYTES + 8)
    };
    let text =
        read().with_context(|| format!("cannot read the token from {} (--token-file)", path.display()))?;
    Token::parse(&text).map_err(|why| anyhow::anyhow!("{} (--token-file): {why}", path.display()))
}

/// Prints a new token, or the hash of one.
///
/// # Errors
/// There is no token to hash.
pub(super) fn print(args: &NewTokenArgs) -> anyhow::Result<ExitCode> {
    let text = if args.hash {
        let token = match args.token.token()? {
            Some(token) => token,
            None => {
                let text =
                    text_file::read(stdin(), MAX_BYTES + 8).context("cannot read a token from stdin")?;
                Token::parse(&text).context("cannot hash the token on stdin")?
            }
        };
        token.key().reveal_hash()
    } else {
        Token::random().reveal().to_owned()
    };
    output::print(format_args!("{text}\n"));
    Ok(ExitCode::SUCCESS)
}

/// Returns the token that the server generated at an earlier start and kept in a state directory, or generates one and
/// keeps it. Without that, all proxies would have to get another token after each restart.
///
/// `requested` is the directory that the operator chose. `is_shown` says whether the operator sees the token on a
/// terminal: then one that cannot be kept is better than none.
///
/// # Errors
/// There is no directory to keep it in, and the operator chose one or would not see the token; or the file is there and
/// cannot be used.
pub(super) fn generate(requested: Option<&Path>, is_shown: bool) -> anyhow::Result<(Token, KeptIn)> {
    let fresh = || Ok(format!("{}\n", Token::random().reveal()));
    let (text, kept) = KEPT
        .load_or_generate(requested, is_shown, fresh)
        .context("no token was given, and a generated one cannot be kept; set --token-file or --state-dir")?;
    match (Token::parse(&text), kept) {
        (Ok(token), kept) => Ok((token, kept)),
        (Err(why), KeptIn::File(path)) => {
            bail!("{}: {why}; remove the file for a new token", path.display())
        }
        (Err(why), _) => bail!(why),
    }
}

#[cfg(test)]
mod tests;
