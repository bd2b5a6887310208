//! The order, the selection and the rates of users and proxies.

use super::*;

/// A user with these bytes downloaded.
fn user(id: &str, address: &str, down: u64, age_ms: u64) -> UserRow {
    UserRow {
        user: id.to_owned(),
        address: address.to_owned(),
        service: "8080:default".to_owned(),
        streams: 1,
        streams_total: 1,
        down,
        up: 0,
        down_rate: None,
        up_rate: None,
        traffic_percent: None,
        limit_down: None,
        limit_up: None,
        age_ms,
    }
}

fn users() -> Vec<UserRow> {
    vec![
        user("AAAAAA", "192.0.2.10", 1_000, 5_000),
        user("BBBBBB", "192.0.2.9", 4_000_000, 1_000),
        user("CCCCCC", "2001:db8::7", 3_000, 9_000),
    ]
}

/// Returns the ids of the users that a query selects, in their order.
fn selected(query: PsQuery) -> Result<Vec<String>, RequestError> {
    let mut rows = users();
    let before = [("AAAAAA", 0), ("BBBBBB", 3_999_000), ("CCCCCC", 3_000)];
    let before = before.map(|(id, down)| (id.to_owned(), (down, 0))).into();
    set_rates(&mut rows, &before, Duration::from_millis(500));
    let selection = RowSelection::of::<UserRow>("users", &query)?;
    Ok(selection.select(rows).into_iter().map(|row| row.user).collect())
}

fn query(filter: &str, sort: &str) -> PsQuery {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    PsQuery { filter: text(filter), sort: text(sort), over_ms: Some(500), ..PsQuery::default() }
}

#[test]
fn users_are_sorted_by_the_names_of_the_cockpit() {
    for (sort, expected) in [
        ("", "CAB"),
        ("age", "CAB"),
        ("bytes", "BCA"),
        ("address", "BAC"),
        ("user", "ABC"),
        ("streams", "ABC"),
        ("traffic", "ABC"),
    ] {
        let first: String = selected(query("", sort)).unwrap().iter().map(|id| &id[..1]).collect();
        assert_eq!(first, expected, "{sort}");
    }
    let most = PsQuery { reverse: true, max: Some(1), ..query("", "bytes") };
    assert_eq!(selected(most).unwrap(), ["AAAAAA"]);
    let error = selected(query("", "speed")).unwrap_err().message;
    assert!(error.starts_with("users: unknown sort key «speed»; expected: age|traffic"), "{error}");
}

#[test]
fn users_pass_filters_in_the_language_of_streams() {
    for (filter, expected) in [
        ("192.0.2", 2),
        ("user=192.0.2.9", 1),
        ("user=AAAAAA", 1),
        ("service:8080", 3),
        ("port=8080 !db8", 2),
        ("down-bytes>2K", 2),
        ("down>1K", 2),
        ("age>6s", 1),
        ("content:index", 0),
    ] {
        assert_eq!(selected(query(filter, "")).unwrap().len(), expected, "{filter}");
    }
    let without_time = PsQuery { over_ms: None, ..query("down>1K", "") };
    assert!(selected(without_time).unwrap_err().message.contains("«over_ms» is missing"));
}

#[test]
fn rates_are_what_came_since_and_shares_add_up() {
    let mut rows = users();
    let before = HashMap::from([("AAAAAA".to_owned(), (500, 0)), ("CCCCCC".to_owned(), (3_000, 0))]);
    set_rates(&mut rows, &before, Duration::from_secs(2));
    let rates: Vec<_> = rows.iter().map(|row| (row.down_rate, row.traffic_percent)).collect();
    // B is new, and has been there for one of the two seconds.
    assert_eq!(rates, [(Some(250), Some(0)), (Some(4_000_000), Some(99)), (Some(0), Some(0))]);
}

#[test]
fn each_list_is_sorted_by_each_of_its_names() {
    let rows = users();
    for key in USER_SORT_KEYS {
        rows[0].sort_value(key);
        assert!(RowSelection::of::<UserRow>("users", &query("", key)).is_ok(), "{key}");
    }
    for key in PROXY_SORT_KEYS {
        assert!(RowSelection::of::<ProxyListRow>("proxies", &query("", key)).is_ok(), "{key}");
    }
    for key in SERVICE_SORT_KEYS {
        assert!(RowSelection::of::<ServiceRow>("services", &query("", key)).is_ok(), "{key}");
    }
    for key in CHANNEL_SORT_KEYS {
        assert!(RowSelection::of::<ChannelRow>("channels", &query("", key)).is_ok(), "{key}");
    }
}
