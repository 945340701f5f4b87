//! Which key a request is sent with, and on whose account.
//!
//! A key may change between a request's turn and its departure. It then leaves with the new key, and with a permit of
//! the budget that this one draws on: what was granted on another's account would be counted where the vendor does not
//! count it. And who has no turn with the key that is held may have one with the key that is there by now.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

use super::{
    Origin, Upstream,
    budget::{
        self, Lane,
        gate::{Group, Permit},
        window::Name,
    },
    credentials::{ApiKey, Credentials, KeyGroup, Reread},
};
use crate::{
    call::WorkspaceIndex,
    outcome::{ErrorCode, Refusal},
};

/// The budgets of all keys that were held so far, as the gate knows them.
pub(super) fn groups(credentials: &Credentials, vendor: &Origin) -> Vec<Group> {
    let group =
        |KeyGroup { key, limit, after, held }| Group { name: Name::of(vendor, key), limit, after, held };
    credentials.groups().into_iter().map(group).collect()
}

impl Upstream {
    /// The budget that a workspace draws on now, which the gate knows from then on.
    pub(super) fn account(&self, workspace: WorkspaceIndex) -> usize {
        let account = self.credentials.budget_group(workspace);
        if !self.gate.knows(account, self.credentials.budget_limit(account)) {
            self.gate.know(&groups(&self.credentials, &self.settings.origin));
        }
        account
    }

    /// Holds all keys to these settings from now on. Who waits already waits as long as was said when it came.
    pub fn change_budget(&self, budget: &budget::Settings) {
        self.queue_timeout.store(Arc::new(budget.queue_timeout));
        self.gate.change(budget);
        self.budget_changes.send_replace(());
    }

    /// Tells when there are other settings: what was said of the next turn before says nothing any more.
    #[must_use]
    pub fn budget_changes(&self) -> watch::Receiver<()> {
        self.budget_changes.subscribe()
    }

    /// Waits for the right to send one request, until `latest`, and counts the wait. Before anybody is told that
    /// nothing is left the key file is looked at: another key has a budget of its own.
    pub(super) async fn turn(
        &self,
        workspace: WorkspaceIndex,
        lane: Lane,
        latest: Instant,
    ) -> Result<Permit, Refusal> {
        let began = Instant::now();
        let mut account = self.account(workspace);
        let permit = loop {
            let permit = self.gate.permit(account, lane, latest).await;
            let spent = |refusal: &Refusal| refusal.code == ErrorCode::RateLimitExceeded;
            if !permit.as_ref().is_err_and(spent) {
                break permit;
            }
            self.credentials.refresh(workspace).await;
            let before = std::mem::replace(&mut account, self.account(workspace));
            if before == account {
                break permit;
            }
        };
        match &permit {
            Ok(_) => self.metrics.budget_waited(began.elapsed()),
            Err(_) => self.metrics.budget_rejected(),
        }
        permit
    }

    /// The key to send now, with a permit of its budget: the one that is there, unless the key has come to draw on
    /// another. Then it waits for its turn there, as [`Self::permit_before`] does. Where by then a request could not end
    /// well any more the permit goes back: sent, it would cost a slot and count as a failure of the vendor's.
    /// Where there is no such permit the refusal comes with the lane that it was waited for in.
    pub(super) async fn on_account(
        &self,
        workspace: WorkspaceIndex,
        mut permit: Permit,
        lane: &impl Fn() -> Lane,
        deadline: Instant,
    ) -> Result<(Arc<ApiKey>, Permit), (Lane, Refusal)> {
        loop {
            self.credentials.refresh(workspace).await;
            if !self.is_worth_asking_before(deadline) {
                let detail = "no time was left in which the vendor could have answered";
                return Err((lane(), Refusal::new(ErrorCode::UpstreamTimeout, detail)));
            }
            let held = self.credentials.held(workspace);
            if held.group == permit.group() {
                return Ok((held.key, permit));
            }
            // First, so that the key's own budget does not begin with a slot that was never used.
            drop(permit);
            let lane = lane();
            let turn = self.permit_before(workspace, lane, deadline).await;
            permit = turn.map_err(|refusal| (lane, refusal))?;
        }
    }

    /// Looks at all key files, so that what is said of them, and of rejected keys, is so now: a file may have been
    /// changed, and nobody has asked with its new key yet. Waits little more than half a second at the
    /// most.
    pub async fn look_at_keys(&self) {
        let doubted: Vec<_> =
            self.rejections.current(Instant::now()).into_iter().map(|(workspace, _)| workspace).collect();
        self.credentials.look_at_all(&doubted).await;
    }

    /// The names of the workspaces whose key the vendor rejected with a 401, until another key is held or a minute has
    /// passed. Touches no file: see [`Self::look_at_keys`].
    #[must_use]
    pub fn rejected(&self, now: Instant) -> Vec<&str> {
        let still =
            |(workspace, key): &(WorkspaceIndex, Arc<ApiKey>)| self.credentials.key(*workspace).same(key);
        let rejected = self.rejections.current(now).into_iter().filter(still);
        rejected.map(|(workspace, _)| self.credentials.name(workspace)).collect()
    }

    /// Whether there is another key by now than the one that was rejected.
    pub(super) async fn has_another_key(&self, workspace: WorkspaceIndex, rejected: &ApiKey) -> bool {
        let name = self.credentials.name(workspace);
        match self.credentials.reread(workspace, rejected).await {
            Reread::Changed => {
                tracing::info!(workspace = name, "the key was rejected, and there is another one by now");
                true
            }
            // That it is late was said.
            Reread::Unchanged | Reread::Late => false,
            Reread::Unreadable(error) => {
                tracing::warn!(workspace = name, %error, "the key was rejected, and its file cannot be read again");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
