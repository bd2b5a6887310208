//! The certificate and the key that the operator gives: in files, or in a directory that an ACME client maintains.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use super::{state_dir, text_file};
use crate::tls::Identity;

/// The longest file in bytes. A chain of four certificates has 8 KiB.
const MAX_BYTES: usize = 256 * 1024;

/// The names of the two files, by the program that writes them.
const KNOWN_NAMES: [(&str, &str); 4] = [
    // certbot, dehydrated.
    ("fullchain.pem", "privkey.pem"),
    // mkcert scripts, Traefik exporters, acme.sh --install-cert as its manual shows it.
    ("fullchain.pem", "key.pem"),
    ("cert.pem", "key.pem"),
    // A Kubernetes secret, as cert-manager maintains it.
    ("tls.crt", "tls.key"),
];

/// The file of the certificate chain and the file of the private key, which may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateFiles {
    /// The chain in PEM, the certificate of the server first.
    pub(super) chain: PathBuf,
    /// The private key in PEM.
    pub(super) key: PathBuf,
}

impl CertificateFiles {
    /// Returns the files that `--cert` and `--key` name: two files, one file with both, or a directory with two files
    /// of names that are usual.
    ///
    /// # Errors
    /// There is no such file, or the names in the directory are not known.
    pub(super) fn find(cert: &Path, key: Option<&Path>) -> anyhow::Result<Self> {
        let name = cert.display();
        let metadata = fs::metadata(cert).with_context(|| format!("cannot read {name} (--cert)"))?;
        if !metadata.is_dir() {
            return Ok(Self { chain: cert.to_owned(), key: key.unwrap_or(cert).to_owned() });
        }
        ensure!(
            key.is_none(),
            "--cert {name} is a directory, whose key is used: leave --key out, or name a file in --cert"
        );
        for (chain, key) in KNOWN_NAMES.map(|(chain, key)| (cert.join(chain), cert.join(key))) {
            if chain.is_file() && key.is_file() {
                return Ok(Self { chain, key });
            }
        }
        // Caddy and lego: NAME.crt and NAME.key; acme.sh: fullchain.cer and NAME.key.
        let mut keys: Vec<_> = fs::read_dir(cert)
            .with_context(|| format!("cannot read {name} (--cert)"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "key"))
            .collect();
        let Some(key) = keys.pop().filter(|_| keys.is_empty()) else {
            bail!(
                "{name} (--cert) contains {}: expected fullchain.pem and privkey.pem, cert.pem and key.pem, tls.crt and \
                 tls.key, or NAME.crt and NAME.key; or name the files with --cert FILE --key FILE",
                if keys.is_empty() { "no certificate and key of known names" } else { "several keys" }
            );
        };
        let chains = [cert.join("fullchain.cer"), key.with_extension("crt")];
        let Some(chain) = chains.into_iter().find(|chain| chain.is_file()) else {
            bail!(
                "{} (--cert) has no certificate beside it: name both with --cert FILE --key FILE",
                key.display()
            );
        };
        Ok(Self { chain, key })
    }

    /// Reads both files.
    ///
    /// # Errors
    /// One cannot be read, or they are no pair of a certificate and its key. The message names the file.
    pub(super) fn load(&self) -> anyhow::Result<Identity> {
        let chain = read(&self.chain)?;
        let key = read(&self.key)?;
        let identity = Identity::from_pem(&chain, &key).map_err(|error| {
            let path = if error.concerns_key() { &self.key } else { &self.chain };
            match self.key == self.chain && error.concerns_key() {
                true => anyhow::anyhow!("{}: {error}; give the file of the key with --key", path.display()),
                false => anyhow::anyhow!("{}: {error}", path.display()),
            }
        })?;
        // Not before it is known to be a key: the mode of another file is none of this program's business.
        if let Ok(metadata) = File::open(&self.key).and_then(|file| file.metadata()) {
            state_dir::warn_if_open_to_all(&metadata, "private key", &self.key);
        }
        Ok(identity)
    }
}

/// Reads one of the files.
fn read(path: &Path) -> anyhow::Result<String> {
    let advice = "the user of this process needs to read it (chgrp and chmod g+r, or setfacl)";
    let opened = File::open(path).and_then(|file| text_file::read(file, MAX_BYTES));
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("cannot read {}: {error}; {advice}", path.display())
        }
        _ => anyhow::anyhow!("cannot read {}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests;
