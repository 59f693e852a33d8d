//! When a substitute is left, and when it serves on.

use weir_placement::*;

use super::{NANO, nano, offered, on_cloud_with, route};
use crate::builders::*;

#[test]
fn a_substitute_that_is_gone_or_rejected_is_left_for_a_target_of_the_spec_at_once() {
    let cheaper = || offered("pico", Some("chat"), ("0.01", "0.01"));
    let mut snapshot = on_cloud_with(vec![nano(Some("chat")), cheaper()]);
    only(&mut snapshot).current = Some(placed(NANO, at(0)));
    let before = plan_of(&decide_one(&snapshot, standard_policy(), at(1)));
    only(&mut snapshot).substitutes = vec![cheaper()];
    let gone = decide_after(&snapshot, standard_policy(), &before, at(9));
    let expected = (Outcome::Move, Reason::TargetRemoved, Some(CLOUD));
    assert_eq!(
        (gone.outcome, gone.reason, gone.target.as_deref()),
        expected,
        "{}",
        gone.message
    );
    assert_eq!(gone.trigger, Trigger::ModelsChanged);
    assert_eq!(route(&gone), [(CLOUD, 100)]);
    only(&mut snapshot).substitutes = vec![nano(Some("code")), cheaper()];
    let rejected = decide_after(&snapshot, standard_policy(), &before, at(9));
    let expected = (Outcome::Move, Reason::CurrentTargetRejected, Some(CLOUD));
    assert_eq!(
        (
            rejected.outcome,
            rejected.reason,
            rejected.target.as_deref()
        ),
        expected
    );
    assert_eq!(
        candidate(&rejected, NANO).rejected_by[0].reason,
        RejectionReason::NotEquivalent
    );
    assert_eq!(route(&rejected), [(CLOUD, 100)]);
}

/// The provider no longer lists the model that the spec names.
fn withdraw(workload: &mut WorkloadInput) {
    workload.targets[0].kind = TargetKind::Unresolved {
        location: Location::External,
        message: "InferenceProvider openai-eu has no model mini".to_owned(),
    };
}

#[test]
fn a_substitute_serves_on_when_the_model_that_it_stands_in_for_is_withdrawn() {
    let mut snapshot = on_cloud_with(vec![nano(Some("chat"))]);
    withdraw(only(&mut snapshot));
    only(&mut snapshot).current = Some(placed(NANO, at(0)));
    let stays = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (stays.outcome, stays.target.as_deref()),
        (Outcome::Keep, Some(NANO))
    );
    // Of what it does not know, it does not go to any other.
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    let unknown = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(unknown.outcome, Outcome::Infeasible);
    let capability = &mut only(&mut snapshot).capability;
    capability.substitution = Substitution::AnyCapable;
    capability.required = set(&["Tools"]);
    let capable = decide_one(&snapshot, prompt_policy(), at(9));
    let expected = (Outcome::Move, Reason::CurrentTargetRejected, Some(NANO));
    assert_eq!(
        (capable.outcome, capable.reason, capable.target.as_deref()),
        expected
    );
}
