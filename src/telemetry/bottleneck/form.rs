//! The serialized form of [`BottleneckTimes`]: a map from the bottleneck to microseconds, without those that never
//! blocked.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Bottleneck, BottleneckTimes};
use crate::telemetry::micros;

impl Serialize for BottleneckTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.all().map(|(bottleneck, time)| (bottleneck, micros::count(time))))
    }
}

impl<'de> Deserialize<'de> for BottleneckTimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut times = Self::default();
        for (bottleneck, time) in BTreeMap::<Bottleneck, u64>::deserialize(deserializer)? {
            times.add(bottleneck, Duration::from_micros(time));
        }
        Ok(times)
    }
}
