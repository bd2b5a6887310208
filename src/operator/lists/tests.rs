//! Tests of the bounds of lists.

use super::*;

/// Clients that ask and do not read make no more memory wait for them.
#[tokio::test]
async fn answers_that_are_not_taken_have_48_mib() {
    let bounds = ListBounds::new(2, 16);
    let _all_but_ten_kib = bounds.answers_kib.clone().try_acquire_many_owned(48 * 1024 - 10).unwrap();
    let first = bounds.answer(Value::Null, || "x".repeat(5 << 10)).await.unwrap();
    assert!(first.line.len() > 5 << 10);
    let mut second = Box::pin(bounds.answer(Value::Null, || "x".repeat(5 << 10)));
    let waits = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(waits.is_err(), "it has to wait until the first one is taken");
    drop(first);
    assert!(second.await.unwrap().line.len() > 5 << 10);
}
