//! Both formats carry the same samples; names of counters differ as each format requires.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::Format;
use crate::metrics::families::Families;

/// Exposes one family of each kind.
#[derive(Debug)]
struct Example;

impl Collector for Example {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families::new(encoder);
        families.counter("a_bytes", "Help of a.")?.counts([([("proxy", "x\"\\\ny")], 5)])?;
        families.gauge("b", "Help of b.")?.number(7)
    }
}

#[test]
fn the_text_format_names_families_of_counters_as_their_samples() {
    let text = Format::Text.expose(Example);
    let expected = "# HELP a_bytes_total Help of a.\n# TYPE a_bytes_total counter\n\
        a_bytes_total{proxy=\"x\\\"\\\\\\ny\"} 5\n# HELP b Help of b.\n# TYPE b gauge\nb 7\n";
    assert_eq!(text, expected);
}

#[test]
fn open_metrics_names_them_without_the_suffix_and_ends_with_a_mark() {
    let text = Format::OpenMetrics.expose(Example);
    let expected = "# HELP a_bytes Help of a.\n# TYPE a_bytes counter\n\
        a_bytes_total{proxy=\"x\\\"\\\\\\ny\"} 5\n# HELP b Help of b.\n# TYPE b gauge\nb 7\n# EOF\n";
    assert_eq!(text, expected);
}

#[test]
fn the_client_chooses_the_format() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    assert_eq!(Format::accepted("*/*"), Format::Text);
    assert_eq!(Format::accepted(""), Format::Text);
}
