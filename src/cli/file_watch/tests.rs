//! Which changes of files are noticed.

use std::{os::unix::fs::symlink, process};

use super::*;

/// Waits for a change, which has to come.
async fn changes(watch: &mut FileWatch) {
    tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.expect("a change");
}

#[tokio::test]
async fn changes_of_content_renames_and_switched_links_are_noticed() {
    let directory = std::env::temp_dir().join(format!("underpass-watch-{}", process::id()));
    _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("a")).unwrap();
    fs::create_dir_all(directory.join("b")).unwrap();
    let (file, link) = (directory.join("a/file"), directory.join("live"));
    fs::write(&file, "one").unwrap();
    fs::write(directory.join("b/file"), "one").unwrap();
    symlink("a", &link).unwrap();
    let (reload, receiver) = watch::channel(());
    let mut watch = FileWatch::new(
        vec![link.join("file"), directory.join("missing")],
        receiver,
        Duration::from_millis(5),
    );
    // The same size, and within the same second.
    fs::write(&file, "two").unwrap();
    changes(&mut watch).await;
    // As a program does that replaces a file as a whole.
    fs::write(directory.join("a/new"), "two").unwrap();
    fs::rename(directory.join("a/new"), &file).unwrap();
    changes(&mut watch).await;
    // As Kubernetes and certbot do.
    symlink("b", directory.join("next")).unwrap();
    fs::rename(directory.join("next"), &link).unwrap();
    changes(&mut watch).await;
    fs::write(directory.join("missing"), "").unwrap();
    changes(&mut watch).await;
    fs::remove_file(directory.join("missing")).unwrap();
    changes(&mut watch).await;
    // Nothing has changed, but the operator asks.
    reload.send(()).unwrap();
    changes(&mut watch).await;
    drop(reload);
    let silent = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
    assert!(silent.is_err(), "a change of nothing");
    fs::remove_dir_all(&directory).unwrap();
}
