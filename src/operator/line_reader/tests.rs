//! Lines are read whole, whatever the reads return, and a long one is an error before it is in memory.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::*;

#[tokio::test]
async fn a_line_is_whole_after_the_reader_was_cancelled_in_the_middle_of_it() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut reader = LineReader::new(server, 100);
    client.write_all(b"{\"do\":").await.unwrap();
    let cancelled = tokio::time::timeout(Duration::from_millis(20), reader.next_line()).await;
    assert!(cancelled.is_err());
    client.write_all(b"\"ps\"}\r\n\nlast").await.unwrap();
    drop(client);
    assert_eq!(reader.next_line().await.unwrap().unwrap(), "{\"do\":\"ps\"}");
    assert_eq!(reader.next_line().await.unwrap().unwrap(), "");
    assert_eq!(reader.next_line().await.unwrap().unwrap(), "last");
    assert!(reader.next_line().await.unwrap().is_none());
}

#[tokio::test]
async fn a_line_may_have_the_maximum_and_no_byte_more() {
    for (length, is_read) in [(100, true), (101, false)] {
        let line = [vec![b'x'; length], b"\n".to_vec()].concat();
        let mut reader = LineReader::new(line.as_slice(), 100);
        assert_eq!(reader.next_line().await.is_ok(), is_read, "{length}");
    }
}

#[tokio::test]
async fn a_line_without_end_takes_no_more_memory_than_the_maximum() {
    let mut reader = LineReader::new(tokio::io::repeat(b'x'), 64 * 1024);
    assert!(matches!(reader.next_line().await, Err(LineError::TooLong(_))));
    assert!(reader.buffer.capacity() < 256 * 1024, "{}", reader.buffer.capacity());
}
