//! Each gate rejects for its own reason, and cost never enters.

use rstest::rstest;
use weir_placement::*;

use crate::builders::*;

fn rejected(change: impl Fn(&mut WorkloadInput), target: &str) -> (Candidate, Decision) {
    let mut snapshot = fleet(hybrid(3_000_000));
    change(only(&mut snapshot));
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    (candidate(&decision, target).clone(), decision)
}

type Change = fn(&mut WorkloadInput);

#[rstest]
#[case::residency(|w: &mut WorkloadInput| w.egress = Egress::Forbidden, CLOUD, Gate::Residency, RejectionReason::EgressForbidden)]
#[case::jurisdiction(|w: &mut WorkloadInput| w.allowed_jurisdictions = set(&["CH"]), CLOUD, Gate::ProviderTerms, RejectionReason::JurisdictionNotAllowed)]
#[case::jurisdiction_unknown(|w: &mut WorkloadInput| { w.allowed_jurisdictions = set(&["CH"]); cloud_of(w).jurisdiction = None }, CLOUD, Gate::ProviderTerms, RejectionReason::JurisdictionUnknown)]
#[case::retention(|w: &mut WorkloadInput| { w.require_zero_retention = true; cloud_of(w).zero_retention = Some(false) }, CLOUD, Gate::ProviderTerms, RejectionReason::RetentionNotZero)]
#[case::retention_unknown(|w: &mut WorkloadInput| { w.require_zero_retention = true; cloud_of(w).zero_retention = None }, CLOUD, Gate::ProviderTerms, RejectionReason::RetentionUnknown)]
#[case::namespace(|w: &mut WorkloadInput| cloud_of(w).namespace_allowed = false, CLOUD, Gate::ProviderTerms, RejectionReason::NamespaceNotAllowed)]
#[case::self_hosting(|w: &mut WorkloadInput| w.self_hosting = SelfHosting::Forbidden, LOCAL, Gate::SelfHosting, RejectionReason::SelfHostingForbidden)]
#[case::capability(|w: &mut WorkloadInput| { w.capability.required = set(&["Vision"]); cloud_of(w).model.capabilities = set(&["Vision"]) }, LOCAL, Gate::Capability, RejectionReason::CapabilityMissing)]
#[case::quality(|w: &mut WorkloadInput| { w.capability.min_quality = Some(quality("70")); cloud_of(w).model.quality.insert("mmlu-pro".into(), score("70")); }, LOCAL, Gate::Quality, RejectionReason::QualityTooLow)]
#[case::quality_unknown(|w: &mut WorkloadInput| { w.capability.min_quality = Some(quality("10")); local_of(w).model.quality.clear() }, LOCAL, Gate::Quality, RejectionReason::QualityUnknown)]
#[case::context(|w: &mut WorkloadInput| { w.capability.min_context = Some(Tokens::clamped(9_000)); local_of(w).model.context = Some(Tokens::clamped(8_192)) }, LOCAL, Gate::Context, RejectionReason::ContextTooShort)]
#[case::context_of_long_requests(|w: &mut WorkloadInput| { long_requests(w); local_of(w).model.context = Some(Tokens::clamped(8_192)) }, LOCAL, Gate::Context, RejectionReason::ContextTooShort)]
#[case::context_unknown(|w: &mut WorkloadInput| { w.capability.min_context = Some(Tokens::clamped(1)); local_of(w).model.context = None }, LOCAL, Gate::Context, RejectionReason::ContextUnknown)]
#[case::memory(|w: &mut WorkloadInput| local_of(w).memory = Some(Bytes::clamped(25 << 30)), LOCAL, Gate::Memory, RejectionReason::MemoryTooSmall)]
fn a_gate_rejects_for_its_own_reason_and_without_a_cost(
    #[case] change: Change,
    #[case] target: &str,
    #[case] gate: Gate,
    #[case] reason: RejectionReason,
) {
    let (candidate, decision) = rejected(change, target);
    assert_eq!(candidate.verdict, Verdict::Rejected);
    assert_eq!(
        (
            candidate.rejected_by[0].gate,
            candidate.rejected_by[0].reason
        ),
        (gate, reason)
    );
    assert_eq!(candidate.cost, None);
    assert_ne!(decision.target.as_deref(), Some(target));
    assert!(
        decision
            .weights
            .iter()
            .all(|weight| weight.target != target)
    );
}

fn quality(score_text: &str) -> MinQuality {
    MinQuality {
        benchmark: "mmlu-pro".to_owned(),
        score: score(score_text),
    }
}

