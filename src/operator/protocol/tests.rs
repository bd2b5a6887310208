//! A cockpit of another process shows the error of a command as the server's own cockpit does.

use super::*;

#[test]
fn the_error_of_a_command_is_the_same_after_the_control_protocol() {
    for error in [
        CommandError::NotFound,
        CommandError::QueueFull,
        CommandError::ServerStopped,
        CommandError::Forbidden,
        CommandError::ServerOnly,
        CommandError::WeightOutOfRange,
        CommandError::TooManyBans,
    ] {
        let json = serde_json::to_vec(&RequestError::from(error)).unwrap();
        let received: RequestError = serde_json::from_slice(&json).unwrap();
        assert_eq!(CommandError::from(received), error);
    }
}
