//! The shares of the descriptors never exceed the limit, and a usual limit restricts nothing.

use super::*;

/// All that a process may do beside the tunnel.
const ALL: SideUses = SideUses { has_control: true, has_metrics: true, has_recording: true };

/// Returns a server's configuration with the default limits, fitted to `limit` descriptors and one worker thread.
fn fitted(limit: u64) -> ServerConfig {
    let mut config = ServerConfig::default();
    config.fit_descriptors(limit, 1, ALL).unwrap();
    config
}

#[test]
fn everything_that_a_server_admits_fits_into_the_limit() {
    for limit in (64..5000).chain([65_536, 524_288, 1 << 20, 1 << 30]) {
        let config = fitted(limit);
        let admitted = config.max_streams + config.max_pending_handshakes + config.max_channels_and_ports;
        let others = RESERVED + PER_WORKER + ALL.descriptors(limit);
        assert!(admitted + others <= limit as usize, "{limit}: {config:?}");
        assert!(
            config.max_pending_handshakes >= 4 && config.max_channels_and_ports >= 4,
            "{limit}: {config:?}"
        );
    }
}

#[test]
fn a_limit_of_1024_leaves_seven_tenths_to_streams() {
    let config = fitted(1024);
    assert_eq!(config.max_streams, 700);
    assert_eq!((config.max_pending_handshakes, config.max_channels_and_ports), (128, 128));
    let mut proxy = ProxyConfig::new("h:1", "8080".parse().unwrap(), "t:2");
    proxy.fit_descriptors(1024, 1, ALL).unwrap();
    assert_eq!((proxy.max_streams, max_control_connections(1024)), (700, 32));
}

#[test]
fn the_usual_hard_limits_restrict_no_default() {
    let default = ServerConfig::default();
    for limit in [65_536, 524_288, 1 << 20] {
        let config = fitted(limit);
        assert_eq!(config.max_streams, default.max_streams, "{limit}");
        assert_eq!(config.max_pending_handshakes, default.max_pending_handshakes, "{limit}");
        // 65,536: 2,048 proxies with two channels and a port each; more of what streams do not need.
        let others = RESERVED + PER_WORKER + ALL.descriptors(limit);
        let left = limit as usize - others - default.max_streams - default.max_pending_handshakes;
        assert_eq!(config.max_channels_and_ports, left.min(default.max_channels_and_ports), "{limit}");
        assert!(config.max_channels_and_ports >= 3 * 2048, "{limit}");
    }
}

#[test]
fn a_limit_without_a_descriptor_for_streams_is_an_error() {
    let error = ServerConfig::default().fit_descriptors(40, 1, ALL).unwrap_err();
    assert!(error.to_string().contains("ulimit -n"), "{error}");
}

/// The maximum of streams that is reported with the usual limit of 1,024, in each combination.
#[test]
fn what_is_off_leaves_its_descriptors_to_streams() {
    for (has_control, has_metrics, has_recording, streams) in [
        (true, true, true, 700),
        (true, true, false, 702),
        (true, false, true, 709),
        (true, false, false, 711),
        (false, true, true, 734),
        (false, true, false, 736),
        (false, false, true, 743),
        (false, false, false, 745),
    ] {
        let uses = SideUses { has_control, has_metrics, has_recording };
        let (mut server, mut proxy) =
            (ServerConfig::default(), ProxyConfig::new("h:1", "8080".parse().unwrap(), "t:2"));
        server.fit_descriptors(1024, 1, uses).unwrap();
        proxy.fit_descriptors(1024, 1, uses).unwrap();
        assert_eq!((server.max_streams, proxy.max_streams), (streams, streams), "{uses:?}");
        let admitted = streams + server.max_pending_handshakes + server.max_channels_and_ports;
        let connections = if has_control { 2 + max_control_connections(1024) } else { 0 };
        assert!(admitted + RESERVED + PER_WORKER + connections <= 1024, "{uses:?}");
    }
}
