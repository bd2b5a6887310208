//! What a recording does not keep: digits of times that no screen shows.

use std::{sync::Arc, time::Duration};

use crate::{
    feed::Item,
    telemetry::{EventKind, StreamSnapshot, UserSnapshot, micros},
};

/// Rounds the times of streams and users, and sorts rows of streams by serial number, in which order columns expect
/// them. Random digits do not compress: these were a tenth of a recording.
pub(super) fn round(item: &mut Item) {
    match item {
        Item::Event(event) => {
            if let EventKind::StreamEnded { lasted, time_to_first_byte, .. } = &mut event.kind {
                *lasted = Duration::from_millis(micros::count(*lasted).saturating_add(500) / 1000);
                *time_to_first_byte = time_to_first_byte.map(|time| first_byte(first_byte_number(time)));
            }
        }
        Item::Snapshot(snapshot) => round_rows(&mut snapshot.users, &mut snapshot.streams),
        Item::Changes(changes) => {
            let mut none = (Vec::new(), Vec::new());
            let users = changes.users.as_mut().map_or(&mut none.0, |users| &mut users.rows);
            let streams = changes.streams.as_mut().map_or(&mut none.1, |streams| &mut streams.rows);
            round_rows(users, streams);
        }
        _ => {}
    }
}

/// Rounds the times of rows to milliseconds, and sorts those of streams.
fn round_rows(users: &mut [UserSnapshot], streams: &mut [StreamSnapshot]) {
    for user in users {
        user.connected_at = whole_millis(user.connected_at);
    }
    for stream in streams.iter_mut() {
        let opened_at = whole_millis(stream.info.opened_at);
        if stream.info.opened_at != opened_at {
            Arc::make_mut(&mut stream.info).opened_at = opened_at;
        }
    }
    streams.sort_by_key(|stream| stream.number);
}

/// Returns the whole milliseconds of a duration.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(micros::count(duration) / 1000)
}

/// Returns the number in the column of times to the first byte: three digits, and 1000 times the power of ten of
/// microseconds that they count.
pub(super) fn first_byte_number(time: Duration) -> u64 {
    let (mut digits, mut exponent) = (micros::count(time), 0);
    while digits >= 1000 {
        // Rounds at the last step only: in two steps, 1449.5 would become 1500.
        digits = if digits < 10_000 { (digits + 5) / 10 } else { digits / 10 };
        exponent += 1;
    }
    exponent * 1000 + digits
}

/// Returns the time of a number of [`first_byte_number`]; one that no time has is the longest time.
pub(super) fn first_byte(number: u64) -> Duration {
    let power = u32::try_from(number / 1000).ok().and_then(|exponent| 10u64.checked_pow(exponent));
    let micros = power.and_then(|power| power.checked_mul(number % 1000));
    Duration::from_micros(micros.unwrap_or(u64::MAX))
}
