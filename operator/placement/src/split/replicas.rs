//! How many replicas to hold: each replica is one newsvendor, with a cost of adding it.

use super::cost::StepCost;
use super::outlook::Distribution;
use super::parameters::SplitParameters;

/// The replicas for the next step, while `held` run.
///
/// The n-th replica earns what the part of the need between n − 1 and n would cost elsewhere, and costs its rent. Adding it
/// costs `entry`. Having it is worth a share of that if it is needed next. So its choice is a chain of two states, on and
/// off; it is independent of the other replicas, and each further one earns less: the first that does not pay ends the row.
/// A replica that runs is kept where one that does not would not be added, so a choice stands when it is made again.
pub(super) fn choose(
    parameters: &SplitParameters,
    cost: &StepCost,
    demand: &Distribution,
    held: u32,
) -> u32 {
    let pays = |replica: &u32| {
        let worth = |need: f64| cost.overflow * cost.fill(need, *replica) - cost.rent;
        let earned = demand.expected(worth);
        let needed = demand.expected(|need| f64::from(u8::from(worth(need) > 0.0)));
        let kept = parameters.keep_share.get() * cost.entry * needed;
        let entry = if *replica < held { 0.0 } else { cost.entry };
        earned + kept > entry
    };
    (0..cost.most).take_while(pays).count() as u32
}
