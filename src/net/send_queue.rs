//! What the kernel has yet to deliver to the other side of a TCP connection.

use std::time::Duration;

use tokio::net::TcpStream;

/// What was written to a TCP connection and is not acknowledged by the other side's kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendQueue {
    /// Bytes in the send buffer that were not transmitted yet. A FIN counts as one.
    unsent_bytes: u32,
    /// Segments that were transmitted and are not acknowledged.
    segments_in_flight: u32,
    /// The end of the other side's receive window, as an offset from where the connection began. 0 if the kernel does
    /// not tell (Linux before 5.4).
    window_end: u64,
    /// The kernel's smoothed RTT of the connection.
    pub(crate) smoothed_rtt: Duration,
}

impl SendQueue {
    /// Reads the send queue of `stream`. Returns `None` on other systems than Linux, and if the system call fails.
    pub(crate) fn read(stream: &TcpStream) -> Option<Self> {
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        {
            let info = super::tcp_info::read_raw(std::os::fd::AsFd::as_fd(stream)).ok()?;
            Some(Self {
                unsent_bytes: info.tcpi_notsent_bytes,
                segments_in_flight: info.tcpi_unacked,
                window_end: if info.tcpi_snd_wnd == 0 {
                    0
                } else {
                    info.tcpi_bytes_acked + u64::from(info.tcpi_snd_wnd)
                },
                smoothed_rtt: Duration::from_micros(info.tcpi_rtt.into()),
            })
        }
        #[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
        {
            let _ = stream;
            None
        }
    }

    /// Returns how many bytes the kernel holds that it has not transmitted yet.
    pub(crate) fn unsent_bytes(self) -> u64 {
        self.unsent_bytes.into()
    }

    /// Returns the end of the other side's receive window, as an offset from where the connection began. It advances
    /// with what its application reads. `None` if it is closed or unknown.
    pub(crate) fn window_end(self) -> Option<u64> {
        (self.window_end > 0).then_some(self.window_end)
    }

    /// Returns a measure of what the other side has not acknowledged, also the FIN: 0 if it has acknowledged
    /// everything, and another number whenever it has acknowledged more.
    pub(crate) fn unacknowledged(self) -> u64 {
        u64::from(self.segments_in_flight) << 32 | u64::from(self.unsent_bytes)
    }
}
