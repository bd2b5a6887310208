//! How often memory is asked for while chunks are carried, once everything has its size. In a file of its own, because
//! the counter counts what all threads do.

#![allow(clippy::unwrap_used)]

#[path = "support/carry.rs"]
#[allow(unreachable_pub, dead_code)]
mod carry;

use std::sync::atomic::Ordering::Relaxed;

use carry::{BATCH, Carrier, STEPS};

/// Counts. Only an allocator sees every allocation, and to be one is unsafe; this one hands everything on.
#[allow(unsafe_code)]
mod counter {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    };

    pub(crate) static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

    struct Counter;

    // SAFETY: every call goes to the system's allocator as it came.
    unsafe impl GlobalAlloc for Counter {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Relaxed);
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            unsafe { System.dealloc(memory, layout) }
        }

        unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Relaxed);
            unsafe { System.realloc(memory, layout, size) }
        }
    }

    #[global_allocator]
    static COUNTER: Counter = Counter;
}

const WARM: u32 = 2000;
const BATCHES: u32 = 2000;

/// Allocations for what one read brings, by step.
fn counts(streams: u32, len: usize, chunk: Option<usize>) -> [f64; STEPS.len()] {
    let mut carrier = Carrier::with_chunk(streams, len, chunk);
    (0..WARM).for_each(|_| carrier.batch(|_| ()));
    let mut counts = [0; STEPS.len()];
    for _ in 0..BATCHES {
        let mut before = counter::ALLOCATIONS.load(Relaxed);
        carrier.batch(|step| {
            let now = counter::ALLOCATIONS.load(Relaxed);
            counts[step] += now - before;
            before = now;
        });
    }
    assert_eq!(carrier.delivered(), u64::from((WARM + BATCHES) * BATCH) * len as u64);
    counts.map(|count| count as f64 / f64::from(BATCHES * BATCH))
}

/// A chunk of a bulk stream, of whatever size, costs nothing but its part of the headers' memory: what it is read into is
/// used again. What comes in small pieces is copied out of the buffer that it is read to, which it would keep alive, and its
/// copy is shared between what is sent and what is kept; where it arrives it costs nothing, unless it waits there.
#[test]
fn a_chunk_costs_no_memory_but_its_own() {
    println!("{:>24} {}", "allocations for a read", STEPS.map(|step| format!("{step:>9}")).concat());
    let large = 64 << 10;
    for (streams, len, chunk) in [
        (1, large, None),
        (8, large, None),
        (1, large, Some(8 << 10)),
        (1, large, Some(4 << 10)),
        (1, 8 << 10, None),
        (1000, 1 << 10, None),
        (1, 64, None),
    ] {
        let counts = counts(streams, len, chunk);
        let cells = counts.map(|count| format!("{count:>9.3}")).concat();
        let whole = chunk.map_or(String::new(), |chunk| format!(" in {chunk}"));
        println!("{:>24} {cells} {:>9.3}", format!("{streams} × {len}{whole}"), counts.iter().sum::<f64>());
        let (read, way) = (counts[0], counts[1..].iter().sum::<f64>());
        let bound = if len == large {
            (0.0, 0.02 * large as f64 / chunk.unwrap_or(large) as f64)
        } else {
            (1.0, 1.25)
        };
        assert!(read <= bound.0 && way <= bound.1, "{read} {way}");
    }
}