fn score(text: &str) -> Score {
    Score::parse_decimal(text).expect("a score")
}

fn long_requests(workload: &mut WorkloadInput) {
    workload.demand.declared.input_p95 = Some(Tokens::clamped(8_000));
    workload.demand.declared.output_p95 = Some(Tokens::clamped(193));
}

#[test]
fn a_context_that_just_holds_the_longest_request_passes() {
    let (candidate, _) = rejected(
        |workload| {
            long_requests(workload);
            local_of(workload).model.context = Some(Tokens::clamped(8_193));
        },
        LOCAL,
    );
    assert_eq!(candidate.verdict, Verdict::Feasible);
}

#[test]
fn a_model_that_just_fits_passes() {
    let (candidate, _) = rejected(
        |workload| local_of(workload).memory = Some(Bytes::clamped(24 << 30)),
        LOCAL,
    );
    assert_eq!(candidate.verdict, Verdict::Feasible);
}

#[test]
fn unknown_memory_does_not_reject() {
    let (candidate, _) = rejected(|workload| local_of(workload).memory = None, LOCAL);
    assert_eq!(candidate.verdict, Verdict::Feasible);
}

#[test]
fn a_missing_reference_rejects_and_says_what_is_missing() {
    let message = "ModelProfile llama does not exist";
    let (candidate, decision) = rejected(
        |workload| {
            workload.targets[0].kind = TargetKind::Unresolved {
                location: Location::Local,
                message: message.to_owned(),
            };
        },
        LOCAL,
    );
    assert_eq!(candidate.rejected_by[0].message, message);
    assert_eq!(decision.target.as_deref(), Some(CLOUD));
}

#[test]
fn all_gates_that_fail_are_named_in_their_order() {
    let (candidate, _) = rejected(
        |workload| {
            workload.egress = Egress::Forbidden;
            workload.capability.required = set(&["Vision"]);
            cloud_of(workload).namespace_allowed = false;
        },
        CLOUD,
    );
    let gates: Vec<_> = candidate
        .rejected_by
        .iter()
        .map(|rejection| rejection.gate)
        .collect();
    assert_eq!(
        gates,
        [Gate::Residency, Gate::ProviderTerms, Gate::Capability]
    );
}

#[test]
fn a_target_known_to_be_too_slow_is_not_chosen_and_an_unknown_one_is() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).slo_ttft = Some(Millis::clamped(800));
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(0))
            .target
            .as_deref(),
        Some(LOCAL)
    );
    local_of(only(&mut snapshot))
        .ttft_p95
        .insert(TIER.to_owned(), Millis::clamped(801));
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(decision.target.as_deref(), Some(CLOUD));
    assert_eq!(candidate(&decision, LOCAL).verdict, Verdict::Unavailable);
}

#[test]
fn nothing_serves_when_every_target_is_rejected() {
    let mut snapshot = fleet(private());
    only(&mut snapshot).self_hosting = SelfHosting::Forbidden;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Infeasible, Reason::NoFeasibleTarget)
    );
    assert_eq!((decision.target, decision.weights.len()), (None, 0));
    assert!(
        decision.message.contains("selfHosting is Forbidden"),
        "{}",
        decision.message
    );
}

#[test]
fn a_workload_without_targets_is_infeasible() {
    let mut snapshot = fleet(private());
    only(&mut snapshot).targets.clear();
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(0)).outcome,
        Outcome::Infeasible
    );
}

#[test]
fn a_provider_whose_terms_are_those_required_passes() {
    let (candidate, _) = rejected(
        |workload| {
            workload.allowed_jurisdictions = set(&["CH", "EU"]);
            workload.require_zero_retention = true;
        },
        CLOUD,
    );
    assert_eq!(candidate.verdict, Verdict::Feasible);
}

#[test]
fn a_model_that_just_reaches_the_score_and_has_what_is_required_passes() {
    for target in [LOCAL, CLOUD] {
        let (candidate, _) = rejected(
            |workload| {
                workload.capability.min_quality = Some(quality("60"));
                workload.capability.required = set(&["Tools"]);
            },
            target,
        );
        assert_eq!(candidate.verdict, Verdict::Feasible);
    }
}

#[test]
fn an_unknown_context_is_enough_where_none_is_needed() {
    let (candidate, _) = rejected(|workload| local_of(workload).model.context = None, LOCAL);
    assert_eq!(candidate.verdict, Verdict::Feasible);
}
