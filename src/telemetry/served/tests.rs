//! What a proxy counts grows while a stream is open, and stays when streams and channels end.

use std::{net::SocketAddr, sync::Arc};

use crate::telemetry::{ServedChannel, ServedStats, ServedStream};

#[test]
fn a_stream_is_counted_while_it_is_open_and_after_its_end() {
    let stats = Arc::<ServedStats>::default();
    let service = "8080".parse().unwrap();
    let serve = || ServedStream::open(Some(&stats), None, &service).unwrap();
    let stream = serve();
    stream.connected();
    stream.add_down(100);
    stream.add_up(7);
    let open = stats.figures().services.remove(0);
    assert_eq!((&*open.label, open.streams_open, open.streams_opened), ("8080:default", 1, 1));
    assert_eq!((open.down, open.up, open.connect.count(), open.duration.count()), (100, 7, 1, 0));
    drop(stream);
    serve().connect_failed();
    let ended = stats.figures().services.remove(0);
    assert_eq!((ended.streams_open, ended.streams_opened, ended.connect_failures), (0, 2, 1));
    assert_eq!((ended.down, ended.up, ended.duration.count()), (100, 7, 2));
    assert_eq!((ended.stream_down.sum, ended.stream_up.sum, ended.stream_up.count()), (100, 7, 2));
}

#[test]
fn what_closed_channels_have_carried_is_kept() {
    let stats = Arc::<ServedStats>::default();
    let addr: SocketAddr = "192.0.2.1:7000".parse().unwrap();
    let channels = [(), ()].map(|()| ServedChannel::open(Some(&stats), None, 1, addr).unwrap());
    channels.iter().for_each(|channel| channel.stats().add_sent(10));
    let [first, second] = channels;
    drop(first);
    second.stats().add_received(3);
    let figures = stats.figures();
    assert_eq!((figures.channels, figures.carried.sent, figures.carried.received), (1, 20, 3));
    drop(second);
    let figures = stats.figures();
    assert_eq!((figures.channels, figures.carried.sent, figures.carried.received), (0, 20, 3));
}
