//! Pure: a plan as people read it.

use weir_crds::decision::{Decision, DecisionInputs};

use super::Planned;
use crate::curve;
use crate::explain::{candidates, outlook};
use crate::text::{count, wrapped};

/// A plan as people read it, at most 80 columns wide where names allow.
pub fn table(planned: &Planned) -> String {
    let decision = &planned.decision;
    let mut text = format!(
        "{} (namespace {}): {}\n",
        planned.name,
        planned.namespace,
        verdict(decision)
    );
    text.push_str(&wrapped(&decision.message, 2, 80));
    text.push_str(&demand(planned, &decision.inputs));
    if let Some(here) = &planned.from_here {
        let next = &here.decision;
        let line = format!(
            "Now on {}: {}. {}",
            here.target,
            verdict(next),
            next.message
        );
        text.push_str(&wrapped(&line, 2, 80));
    }
    text.push_str(&list("\nMissing\n", &planned.missing));
    text.push_str(&list("\nAssumed\n", &planned.assumed));
    text.push_str("\nCandidates\n");
    text.push_str(&candidates(
        &decision.candidates,
        decision.target.as_deref(),
    ));
    text.push('\n');
    text.push_str(&outlook(decision).render());
    if let Some(curve) = &planned.curve {
        text.push('\n');
        text.push_str(&curve::draw(curve));
    }
    text
}

fn list(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items = items
        .iter()
        .map(|item| wrapped(&format!("- {item}"), 2, 80));
    format!("{title}{}", items.collect::<String>())
}

fn verdict(decision: &Decision) -> String {
    let target = decision.target.as_deref().unwrap_or("no target");
    format!("{} {target}, {}", decision.outcome, decision.reason)
}

fn demand(planned: &Planned, inputs: &DecisionInputs) -> String {
    let Some(requests) = inputs.requests_per_month else {
        return "  Demand: unknown\n".to_owned();
    };
    let origin = planned.demand.as_deref().unwrap_or("declared");
    let tokens = match (inputs.input_tokens, inputs.output_tokens) {
        (Some(input), Some(output)) => {
            format!(", {} + {} tokens each", count(input), count(output))
        }
        _ => ", tokens unknown".to_owned(),
    };
    format!(
        "  Demand: {} requests a month ({origin}){tokens}\n",
        count(requests)
    )
}
