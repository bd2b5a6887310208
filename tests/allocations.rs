//! Counts memory allocations per chunk in the steady state. A test binary of its own, because the allocator counts the
//! allocations of all threads.

#![allow(clippy::unwrap_used)]

#[path = "support/carry.rs"]
#[allow(unreachable_pub, dead_code)]
mod carry;

use std::sync::atomic::Ordering::Relaxed;

use carry::{BATCH, Carrier, STEPS};

/// Counting allocator. Implementing an allocator is unsafe; this one forwards every call.
#[allow(unsafe_code)]
mod counter {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    };

    pub(crate) static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

    struct Counter;

    // SAFETY: every call is forwarded unchanged to the system's allocator.
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

/// Batches that are transferred before allocations are counted, until all buffers have their size.
const WARM_UP_BATCHES: u32 = 2000;

/// Batches during which allocations are counted.
const BATCHES: u32 = 2000;

/// Returns the allocations for the bytes of one read, by processing step. `len` is the size of a read, `chunk` the
/// largest payload of a frame.
fn allocations_per_read(streams: u32, len: usize, chunk: Option<usize>) -> [f64; STEPS.len()] {
    let mut carrier = Carrier::with_chunk(streams, len, chunk);
    (0..WARM_UP_BATCHES).for_each(|_| carrier.batch(|_| ()));
    let mut counts = [0; STEPS.len()];
    for _ in 0..BATCHES {
        let mut before = counter::ALLOCATIONS.load(Relaxed);
        carrier.batch(|step| {
            let now = counter::ALLOCATIONS.load(Relaxed);
            counts[step] += now - before;
            before = now;
        });
    }
    assert_eq!(carrier.delivered(), u64::from((WARM_UP_BATCHES + BATCHES) * BATCH) * len as u64);
    counts.map(|count| count as f64 / f64::from(BATCHES * BATCH))
}

/// A chunk of a bulk stream, of any size, costs only its share of the allocation for headers: its read buffer comes
/// from a pool. A small chunk is copied out of its read buffer, which it would keep alive; the copy serves both
/// transmission and retransmission. The receiver allocates nothing for it, unless it has to wait there.
#[test]
fn a_chunk_causes_no_allocation_beyond_its_own_bytes() {
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
        let counts = allocations_per_read(streams, len, chunk);
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
