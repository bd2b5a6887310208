//! A filter judges a row as the cockpit would judge the stream.

use super::*;
use crate::control::StreamFilter;

fn row() -> StreamRow {
    StreamRow {
        key: "3F9A1C:2".to_owned(),
        number: 7,
        state: "open".to_owned(),
        service: "8080:default".to_owned(),
        proxy: Some("P1".to_owned()),
        proxy_name: Some("edge-1".to_owned()),
        channel: Some("P1/2".to_owned()),
        address: "[2001:db8::7]:443".to_owned(),
        content: Some("GET /Index".to_owned()),
        priority: Some("high".to_owned()),
        down: 2_000,
        up: 500,
        down_rate: Some(1_500_000),
        up_rate: Some(0),
        limit_down: None,
        limit_up: None,
        size: Some(10_000),
        arrived: Some(2_000),
        age_ms: 30_500,
    }
}

#[test]
fn every_field_and_figure_can_be_searched() {
    let passes = |text: &str| StreamFilter::parse(text).unwrap().passes(&row());
    for text in [
        "edge proxy:EDGE proxy=edge-1 proxy=P1",
        "key:3f9a1c user=3F9A1C key=3F9A1C:2",
        "user=2001:db8::7 user=[2001:db8::7]:443 user:db8",
        "service:8080 port=8080 service=8080:default",
        "content:index /GET .index/ state=open pri:high priority=high",
        "down>1M up<1 down-bytes>1K up-bytes<1K bytes>2.4K size>9K age>30s !age>31s",
    ] {
        assert!(passes(text), "{text}");
    }
    for text in ["proxy=edge", "!edge", "state:wait", "down>1.5M", "high", "user=2001:db8::70", "age<30"] {
        assert!(!passes(text), "{text}");
    }
    assert!(StreamFilter::parse("a down>1").unwrap().needs_rates());
    assert!(!StreamFilter::parse("down-bytes>1").unwrap().needs_rates());
}

/// Programs rely on the names of fields.
#[test]
fn a_row_survives_serialization() {
    let text = serde_json::to_string(&row()).unwrap();
    assert!(
        text.starts_with(r#"{"key":"3F9A1C:2","number":7,"state":"open","service":"8080:default""#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<StreamRow>(&text).unwrap(), row());
}
