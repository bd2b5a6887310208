//! Which changes of files are noticed.

use std::{os::unix::fs::symlink, process};

use super::*;

/// Waits for a change, which has to come.
async fn changes(watch: &mut FileWatch, reload: &mut watch::Receiver<()>) {
    tokio::time::timeout(Duration::from_secs(30), watch.changed(reload)).await.expect("a change");
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
    let (reload, mut receiver) = watch::channel(());
    let mut watch =
        FileWatch::new(vec![link.join("file"), directory.join("missing")], Duration::from_millis(5));
    // The same size, and within the same second.
    fs::write(&file, "two").unwrap();
    changes(&mut watch, &mut receiver).await;
    // As a program does that replaces a file as a whole.
    fs::write(directory.join("a/new"), "two").unwrap();
    fs::rename(directory.join("a/new"), &file).unwrap();
    changes(&mut watch, &mut receiver).await;
    // As Kubernetes and certbot do.
    symlink("b", directory.join("next")).unwrap();
    fs::rename(directory.join("next"), &link).unwrap();
    changes(&mut watch, &mut receiver).await;
    fs::write(directory.join("missing"), "").unwrap();
    changes(&mut watch, &mut receiver).await;
    fs::remove_file(directory.join("missing")).unwrap();
    changes(&mut watch, &mut receiver).await;
    // Nothing has changed, but the operator asks.
    reload.send(()).unwrap();
    changes(&mut watch, &mut receiver).await;
    drop(reload);
    let silent = tokio::time::timeout(Duration::from_millis(50), watch.changed(&mut receiver)).await;
    assert!(silent.is_err(), "a change of nothing");
    fs::remove_dir_all(&directory).unwrap();
}

/// A file that is being written is not reported before it stays as it is.
#[tokio::test(start_paused = true)]
async fn a_file_that_changes_at_each_look_is_not_reported_yet() {
    let file = std::env::temp_dir().join(format!("underpass-settle-{}", process::id()));
    fs::write(&file, "").unwrap();
    let (_sender, mut reload) = watch::channel(());
    let mut watch = FileWatch::new(vec![file.clone()], Duration::from_millis(100));
    let mut text = String::new();
    for _ in 0..5 {
        text.push('x');
        fs::write(&file, &text).unwrap();
        assert!(!watch.is_unchanged().await, "{text}");
        assert_ne!(watch.versions, watch.reported);
    }
    changes(&mut watch, &mut reload).await;
    assert_eq!(watch.versions, watch.reported);
    fs::remove_file(&file).unwrap();
}
