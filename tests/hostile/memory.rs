//! Users that make no progress, as many as the memory budget admits.

use socket2::SockRef;
use tokio::io::AsyncReadExt;

use crate::support::{
    LONG,
    process::{Process, TOKEN},
    soon,
    target::{self, LOOPBACK, request, try_request},
};

/// Users that request a file and read nothing, and then users that send to a target that reads nothing: server and
/// proxy stay within the budget and serve others meanwhile. A user beyond those that the budget admits is refused.
#[tokio::test]
async fn stalled_users_stay_within_the_budget_and_others_are_served() {
    const STALLED: usize = 300;
    const ADMITTED: usize = 325;
    const FILE: u64 = 1_000_000;
    // The budget, and what is not part of it: the program, its pools of read buffers, what the allocator keeps.
    const MAX_KIB: u64 = 16_000 + (64 << 10);
    let target = target::on_request().await;
    // All users come from one address.
    let limits = ["address", "service", "proxy"].map(|of| format!("--max-streams-per-{of}"));
    let limits = limits.iter().flat_map(|limit| [limit.as_str(), "1000"]);
    let arguments: Vec<_> = ["--memory", "16M"].into_iter().chain(limits).collect();
    let (server, addr) = Process::server(TOKEN, &arguments).await;
    let (addr, to) = (addr.to_string(), target.addr.to_string());
    let arguments = ["--server", &addr, "--port", "0", "--to", &to, "--token", TOKEN, "--memory", "16M"];
    let mut proxy = Process::underpass(&[&["proxy"], &arguments[..]].concat());
    let public = (LOOPBACK.ip(), proxy.serves().await.port).into();
    for reads_nothing in [true, false] {
        let mut users = Vec::new();
        for _ in 0..STALLED {
            let user = request(public, if reads_nothing { 1 << 30 } else { 0 }).await;
            SockRef::from(&user).set_send_buffer_size(64 * 1024).unwrap();
            while !reads_nothing && user.try_write(&[7; 64 * 1024]).is_ok() {}
            users.push(user);
        }
        target.when(|counts| counts.open == STALLED, LONG).await;
        let mut received = Vec::new();
        soon("a download", request(public, FILE).await.read_to_end(&mut received)).await.unwrap();
        assert_eq!(received.len() as u64, FILE);
        let peaks = [&server, &proxy].map(Process::peak_resident_kib);
        assert!(peaks.iter().all(|peak| peak.is_none_or(|kib| kib <= MAX_KIB)), "{peaks:?} KiB");
        // More than the budget admits: the stream of the download may still be counted for the first ones.
        for _ in STALLED..2 * ADMITTED {
            users.extend(try_request(public, 0).await);
        }
        target.when(|counts| counts.open == ADMITTED, LONG).await;
        if let Ok(mut beyond) = try_request(public, 0).await {
            assert!(soon("the refusal", beyond.read_u8()).await.is_err());
        }
        drop(users);
        target.when(|counts| counts.open == 0, LONG).await;
    }
    let stderr = server.stderr();
    assert!(stderr.contains("of 15 MiB admits 325 user connections at once (option --memory)"), "{stderr}");
}
