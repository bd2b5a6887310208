//! The text of events.

use super::*;

#[test]
fn a_configured_duration_is_shown_in_seconds_with_at_most_one_decimal() {
    for (millis, text) in [(29_999, "30 s"), (999, "1 s"), (500, "0.5 s"), (2_500, "2.5 s"), (0, "0 s")] {
        assert_eq!(seconds(Duration::from_millis(millis)), text);
    }
}
