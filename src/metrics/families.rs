//! Metric families: one name with help text, type and samples.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::telemetry::HistogramCounts;

/// A label with its value. prometheus-client escapes the value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Writes families, one after the other.
pub(super) struct Families<'a>(DescriptorEncoder<'a>);

/// The family that is being written. Each sample needs other labels than all before.
pub(super) struct Family<'a>(MetricEncoder<'a>);

impl<'a> Families<'a> {
    /// Writes with `encoder`.
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Begins a family of counters. The suffix `_total` is added to `name`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Result<Family<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Counter).map(Family)
    }

    /// Begins a family of gauges.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Result<Family<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge).map(Family)
    }

    /// Begins a family of histograms.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Result<Family<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Histogram).map(Family)
    }
}

impl Family<'_> {
    /// Writes whole numbers of counters.
    pub(super) fn counts<'l, const N: usize>(
        &mut self,
        samples: impl IntoIterator<Item = ([Label<'l>; N], u64)>,
    ) -> fmt::Result {
        samples.into_iter().try_for_each(|(labels, value)| {
            self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    /// Writes the only sample of a counter.
    pub(super) fn count(&mut self, value: u64) -> fmt::Result {
        self.counts([([], value)])
    }

    /// Writes the only sample of a counter whose value need not be whole.
    pub(super) fn sum(&mut self, value: f64) -> fmt::Result {
        self.0.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// Writes whole numbers of gauges.
    pub(super) fn numbers<'l, const N: usize>(
        &mut self,
        samples: impl IntoIterator<Item = ([Label<'l>; N], u64)>,
    ) -> fmt::Result {
        samples
            .into_iter()
            .try_for_each(|(labels, value)| self.0.encode_family(&labels)?.encode_gauge(&value))
    }

    /// Writes the only sample of a gauge.
    pub(super) fn number(&mut self, value: u64) -> fmt::Result {
        self.numbers([([], value)])
    }

    /// Writes numbers of gauges that need not be whole.
    pub(super) fn values<'l, const N: usize>(
        &mut self,
        samples: impl IntoIterator<Item = ([Label<'l>; N], f64)>,
    ) -> fmt::Result {
        samples
            .into_iter()
            .try_for_each(|(labels, value)| self.0.encode_family(&labels)?.encode_gauge(&value))
    }

    /// Writes histograms whose bounds are in units of 1/`per_unit` of the base unit.
    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        per_unit: f64,
        samples: impl IntoIterator<Item = ([Label<'l>; N], &'l HistogramCounts)>,
    ) -> fmt::Result {
        samples.into_iter().try_for_each(|(labels, histogram)| {
            // Divided, not multiplied by a millionth, which has no exact value.
            let bounds = histogram.bounds.iter().map(|&bound| bound as f64 / per_unit).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts.iter().copied()).collect();
            let (sum, count) = (histogram.sum as f64 / per_unit, histogram.count());
            self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }
}

/// Returns the label of a direction.
pub(super) fn direction(name: &'static str) -> Label<'static> {
    ("direction", name)
}

/// Returns the samples of payload in both directions under one label.
pub(super) fn by_direction<'l, T>(label: Label<'l>, down: T, up: T) -> [([Label<'l>; 2], T); 2] {
    [([label, direction("download")], down), ([label, direction("upload")], up)]
}
