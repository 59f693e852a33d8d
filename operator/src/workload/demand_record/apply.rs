//! Writes the record of a workload's hours when its turn has come.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use weir_crds::{InferenceDemand, InferenceDemandStatus, names};
use weir_operator_core::owner::Owner;

use super::Unusable;
use crate::stores::Stores;
use crate::workload::Pass;
use crate::workload::apply::{ApplyError, covers, delete_one};
use crate::workload::events::{self, Told};

impl Pass<'_> {
    /// Records hours that became known. A record that cannot be written keeps nothing back, and is tried again.
    pub(in crate::workload) async fn record_demand(&self) {
        let context = &self.reconciler.context;
        let (uid, now) = (self.facts.uid(), self.facts.now);
        if self.demand_turn() > now {
            return;
        }
        let memory = &self.reconciler.memory;
        let (known, owner) = (&self.facts.traffic.hours, self.facts.owner());
        let name = names::demand_name(self.facts.name(), uid);
        let namespace = self.facts.namespace();
        let record = Stores::get(&context.stores.demands, Some(namespace), &name);
        let recorded = record
            .as_ref()
            .map(|record| super::read(record, &owner, now));
        let recorded = recorded.and_then(|recorded| {
            recorded
                .inspect_err(|unusable| self.tell_unusable(&name, unusable))
                .ok()
        });
        if !super::lacks(recorded.as_ref(), known) {
            memory.demand_done(uid, now);
            return;
        }
        let wanted = (super::object(&self.facts.workload), super::status(known));
        match write(&context.client, &owner, record.as_deref(), wanted).await {
            Ok(()) => memory.demand_done(uid, now),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%namespace, %name, %error, ?source, "demand is not recorded");
                memory.demand_failed(uid, now);
            }
        }
    }

    /// When the record may be written next. Turns that nothing was written in pass, too: what a fleet learns at one
    /// time is written over an interval.
    fn demand_turn(&self) -> Timestamp {
        let uid = self.facts.uid();
        let interval = self.reconciler.context.settings.demand_record_interval;
        let turn_after = |since| super::turn_after(uid, interval, since);
        let memory = &self.reconciler.memory;
        memory.demand_due(uid, self.facts.now, turn_after)
    }

    /// When the record has to be looked at next; `None` while there is nothing to remember.
    pub(in crate::workload) fn demand_due(&self) -> Option<Timestamp> {
        let has_traffic = self.facts.traffic.hours.has_traffic();
        has_traffic.then(|| self.demand_turn())
    }

    fn tell_unusable(&self, record: &str, unusable: &Unusable) {
        let told = Told {
            warning: true,
            reason: "DemandRecordUnusable",
            message: format!("InferenceDemand {record} is not used: {unusable}"),
        };
        let workload = self.facts.workload.object_ref(&());
        events::tell(&self.reconciler.context.events, &workload, &[told]);
    }
}

/// Makes the record where it is absent or not as it is to be, and then says what was observed.
async fn write(
    client: &Client,
    owner: &Owner,
    existing: Option<&InferenceDemand>,
    (record, status): (InferenceDemand, InferenceDemandStatus),
) -> Result<(), ApplyError> {
    let (namespace, name) = (record.namespace().unwrap_or_default(), record.name_any());
    let api = Api::<InferenceDemand>::namespaced(client.clone(), &namespace);
    let parameters = PatchParams::apply(names::MANAGER_DEMAND).force();
    let failed = |source| ApplyError::Write {
        kind: InferenceDemand::kind(&()).into_owned(),
        name: name.clone(),
        source: Box::new(source),
    };
    let body = serialized(&record)?;
    let mut there = None;
    if let Some(existing) = existing {
        if !owner.owns(existing) {
            // Owners are added to each other: an object of another's could not become this workload's.
            delete_one(client, &namespace, existing).await?;
        } else if covers(&serialized(existing)?, &body) {
            there = Some((existing.uid(), existing.resource_version()));
        }
    }
    let (uid, version) = match there {
        Some(there) => there,
        None => {
            let made = api.patch(&name, &parameters, &Patch::Apply(&body)).await;
            let made = made.map_err(failed)?;
            if existing.is_none() && made.status.is_some() {
                return Err(failed(unread()));
            }
            (made.uid(), made.resource_version())
        }
    };
    let observed = json!({
        "apiVersion": InferenceDemand::api_version(&()),
        "kind": InferenceDemand::kind(&()),
        "metadata": {"name": name, "uid": uid, "resourceVersion": version},
        "status": status,
    });
    let observed = Patch::Apply(&observed);
    let written = api.patch_status(&name, &parameters, &observed).await;
    written.map(drop).map_err(failed)
}

/// A record that the store does not show yet has hours that were not looked at.
fn unread() -> kube::Error {
    let status = Status::failure("the record has hours that were not read", "Conflict");
    kube::Error::Api(Box::new(status.with_code(409)))
}

fn serialized(record: &InferenceDemand) -> Result<Value, ApplyError> {
    let mut body = serde_json::to_value(record).map_err(|source| ApplyError::Serialize {
        kind: InferenceDemand::kind(&()).into_owned(),
        name: record.name_any(),
        source,
    })?;
    // What was observed is applied on its own.
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    Ok(body)
}
