//! What a screen costs with ten thousand streams that all carry data.

use std::{sync::Arc, time::Duration};

use super::{super::*, carried, world::waiting};
use crate::{
    ids::{StreamKey, UserChannelId},
    telemetry::{Content, Snapshot, StreamInfo, StreamSnapshot, StreamState},
};

/// The number of streams.
const STREAMS: u64 = 10_000;

/// Returns a server whose streams belong to a hundred users.
fn busy_server() -> Snapshot {
    let streams = (0..STREAMS)
        .map(|number| {
            let key = StreamKey::new(UserChannelId::new(number as u32 % 100), number as u32);
            let info = StreamInfo {
                key,
                addr: "192.0.2.1:4000".parse().unwrap(),
                service: "8080".parse().unwrap(),
                opened_at: Duration::ZERO,
            };
            StreamSnapshot::new(Arc::new(info), number * 7, 0, waiting(key))
        })
        .collect();
    Snapshot { streams, ..Snapshot::default() }
}

/// Each stream carries 100 KB down and 1 KB up a second; ten samples are taken in a second, as for a screen with fifty
/// rows.
fn second(snapshot: &mut Snapshot, mut sample: impl FnMut(&Snapshot)) {
    for tick in 0..10 {
        snapshot.uptime += Duration::from_millis(100);
        for stream in &mut snapshot.streams {
            stream.down += 9_000 + (stream.number * 31 + tick) % 2_000;
            stream.up += 90 + stream.number % 20;
        }
        sample(snapshot);
    }
}

#[test]
fn ten_thousand_busy_streams_take_at_most_200_kb_a_second() {
    let mut snapshot = busy_server();
    let (mut encoder, mut decoder) = (Encoder::new(Pace::SCREEN), Decoder::default());
    let interest = Interest { streams: (0..50).map(|row| row * 7 * 100).collect(), ..Interest::default() };
    decoder.apply(encoder.snapshot(&snapshot, &interest)).unwrap();
    let mut bytes = 0;
    for _ in 0..2 {
        second(&mut snapshot, |snapshot| {
            let line = encoder.snapshot(snapshot, &interest);
            bytes += line.to_json().unwrap().len() + 1;
            decoder.apply(carried(&line)).unwrap();
            // The places of the rows on the screen are the same on both sides: no stream ends.
            for at in (0..50).map(|row| row * 100) {
                assert_eq!(decoder.snapshot().streams[at], snapshot.streams[at]);
            }
        });
    }
    let per_second = bytes / 2;
    assert!(per_second <= 200_000, "{per_second} B/s");
    // With the rows of one screen, a change is mostly those of others.
    assert!(per_second > 50_000, "{per_second} B/s");
}

/// Returns the row of a kept-alive connection with this request, the version of its attributes.
fn with_target(stream: &StreamSnapshot, changes: u32, target: &str) -> StreamSnapshot {
    let content =
        Content::Http { method: "GET".into(), target: target.into(), status: Some(200), body: None };
    let state = StreamState { content: Some(Arc::new(content)), ..waiting(stream.info.key) };
    let mut row = StreamSnapshot::new(stream.info.clone(), stream.number, changes, state);
    (row.down, row.up) = (stream.down, stream.up);
    row
}

/// A kept-alive connection changes its content with each request. Rows on the screen are exact; those of the others
/// come in turn, and none is left out.
#[test]
fn ten_thousand_kept_alive_connections_take_at_most_200_kb_a_second() {
    let mut snapshot = busy_server();
    let (mut encoder, mut decoder) = (Encoder::new(Pace::SCREEN), Decoder::default());
    let interest = Interest { streams: (0..50).map(|row| row * 7 * 100).collect(), ..Interest::default() };
    decoder.apply(encoder.snapshot(&snapshot, &interest)).unwrap();
    let (mut bytes, mut tick) = (0, 0);
    for _ in 0..2 {
        second(&mut snapshot, |snapshot| {
            tick += 1;
            // One request of each connection in a second: a tenth of them has another one than a sample before.
            let with = |stream: &StreamSnapshot| {
                let request = 1 + (tick + stream.number as u32) / 10;
                with_target(stream, request, &format!("/api/v1/items/{}/{request}", stream.number))
            };
            let streams = snapshot.streams.iter().map(with).collect();
            let snapshot = Snapshot { streams, ..snapshot.clone() };
            let line = encoder.snapshot(&snapshot, &interest);
            bytes += line.to_json().unwrap().len() + 1;
            decoder.apply(carried(&line)).unwrap();
            for at in (0..50).map(|row| row * 100) {
                assert_eq!(decoder.snapshot().streams[at], snapshot.streams[at]);
            }
        });
    }
    let per_second = bytes / 2;
    println!("{per_second} B/s");
    assert!((50_000..=200_000).contains(&per_second), "{per_second} B/s");
    // The requests stop. After one round everybody's row is that of the server.
    snapshot.streams.iter_mut().for_each(|stream| *stream = with_target(stream, u32::MAX, "/last"));
    let rounds = STREAMS as usize / Pace::SCREEN.changed + 1;
    for _ in 0..rounds {
        decoder.apply(carried(&encoder.snapshot(&snapshot, &interest))).unwrap();
    }
    for (decoded, original) in decoder.snapshot().streams.iter().zip(&snapshot.streams) {
        assert_eq!((decoded.number, &decoded.content), (original.number, &original.content));
    }
}

/// A rate over the last second, as the screen computes it, is that of the stream, also where its row comes once a
/// second.
#[test]
fn a_row_that_is_sent_in_turn_shows_its_true_rate() {
    let mut snapshot = busy_server();
    let (mut encoder, mut decoder) = (Encoder::new(Pace::SCREEN), Decoder::default());
    decoder.apply(encoder.snapshot(&snapshot, &Interest::default())).unwrap();
    let mut shown = Vec::new();
    for _ in 0..4 {
        second(&mut snapshot, |snapshot| {
            decoder.apply(encoder.snapshot(snapshot, &Interest::default())).unwrap();
            shown.push(decoder.snapshot().streams[4321].down);
        });
    }
    for window in shown[20..].windows(11) {
        let rate = window[10] - window[0];
        assert!((90_000..=110_000).contains(&rate), "{rate} B/s of about 100,000 in {shown:?}");
    }
}
