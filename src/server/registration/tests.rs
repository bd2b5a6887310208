//! The search for a free port.

use super::*;

/// A search through a range full of other programs' ports ends, and leaves its thread to other tasks meanwhile.
#[tokio::test]
async fn a_search_for_a_free_port_yields_and_tries_each_port_once() {
    let (mut tried, mut turns) = (Vec::new(), Vec::new());
    let range: PortRange = "1-300".parse().unwrap();
    {
        let search = find_port(range.candidates(200), |port| {
            tried.push(port);
            None::<()>
        });
        let mut search = std::pin::pin!(search);
        while futures_util::poll!(&mut search).is_pending() {
            turns.push(());
        }
    }
    assert_eq!(turns.len(), 300 / PORTS_PER_TURN);
    assert_eq!(tried, range.candidates(200).collect::<Vec<_>>());
    let found = find_port(range.candidates(0), |port| (port == 100).then_some(port)).await;
    assert_eq!(found, Some(100));
}
