//! Tests of the shares that the scheduler gives to classes, users and streams.

use foldhash::HashMap;

use super::*;

const CHUNK: usize = 64 * 1024;

/// Returns the bytes that each stream has sent after `chunks` chunks, if all of them always have data. A stream is
/// given as its id, its priority and its user.
fn shares(streams: &[(u32, Priority, u32)], chunk: usize, chunks: usize) -> HashMap<u32, usize> {
    let mut scheduler = Scheduler::default();
    for &(stream, priority, user) in streams {
        scheduler.enqueue(stream, priority, UserChannelId::new(user));
    }
    let mut shares = HashMap::default();
    for _ in 0..chunks {
        let next = scheduler.next().unwrap();
        *shares.entry(next.stream).or_default() += chunk;
        scheduler.charge(next, chunk, true);
    }
    shares
}

fn ratio(shares: &HashMap<u32, usize>, a: u32, b: u32) -> f64 {
    shares[&a] as f64 / shares[&b] as f64
}

/// Regression test: a user whose keys were faster than a round waited for all other users with every second key.
#[test]
fn returning_user_goes_first_within_its_quantum() {
    let mut scheduler = Scheduler::default();
    let user = UserChannelId::new;
    (0..50).for_each(|stream| scheduler.enqueue(stream, Priority::Normal, user(stream)));
    let mut sent = HashMap::default();
    for _ in 0..1000 {
        scheduler.enqueue(50, Priority::Normal, user(50));
        let next = scheduler.next().unwrap();
        assert_eq!(next.stream, 50);
        scheduler.charge(next, 64, false);
        let next = scheduler.next().unwrap();
        scheduler.charge(next, CHUNK, true);
    }
    // With as much data as the others it gets as much as they do.
    scheduler.enqueue(50, Priority::Normal, user(50));
    for _ in 0..50_000 {
        let next = scheduler.next().unwrap();
        *sent.entry(next.stream).or_insert(0) += 4096;
        scheduler.charge(next, 4096, next.stream != 50);
        if next.stream == 50 {
            scheduler.enqueue(50, Priority::Normal, user(50));
        }
    }
    let ratio = f64::from(sent[&50]) / f64::from(sent[&0]);
    assert!((0.9..=1.1).contains(&ratio), "{ratio}");
}

#[test]
fn classes_share_by_weight_for_any_chunk_size() {
    let streams = Priority::ALL.map(|priority| (priority as u32, priority, priority as u32));
    for chunk in [100, 8 * 1024, CHUNK] {
        let shares = shares(&streams, chunk, 400_000);
        for low in 0..4 {
            let ratio = ratio(&shares, low + 1, low);
            assert!((1.95..=2.05).contains(&ratio), "{chunk}: {ratio}");
        }
    }
}

/// Regression test: a stream was given a high priority to be quick, and waited for the rest of a normal stream's
/// turn.
#[test]
fn higher_class_preempts_within_its_quantum() {
    let user = UserChannelId::new;
    for chunk in [1024, 4096, CHUNK] {
        let mut scheduler = Scheduler::default();
        scheduler.enqueue(1, Priority::Normal, user(1));
        scheduler.enqueue(2, Priority::Low, user(2));
        let mut lower = [0; 3];
        for _ in 0..10_000 {
            scheduler.enqueue(9, Priority::High, user(9));
            let next = scheduler.next().unwrap();
            assert_eq!(next.stream, 9, "{chunk}");
            scheduler.charge(next, 64, false);
            let next = scheduler.next().unwrap();
            lower[next.stream as usize] += chunk;
            scheduler.charge(next, chunk, true);
        }
        let ratio = lower[1] as f64 / lower[2] as f64;
        assert!((1.95..=2.05).contains(&ratio), "{chunk}: {ratio}");
        // If it leaves and returns with much data, it gets its share by weight and no more.
        let mut sent = [0; 10];
        scheduler.enqueue(9, Priority::High, user(9));
        for _ in 0..400_000 {
            let next = scheduler.next().unwrap();
            sent[next.stream as usize] += chunk;
            scheduler.charge(next, chunk, next.stream != 9);
            if next.stream == 9 {
                scheduler.enqueue(9, Priority::High, user(9));
            }
        }
        let ratio = sent[9] as f64 / sent[1] as f64;
        assert!((1.9..=2.1).contains(&ratio), "{chunk}: {ratio}");
    }
}

#[test]
fn user_with_fifty_downloads_gets_no_more_than_user_with_one() {
    let mut streams: Vec<_> = (0..50).map(|stream| (stream, Priority::Normal, 1)).collect();
    streams.push((50, Priority::Normal, 2));
    let shares = shares(&streams, CHUNK, 10_000);
    let many: usize = (0..50).map(|stream| shares[&stream]).sum();
    let ratio = many as f64 / shares[&50] as f64;
    assert!((0.98..=1.02).contains(&ratio), "{ratio}");
    let each: Vec<_> = (0..50).map(|stream| shares[&stream]).collect();
    assert!(each.iter().max().unwrap() - each.iter().min().unwrap() <= 2 * CHUNK);
}

#[test]
fn small_message_waits_for_at_most_one_chunk_of_a_bulk_stream() {
    let mut scheduler = Scheduler::default();
    let user = UserChannelId::new;
    (0..4).for_each(|stream| scheduler.enqueue(stream, Priority::Normal, user(stream)));
    for _ in 0..1000 {
        let next = scheduler.next().unwrap();
        scheduler.charge(next, CHUNK, true);
    }
    scheduler.enqueue(9, Priority::Normal, user(9));
    let mut waited = 0;
    while let Some(next) = scheduler.next() {
        if next.stream == 9 {
            scheduler.charge(next, 64, false);
            break;
        }
        scheduler.charge(next, CHUNK, true);
        waited += 1;
    }
    assert!(waited <= 1, "waited for {waited} chunks");
    (0..4).for_each(|_| {
        let next = scheduler.next().unwrap();
        scheduler.charge(next, 1, false);
    });
    assert!(scheduler.is_empty() && scheduler.next().is_none());
    scheduler.enqueue(1, Priority::Low, user(1));
    assert_eq!(scheduler.next().map(|next| next.stream), Some(1));
    let users: usize = scheduler.classes.iter().map(PriorityClass::user_count).sum();
    assert_eq!(users, 1, "users without queued streams are forgotten");
}
