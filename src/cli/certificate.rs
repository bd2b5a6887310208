//! The certificate of the server: the one that the operator gives, or the one that the server generates and keeps.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{
    certificate_files::CertificateFiles,
    file_watch::{FileWatch, POLL_INTERVAL},
    state_dir::{KeptFile, KeptIn},
};
use crate::{
    telemetry::{EventKind, Telemetry},
    tls::{Fingerprint, Identity, ServerTls},
};

/// The file of the generated key and its certificate: one file, so that two servers that start at the same time keep a
/// pair.
const KEPT: KeptFile = KeptFile { name: "tls.pem", content: "TLS key", max_bytes: 64 * 1024 };

/// How long a pair of files that do not belong together may take to become one: an ACME client writes them after each
/// other.
const PAIR_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the certificate of the server is from.
#[derive(Debug)]
pub(super) enum CertificateOrigin {
    /// The operator gave it in these files, which are watched since before they were read.
    Given(CertificateFiles, FileWatch),
    /// The server generated it, now or at an earlier start, and keeps it.
    Generated(KeptIn),
}

/// The certificate of the server.
#[derive(Debug)]
pub(super) struct ServerCertificate {
    /// The certificate with its key.
    pub(super) identity: Identity,
    /// Where it is from.
    pub(super) origin: CertificateOrigin,
}

impl ServerCertificate {
    /// Reads the certificate that `cert` and `key` name. Warns if proxies that verify it will refuse it.
    ///
    /// # Errors
    /// The files cannot be used.
    pub(super) fn read(cert: &Path, key: Option<&Path>) -> anyhow::Result<Self> {
        let files = CertificateFiles::find(cert, key)?;
        let watch = FileWatch::new(vec![files.chain.clone(), files.key.clone()], POLL_INTERVAL);
        let identity = files.load()?;
        warn_of_validity(&files, &identity);
        Ok(Self { identity, origin: CertificateOrigin::Given(files, watch) })
    }

    /// Returns the certificate that the server generated at an earlier start and kept in the state directory, or
    /// generates one and keeps it.
    ///
    /// A certificate that cannot be kept is better than none, unless the operator chose the directory: proxies that do
    /// not pin it are not concerned, because the token authenticates the server.
    ///
    /// # Errors
    /// The directory that the operator chose cannot be used, or the kept certificate cannot.
    pub(super) fn generate(requested: Option<&Path>) -> anyhow::Result<Self> {
        let generate = || Identity::generate().context("cannot generate a TLS key");
        let (pem, kept) = KEPT.load_or_generate(requested, true, generate)?;
        let identity = Identity::from_pem(&pem, &pem).map_err(|error| match &kept {
            KeptIn::File(path) => anyhow::anyhow!(
                "{}: {error}; remove the file for a new key, whose fingerprint proxies have to learn",
                path.display()
            ),
            KeptIn::Memory(_) => error.into(),
        })?;
        Ok(Self { identity, origin: CertificateOrigin::Generated(kept) })
    }

    /// Generates a certificate that ends with the process.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub(super) fn generate_volatile() -> anyhow::Result<Self> {
        let pem = Identity::generate().context("cannot generate a TLS key")?;
        let origin = CertificateOrigin::Generated(KeptIn::Memory("it is not kept".to_owned()));
        Ok(Self { identity: Identity::from_pem(&pem, &pem)?, origin })
    }

    /// Returns the fingerprint by which proxies can recognise the server after a restart, too; `None` if it is another
    /// one then.
    pub(super) fn lasting_fingerprint(&self) -> Option<Fingerprint> {
        let is_volatile = matches!(self.origin, CertificateOrigin::Generated(KeptIn::Memory(_)));
        (!is_volatile).then(|| self.identity.fingerprint())
    }

    /// Logs the fingerprint, and where certificate and key are.
    pub(super) fn log(&self) {
        let fingerprint = self.identity.fingerprint();
        match &self.origin {
            CertificateOrigin::Given(files, _) => {
                tracing::info!("TLS certificate from {}, fingerprint {fingerprint}", files.chain.display());
            }
            CertificateOrigin::Generated(KeptIn::File(path)) => {
                tracing::info!("TLS certificate kept in {}, fingerprint {fingerprint}", path.display());
            }
            CertificateOrigin::Generated(KeptIn::Memory(why)) => tracing::warn!(
                "the TLS certificate has another fingerprint after the next start, and proxies with --fingerprint are refused \
                 then: {why}"
            ),
        }
    }
}

