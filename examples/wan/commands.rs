//! Commands on standard input: each changes the path, or asks for statistics, and is answered with one line.

use std::time::Duration;

use crate::{
    rig::{
        Direction, Rig,
        emulator::{Shape, Statistics},
    },
    units,
};

/// Executes one line. Returns the answer.
pub(crate) fn execute(rig: &mut Rig, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (directions, words) = match words.as_slice() {
        ["to-near", words @ ..] => (&[Direction::ToNear][..], words),
        ["to-far", words @ ..] => (&[Direction::ToFar][..], words),
        words => (&[Direction::ToNear, Direction::ToFar][..], words),
    };
    match words {
        ["stats"] => return Ok(statistics(rig)),
        ["blackout", time] => rig.black_out(units::time(time)?),
        ["nat", "off"] => rig.set_nat(None),
        ["nat", idle_timeout] => rig.set_nat(Some(units::time(idle_timeout)?)),
        ["congestion", name] => {
            for namespace in [&rig.near, &rig.far] {
                namespace.set_congestion_control(name).map_err(|error| error.to_string())?;
            }
        }
        [name, value] => {
            let change = change(name, value)?;
            for direction in directions {
                rig.change(*direction, &change);
            }
        }
        _ => return Err(format!("unknown command: {line}")),
    }
    Ok("ok".into())
}

/// A change of the parameters of a direction.
type Change = Box<dyn Fn(&mut Shape)>;

/// Returns the change that a command makes to the parameters of a direction.
fn change(name: &str, value: &str) -> Result<Change, String> {
    Ok(match name {
        "rate" => {
            let rate = units::bits_per_second(value)?;
            Box::new(move |shape| shape.bits_per_second = rate)
        }
        "rtt" => {
            let delay = units::time(value)? / 2;
            Box::new(move |shape| shape.delay = delay)
        }
        "jitter" => {
            let jitter = units::time(value)?;
            Box::new(move |shape| shape.jitter = jitter)
        }
        "queue" => {
            let queue = units::queue(value)?;
            Box::new(move |shape| shape.queue = queue)
        }
        "loss" => {
            let loss = units::percent(value)?;
            Box::new(move |shape| shape.loss = loss)
        }
        "reorder" => {
            let reorder = units::percent(value)?;
            Box::new(move |shape| shape.reorder = reorder)
        }
        "duplicate" => {
            let duplicate = units::percent(value)?;
            Box::new(move |shape| shape.duplicate = duplicate)
        }
        "blackhole" => {
            let is_black_hole = match value {
                "on" => true,
                "off" => false,
                _ => return Err("expected: blackhole on|off".into()),
            };
            Box::new(move |shape| shape.is_black_hole = is_black_hole)
        }
        _ => return Err(format!("unknown command: {name}")),
    })
}

/// Takes the statistics since the last call. Returns them as one JSON object.
fn statistics(rig: &mut Rig) -> String {
    let (elapsed, [to_near, to_far]) = rig.take_statistics();
    let (to_near, to_far) = (direction_json(&to_near, elapsed), direction_json(&to_far, elapsed));
    format!(r#"{{"seconds": {:.3}, "to_near": {to_near}, "to_far": {to_far}}}"#, elapsed.as_secs_f64())
}

/// Returns the statistics of one direction as a JSON object.
fn direction_json(statistics: &Statistics, elapsed: Duration) -> String {
    let counts = [
        ("packets", statistics.packets),
        ("bytes", statistics.bytes),
        ("delivered_packets", statistics.delivered_packets),
        ("delivered_bytes", statistics.delivered_bytes),
        ("dropped_by_queue", statistics.dropped_by_queue),
        ("lost", statistics.lost),
        ("blacked_out", statistics.blacked_out),
        ("reordered", statistics.reordered),
        ("duplicated", statistics.duplicated),
    ];
    let counts: String = counts.iter().map(|(name, count)| format!(r#""{name}": {count}, "#)).collect();
    format!(
        r#"{{{counts}"max_queue_delay_ms": {:.3}, "utilization": {:.4}}}"#,
        statistics.max_queue_delay.as_secs_f64() * 1e3,
        statistics.busy.as_secs_f64() / elapsed.as_secs_f64()
    )
}
