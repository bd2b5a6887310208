//! The key from which the server derives the ids of users, kept over restarts.

use std::path::Path;

use anyhow::anyhow;

use super::state_dir::{KeptFile, KeptIn};
use crate::ids::UserIdKey;

/// The key in the state directory.
const KEPT: KeptFile = KeptFile { name: "user-id-key", content: "key of user ids", max_bytes: 66 };

/// Returns the key that is kept in the state directory, after generating it at the first start. Where it cannot be
/// kept, returns a random one and logs why: the ids of users are then others after a restart, which is no reason not to
/// serve.
pub(super) fn load(requested_directory: Option<&Path>) -> UserIdKey {
    let generate = || Ok(format!("{}\n", UserIdKey::new(rand::random()).reveal()));
    let kept =
        KEPT.load_or_generate(requested_directory, true, generate).and_then(|(text, kept)| match kept {
            KeptIn::File(path) => text
                .trim()
                .parse()
                .map_err(|why| anyhow!("{}: {why}; remove the file for a new key", path.display())),
            KeptIn::Memory(why) => Err(anyhow!(why)),
        });
    kept.unwrap_or_else(|why| {
        tracing::info!("user ids change with the next start: {why:#}");
        UserIdKey::new(rand::random())
    })
}

#[cfg(test)]
mod tests;
