//! Every order is total and has the direction that people expect.

use super::*;

fn row(key: &str) -> StreamRow {
    StreamRow {
        key: key.to_owned(),
        number: 0,
        state: "open".to_owned(),
        service: "8080:default".to_owned(),
        proxy: None,
        proxy_name: None,
        channel: None,
        address: "10.0.0.1:1".to_owned(),
        content: None,
        priority: Some("normal".to_owned()),
        down: 0,
        up: 0,
        down_rate: None,
        up_rate: None,
        limit_down: None,
        limit_up: None,
        size: None,
        arrived: None,
        age_ms: 0,
    }
}

fn order(by: &str, mut rows: Vec<StreamRow>) -> Vec<String> {
    let sort = StreamSort::named(by).unwrap();
    rows.sort_by(|a, b| sort.compare(a, b));
    rows.into_iter().map(|row| row.key).collect()
}

#[test]
fn numbers_in_keys_and_ids_are_compared_as_numbers() {
    let rows = || ["00000A:10", "00000A:2", "000001:30"].map(row).to_vec();
    assert_eq!(order("key", rows()), ["000001:30", "00000A:2", "00000A:10"]);
    let mut with_proxies = rows();
    for (row, proxy) in with_proxies.iter_mut().zip(["P10", "P9", "P1"]) {
        row.proxy = Some(proxy.to_owned());
    }
    assert_eq!(order("proxy", with_proxies), ["000001:30", "00000A:2", "00000A:10"]);
    let mut with_channels = rows();
    for (row, channel) in with_channels.iter_mut().zip(["P1/10", "P1/9", "P1/1"]) {
        row.channel = Some(channel.to_owned());
    }
    assert_eq!(order("channel", with_channels), ["000001:30", "00000A:2", "00000A:10"]);
    let mut with_addresses = rows();
    for (row, address) in with_addresses.iter_mut().zip(["10.0.0.10:1", "10.0.0.2:10", "10.0.0.2:9"]) {
        row.address = address.to_owned();
    }
    assert_eq!(order("user", with_addresses), ["000001:30", "00000A:2", "00000A:10"]);
}

#[test]
fn the_fastest_the_largest_and_the_most_urgent_come_first() {
    let mut rows = ["000001:1", "000001:2", "000001:3"].map(row).to_vec();
    (rows[1].down_rate, rows[1].down, rows[1].priority) = (Some(9), 9, Some("urgent".to_owned()));
    (rows[2].down_rate, rows[2].down) = (Some(5), 5);
    (rows[2].arrived, rows[2].size) = (Some(1), Some(2));
    for by in ["down", "down-bytes", "bytes"] {
        assert_eq!(order(by, rows.clone()), ["000001:2", "000001:3", "000001:1"], "{by}");
    }
    assert_eq!(order("priority", rows.clone()), ["000001:2", "000001:1", "000001:3"]);
    assert_eq!(order("progress", rows), ["000001:3", "000001:1", "000001:2"]);
}

#[test]
fn an_unknown_order_names_all() {
    let error = StreamSort::named("speed").unwrap_err();
    assert!(error.contains("«speed»") && error.contains("key|state|service"), "{error}");
    for name in SORT_KEYS {
        order(name, vec![row("000001:1"), row("000001:2")]);
    }
}
