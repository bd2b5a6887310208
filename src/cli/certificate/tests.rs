//! How the server's certificate is kept, and how a changed one is taken over.

use std::{fs, path::PathBuf, process};

use tokio::sync::watch;

use super::*;

/// Returns the path of a directory of one test, which does not exist.
fn directory(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("underpass-identity-{test}-{}", process::id()));
    _ = fs::remove_dir_all(&path);
    path
}

#[test]
fn the_generated_certificate_is_the_same_after_a_restart() {
    let state = directory("kept");
    let first = ServerCertificate::generate(Some(&state)).unwrap();
    let again = ServerCertificate::generate(Some(&state)).unwrap();
    assert_eq!(first.identity.fingerprint(), again.identity.fingerprint());
    assert_eq!(again.lasting_fingerprint(), Some(again.identity.fingerprint()));
    let path = state.join("tls.pem");
    fs::write(&path, "half of a file").unwrap();
    let error = ServerCertificate::generate(Some(&state)).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("remove the file"), "{error}");
    fs::remove_dir_all(&state).unwrap();
}

/// A proxy would otherwise be refused by one of two servers with the same state directory.
#[test]
fn servers_that_start_at_the_same_time_keep_one_key() {
    let state = directory("race");
    let fingerprints: Vec<_> = std::thread::scope(|scope| {
        let start = || ServerCertificate::generate(Some(&state)).unwrap().identity.fingerprint();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]), "{fingerprints:?}");
    fs::remove_dir_all(&state).unwrap();
}

#[tokio::test]
async fn a_changed_pair_is_taken_over_and_half_of_one_is_not() {
    let path = directory("reload");
    fs::create_dir_all(&path).unwrap();
    let (old, new) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let split = |pem: &str| {
        let (key, certificate) = pem.split_at(pem.find("-----BEGIN CERTIFICATE").unwrap());
        (key.to_owned(), certificate.to_owned())
    };
    let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
    write("privkey.pem", &split(&old).0);
    write("fullchain.pem", &split(&old).1);
    let certificate = ServerCertificate::read(&path, None).unwrap();
    let tls = ServerTls::new(&certificate.identity).unwrap();
    let CertificateOrigin::Given(files, _) = certificate.origin else { panic!() };
    let (reload, receiver) = watch::channel(());
    let paths = vec![files.chain.clone(), files.key.clone()];
    let watch = FileWatch::new(paths, Duration::from_secs(3600));
    let (telemetry, previous) = (Telemetry::new(), certificate.identity.fingerprint());
    let mut events = telemetry.subscribe();
    let served = ServedCertificate { tls: tls.clone(), fingerprint: previous, telemetry };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(served.follow(files.clone(), watch, receiver));
    let before = tls.config();
    let is_replaced = async || {
        tokio::time::timeout(Duration::from_secs(30), async {
            while Arc::ptr_eq(&tls.config(), &before) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the new certificate is in use");
    };
    // The certificate without its key, for longer than a client takes to write both.
    write("fullchain.pem", &split(&new).1);
    let error = format!("{:#}", files.load().unwrap_err());
    assert!(error.contains("does not belong"), "{error}");
    reload.send(()).unwrap();
    tokio::time::sleep(PAIR_TIMEOUT + Duration::from_millis(800)).await;
    assert!(Arc::ptr_eq(&tls.config(), &before), "half of a pair is in use");
    write("privkey.pem", &split(&new).0);
    reload.send(()).unwrap();
    is_replaced().await;
    let event = events.recv().await.unwrap();
    let EventKind::TlsKeyChanged { previous: told, fingerprint, .. } = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(told, previous.to_string());
    assert_eq!(fingerprint, Identity::from_pem(&new, &new).unwrap().fingerprint().to_string());
    tasks.shutdown().await;
    fs::remove_dir_all(&path).unwrap();
}
