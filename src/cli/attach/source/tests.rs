//! What the cockpit gets of the lines of a server, and what the server gets for them.

use super::*;

/// Passes lines to a new source and polls it once. Returns the items and the requests that the source has made.
fn poll_after(lines: &[&str]) -> (Vec<String>, Vec<Outgoing>) {
    let inbox = Arc::<Mutex<Inbox>>::default();
    let (requests, mut sent) = mpsc::channel(8);
    let mut source = AttachedSource::new(inbox.clone(), requests, Capabilities::none());
    for line in lines {
        inbox.lock().take_line(Line::parse(line.as_bytes()).unwrap()).unwrap();
    }
    let mut items = Vec::new();
    let request = PollRequest::Sample { with_log: true, selected: &[], visible: &[] };
    source.poll(request, &mut |item| items.push(format!("{item:?}")));
    (items, std::iter::from_fn(|| sent.try_recv().ok()).collect())
}

#[test]
fn lost_log_records_are_not_reported_as_missed_events() {
    let (items, _) =
        poll_after(&[r#"{"seq":1,"missed":{"log":3}}"#, r#"{"seq":2,"missed":{"events":2,"log":3}}"#]);
    assert_eq!(items, ["MissedEvents(2)"]);
}

#[test]
fn each_received_line_is_credited_once() {
    let (_, sent) = poll_after(&[r#"{"seq":1,"missed":{"log":3}}"#, r#"{"seq":2,"missed":{"events":2}}"#]);
    assert!(matches!(sent[..], [Outgoing::Credit(2)]), "{sent:?}");
}

/// As while the cockpit is suspended, or its log frozen.
#[test]
fn a_full_inbox_drops_its_oldest_items() {
    let mut inbox = Inbox::default();
    for number in 1..=8200 {
        let line = format!(r#"{{"seq":{number},"missed":{{"events":{number}}}}}"#);
        inbox.take_line(Line::parse(line.as_bytes()).unwrap()).unwrap();
    }
    assert_eq!(inbox.queue.len(), 8192);
    assert!(matches!(inbox.queue[0], Incoming::Missed(9)), "{:?}", inbox.queue[0]);
}
