//! Tests of the congestion controllers over simulated bottlenecks, in virtual time.

mod delay_based;
mod several_channels;
mod transport_based;

use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
