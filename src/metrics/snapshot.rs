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
    /// What each workspace may spend.
    pub budgets: Vec<WorkspaceBudget>,
    /// What is left of the longest pause that the vendor has asked for.
    pub cooldown: Duration,
    /// The state of the circuit: 0 closed, 1 half open, 2 open.
    pub circuit: u8,
    /// Whether requests should be sent here, as `/readyz` says it.
    pub ready: bool,
    /// The tiers that are set up beyond memory, and whether each is in use.
    pub beyond: Vec<(Tier, bool)>,
    /// How many replicas share the budget, this one among them, where they share one.
    pub replicas: Option<u32>,
}

/// What one workspace may spend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceBudget {
    /// The workspace's name in the settings.
    pub workspace: String,
    /// Requests that may be sent now.
    pub remaining: u64,
    /// Requests that may be sent in any minute.
    pub limit: u64,
    /// Requests that wait for their turn; workspaces of one key share the queue.
    pub waiting: u64,
    /// Whether the vendor rejects its key.
    pub rejected: bool,
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

        type Read = fn(&WorkspaceBudget) -> u64;
        let by_workspace: [(_, _, Read); 4] = [
            (
                "budget_remaining",
                "requests that may be sent to the vendor now, by the name of the workspace",
                |budget| budget.remaining,
            ),
            ("budget_limit", "requests that may be sent to the vendor in any minute", |budget| budget.limit),
            ("budget_waiting", "requests to the vendor that wait for their turn", |budget| budget.waiting),
            ("credentials_rejected", "whether the vendor rejects the key, with a 401", |budget| {
                u64::from(budget.rejected)
            }),
        ];
        for (name, help, read) in by_workspace {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for budget in &self.budgets {
                let labels = [("workspace", budget.workspace.as_str())];
                family.encode_family(&labels)?.encode_gauge(&read(budget))?;
            }
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
            .encode_gauge(&self.connections)?;

        encoder
            .encode_descriptor("ready", "whether requests should be sent here", None, MetricType::Gauge)?
            .encode_gauge(&u64::from(self.ready))?;

        let mut family = encoder.encode_descriptor(
            "cache_tier_up",
            "whether a tier that is set up beyond memory is in use: not where its disk or its redis fails",
            None,
            MetricType::Gauge,
        )?;
        for (tier, up) in &self.beyond {
            family.encode_family(&[("tier", tier.as_str())])?.encode_gauge(&u64::from(*up))?;
        }

        let mut family = encoder.encode_descriptor(
            "replicas",
            "gateways that share the budget, this one among them; 1 while redis is gone",
            None,
            MetricType::Gauge,
        )?;
        if let Some(replicas) = self.replicas {
            family.encode_gauge(&u64::from(replicas))?;
        }
        Ok(())
    }
}