/// The certificate that new connections get, and how its replacement is told.
pub(super) struct ServedCertificate {
    /// Presents it.
    pub(super) tls: ServerTls,
    /// The fingerprint of its key.
    pub(super) fingerprint: Fingerprint,
    /// Tells of another key.
    pub(super) telemetry: Arc<Telemetry>,
}

impl ServedCertificate {
    /// Reads certificate and key of the operator again whenever the files change, and presents them to new connections.
    /// Channels that are open continue. A pair that cannot be used is reported, and the previous one stays.
    pub(super) async fn follow(
        mut self,
        files: CertificateFiles,
        mut watch: FileWatch,
        mut reload: watch::Receiver<()>,
    ) {
        loop {
            watch.changed(&mut reload).await;
            let mut loaded = load(&files).await;
            if loaded.is_err() {
                tokio::time::sleep(PAIR_TIMEOUT).await;
                loaded = load(&files).await;
            }
            if let Some(identity) = self.take_over(loaded, &files.chain, &files.key) {
                warn_of_validity(&files, &identity);
            }
        }
    }

    /// Reads the certificate in the state directory, `path`, again each time that `reload` changes: another one that
    /// the operator has put there, or a new one that is generated if he has removed the file. Only on request, so that
    /// a file that is lost by accident changes no key. Returns when the sender is dropped.
    pub(super) async fn follow_kept(mut self, path: PathBuf, mut reload: watch::Receiver<()>) {
        while reload.changed().await.is_ok() {
            let directory = path.parent().map(Path::to_owned);
            let generate =
                move || ServerCertificate::generate(directory.as_deref()).map(|kept| kept.identity);
            let loaded = tokio::task::spawn_blocking(generate).await;
            self.take_over(loaded.unwrap_or_else(|error| Err(error.into())), &path, &path);
        }
    }

    /// Presents a certificate that was read from these files to new connections, and returns it. Reports one that
    /// cannot be used.
    fn take_over(&mut self, loaded: anyhow::Result<Identity>, chain: &Path, key: &Path) -> Option<Identity> {
        let replaced = loaded.and_then(|identity| {
            self.tls.replace(&identity)?;
            Ok(identity)
        });
        let identity = replaced
            .inspect_err(|error| tracing::warn!("the previous TLS certificate stays in use: {error:#}"))
            .ok()?;
        let previous = std::mem::replace(&mut self.fingerprint, identity.fingerprint());
        if previous == self.fingerprint {
            tracing::info!("read the TLS certificate again: {}", chain.display());
        } else {
            self.telemetry.emit(EventKind::TlsKeyChanged {
                file: key.display().to_string(),
                previous: previous.to_string(),
                fingerprint: self.fingerprint.to_string(),
            });
        }
        Some(identity)
    }
}

/// Reads the files on another thread.
async fn load(files: &CertificateFiles) -> anyhow::Result<Identity> {
    let files = files.clone();
    tokio::task::spawn_blocking(move || files.load()).await?
}

/// Warns if proxies that verify the certificate refuse it, or soon will.
fn warn_of_validity(files: &CertificateFiles, identity: &Identity) {
    if let Some(problem) = identity.validity_problem() {
        tracing::warn!("the TLS certificate in {} {problem}", files.chain.display());
    }
}

#[cfg(test)]
mod tests;
