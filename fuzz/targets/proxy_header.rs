//! Fuzzes the decoder of PROXY protocol headers: a header is bounded and needs all of its bytes, what follows it
//! changes nothing, and the decoded header that is encoded again decodes to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use underpass::{
    ids::ProxyProtocolVersion,
    wire::proxy_protocol::{MAX_HEADER, decode, encode},
};

fuzz_target!(|data: &[u8]| {
    let Ok(Some((header, len))) = decode(data) else {
        // More bytes would decide, or none can: either way a header ends within the maximum.
        assert!(decode(data).is_err() || data.len() < MAX_HEADER);
        return;
    };
    assert!(len <= data.len().min(MAX_HEADER));
    assert_eq!(decode(&data[..len]), Ok(Some((header, len))), "what follows a header changes nothing");
    assert_eq!(decode(&data[..len - 1]), Ok(None), "a header is decided by its last byte");
    for version in [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2] {
        let encoded = encode(version, header);
        let (again, len) = decode(&encoded).unwrap().unwrap();
        assert_eq!((len, encode(version, again)), (encoded.len(), encoded));
    }
});
