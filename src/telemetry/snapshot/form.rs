//! The serialized form of a [`StreamSnapshot`]: one flat object, without what has its usual value. There may be a
//! hundred thousand of them in one snapshot.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Content, Progress, StreamInfo, StreamPhase, StreamSnapshot, StreamState, micros};
use crate::ids::{ChannelId, Priority, ProxyId, RateLimits, ServiceKey, StreamKey};

/// The fields of a [`StreamSnapshot`], its [`StreamInfo`] and its [`StreamState`].
#[derive(Serialize, Deserialize)]
struct StreamForm {
    /// [`StreamSnapshot::number`].
    number: u64,
    /// [`StreamInfo::key`].
    key: StreamKey,
    /// [`StreamInfo::addr`].
    addr: SocketAddr,
    /// [`StreamInfo::service`].
    service: ServiceKey,
    /// [`StreamInfo::opened_at`].
    #[serde(rename = "opened_at_us", with = "micros")]
    opened_at: Duration,
    /// [`StreamSnapshot::changes`].
    #[serde(default)]
    changes: u32,
    /// [`StreamSnapshot::down`].
    #[serde(default)]
    down: u64,
    /// [`StreamSnapshot::up`].
    #[serde(default)]
    up: u64,
    /// [`StreamState::phase`].
    phase: StreamPhase,
    /// [`StreamState::proxy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<ProxyId>,
    /// [`StreamState::channel`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelId>,
    /// [`StreamState::paused`].
    #[serde(default, skip_serializing_if = "is_default")]
    paused: bool,
    /// [`StreamState::priority`].
    #[serde(default, skip_serializing_if = "is_default")]
    priority: Priority,
    /// [`StreamState::limits`].
    #[serde(default, skip_serializing_if = "is_default")]
    limits: RateLimits,
    /// [`StreamState::content`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Arc<Content>>,
    /// [`StreamState::progress`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// Returns whether a field has its usual value, which the form leaves out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Serialize for StreamSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (info, state) = (&*self.info, &*self.state);
        let form = StreamForm {
            number: self.number,
            key: info.key,
            addr: info.addr,
            service: info.service.clone(),
            opened_at: info.opened_at,
            changes: self.changes,
            down: self.down,
            up: self.up,
            phase: state.phase,
            proxy: state.proxy,
            channel: state.channel,
            paused: state.paused,
            priority: state.priority,
            limits: state.limits,
            content: state.content.clone(),
            progress: state.progress,
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StreamSnapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = StreamForm::deserialize(deserializer)?;
        let info =
            StreamInfo { key: form.key, addr: form.addr, service: form.service, opened_at: form.opened_at };
        let state = StreamState {
            key: form.key,
            proxy: form.proxy,
            channel: form.channel,
            phase: form.phase,
            paused: form.paused,
            priority: form.priority,
            limits: form.limits,
            content: form.content,
            progress: form.progress,
        };
        let snapshot = Self::new(Arc::new(info), form.number, form.changes, state);
        Ok(Self { down: form.down, up: form.up, ..snapshot })
    }
}
