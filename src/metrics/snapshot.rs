//! What other parts keep count of, read from them at the moment of a scrape.
//!
//! A gauge that is moved beside the thing it measures drifts from it sooner or later. So whoever renders the metrics
//! asks the parts, lets them settle what they count lazily, and hands the numbers over as a value.

use std::time::Duration;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::outcome::Tier;

/// The state of the other parts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Open connections of callers.
    pub connections: u64,
    /// What each tier in use holds.
    pub tiers: Vec<TierUse>,
    /// What has left the cache since the start, by why.
    pub evictions: Vec<(EvictionReason, u64)>,
    /// How many requests each workspace may send now, by its name.
    pub budgets: Vec<(String, u64)>,
    /// What is left of the longest pause that the vendor has asked for.
    pub cooldown: Duration,
    /// The state of the circuit: 0 closed, 1 half open, 2 open.
    pub circuit: u8,
}

/// What one tier of the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierUse {
    /// Which tier.
    pub tier: Tier,
    /// How many entries.
    pub entries: u64,
    /// Their weight in bytes, as `capacity` counts it.
    pub bytes: u64,
}

/// Why an entry left the cache. One that was replaced by its successor did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvictionReason {
    /// To make room.
    Size,
    /// It was past its use, for `stale_if_error` too.
    Expired,
    /// An operator purged it.
    Purged,
}

impl EvictionReason {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Expired => "expired",
            Self::Purged => "purged",
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut family =
            encoder.encode_descriptor("cache_entries", "entries that are kept", None, MetricType::Gauge)?;
        for tier in &self.tiers {
            family.encode_family(&[("tier", tier.tier.as_str())])?.encode_gauge(&tier.entries)?;
        }

        let mut family = encoder.encode_descriptor(
            "cache",
            "weight of the entries that are kept",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for tier in &self.tiers {
            family.encode_family(&[("tier", tier.tier.as_str())])?.encode_gauge(&tier.bytes)?;
        }

        let mut family = encoder.encode_descriptor(
            "cache_evictions",
            "entries that left the cache",
            None,
            MetricType::Counter,
        )?;
        for (reason, n) in &self.evictions {
            family
                .encode_family(&[("reason", reason.as_str())])?
                .encode_counter::<NoLabelSet, u64, f64>(n, None)?;
        }

        let mut family = encoder.encode_descriptor(
            "budget_remaining",
            "requests that may be sent to the vendor now, by the name of the workspace",
            None,
            MetricType::Gauge,
        )?;
        for (workspace, n) in &self.budgets {
            family.encode_family(&[("workspace", workspace.as_str())])?.encode_gauge(n)?;
        }

        encoder
            .encode_descriptor(
                "upstream_cooldown",
                "what is left of the pause that the vendor has asked for",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&self.cooldown.as_secs_f64())?;

        encoder
            .encode_descriptor(
                "circuit_state",
                "whether the vendor is asked: 0 closed, 1 half open, 2 open",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&u64::from(self.circuit))?;

        encoder
            .encode_descriptor("connections", "open connections of callers", None, MetricType::Gauge)?
            .encode_gauge(&self.connections)
    }
}
