//! Which target takes a request, and which may take it over. Pure: it sees the route's targets and nothing else, so no
//! choice can be outside the set that the placement named.

use crate::policy::SpillPolicy;
use crate::upstream::place::{Location, Reason};
use std::time::{Duration, Instant};

/// What is known of a target when a request comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Where it is.
    pub(crate) location: Location,
    /// A local target that has no replica, by order.
    pub(crate) asleep: bool,
    /// A local target that has not answered since it was last asleep.
    pub(crate) untried: bool,
    /// Left out after failures, until then.
    pub(crate) ejected: Option<Instant>,
    /// How long a request would wait before the target begins with it, if known.
    pub(crate) queue_wait: Option<Duration>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Try these targets in this order. Whether a later one may be tried depends on how an earlier one failed.
    Try(Vec<(usize, Reason)>),
    /// The target that should answer is starting.
    Starting,
    /// Every target is left out; the time when the first returns, if there is a target at all.
    Nothing(Option<Instant>),
}

/// Orders the targets for one request whose turn fell to `primary`.
pub(crate) fn choose(targets: &[Standing], primary: Option<usize>, spill: &SpillPolicy) -> Choice {
    let Some(primary) = primary.filter(|index| *index < targets.len()) else {
        return Choice::Nothing(None);
    };
    let first = &targets[primary];
    let bridge =
        || usable(targets, primary).find(|index| targets[*index].location == Location::External);
    if first.asleep || (first.untried && first.ejected.is_some()) {
        if let Some(external) = bridge().filter(|_| spill.bridges_cold_start) {
            return Choice::Try(in_order(targets, &[primary], (external, Reason::ColdStart)));
        }
        if first.asleep || !spill.bridges_cold_start {
            return Choice::Starting;
        }
    }
    let waits = first.location == Location::Local
        && first.queue_wait.is_some_and(|wait| wait > spill.queue_wait);
    if spill.enabled
        && waits
        && first.ejected.is_none()
        && let Some(external) = bridge()
    {
        return Choice::Try(in_order(targets, &[], (external, Reason::Spill)));
    }
    if first.ejected.is_none() {
        return Choice::Try(in_order(targets, &[], (primary, Reason::Placement)));
    }
    if let Some(other) = usable(targets, primary).next() {
        return Choice::Try(in_order(targets, &[primary], (other, Reason::Failover)));
    }
    // A local target costs nothing to try, so it is never left out when there is no other.
    match targets
        .iter()
        .position(|target| target.location == Location::Local && !target.asleep)
    {
        Some(local) if local == primary => Choice::Try(vec![(local, Reason::Placement)]),
        Some(local) => Choice::Try(vec![(local, Reason::Failover)]),
        None => Choice::Nothing(targets.iter().filter_map(|target| target.ejected).min()),
    }
}

/// Targets beside `primary` that could answer now.
fn usable(targets: &[Standing], primary: usize) -> impl Iterator<Item = usize> {
    targets
        .iter()
        .enumerate()
        .filter(move |(index, target)| {
            *index != primary && !target.asleep && target.ejected.is_none()
        })
        .map(|(index, _)| index)
}

fn in_order(
    targets: &[Standing],
    without: &[usize],
    first: (usize, Reason),
) -> Vec<(usize, Reason)> {
    let rest = usable(targets, first.0)
        .filter(|index| !without.contains(index))
        .map(|index| (index, Reason::Failover));
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local() -> Standing {
        Standing {
            location: Location::Local,
            asleep: false,
            untried: false,
            ejected: None,
            queue_wait: None,
        }
    }

    fn external() -> Standing {
        Standing {
            location: Location::External,
            ..local()
        }
    }

    fn policy() -> SpillPolicy {
        SpillPolicy {
            enabled: true,
            queue_wait: Duration::from_millis(500),
            bridges_cold_start: true,
        }
    }

    fn tries(choice: Choice) -> Vec<(usize, Reason)> {
        match choice {
            Choice::Try(order) => order,
            other => panic!("expected targets, got {other:?}"),
        }
    }

    #[test]
    fn the_weights_decide_and_the_others_stand_by() {
        let order = tries(choose(&[local(), external()], Some(1), &policy()));
        assert_eq!(order, [(1, Reason::Placement), (0, Reason::Failover)]);
    }

    #[test]
    fn a_long_queue_spills_to_an_external_target() {
        let busy = Standing {
            queue_wait: Some(Duration::from_millis(501)),
            ..local()
        };
        assert_eq!(
            tries(choose(&[busy, external()], Some(0), &policy()))[0],
            (1, Reason::Spill)
        );
        let off = SpillPolicy {
            enabled: false,
            ..policy()
        };
        assert_eq!(
            tries(choose(&[busy, external()], Some(0), &off))[0],
            (0, Reason::Placement)
        );
        assert_eq!(
            tries(choose(&[busy], Some(0), &policy())),
            [(0, Reason::Placement)]
        );
    }

    #[test]
    fn a_cold_start_is_bridged_or_waited_for() {
        let cold = Standing {
            asleep: true,
            ..local()
        };
        assert_eq!(
            tries(choose(&[cold, external()], Some(0), &policy())),
            [(1, Reason::ColdStart)]
        );
        let wait = SpillPolicy {
            bridges_cold_start: false,
            ..policy()
        };
        assert_eq!(
            choose(&[cold, external()], Some(0), &wait),
            Choice::Starting
        );
        assert_eq!(choose(&[cold], Some(0), &policy()), Choice::Starting);
    }

    #[test]
    fn a_target_that_never_answered_and_fails_is_starting() {
        let starting = Standing {
            untried: true,
            ejected: Some(Instant::now()),
            ..local()
        };
        assert_eq!(
            tries(choose(&[starting, external()], Some(0), &policy())),
            [(1, Reason::ColdStart)]
        );
        assert_eq!(
            tries(choose(&[starting], Some(0), &policy())),
            [(0, Reason::Placement)],
            "it is tried when alone"
        );
    }

    #[test]
    fn an_ejected_target_is_passed_over_but_a_lone_local_one_is_tried() {
        let until = Instant::now();
        let ejected = Standing {
            ejected: Some(until),
            ..local()
        };
        assert_eq!(
            tries(choose(&[ejected, external()], Some(0), &policy())),
            [(1, Reason::Failover)]
        );
        assert_eq!(
            tries(choose(&[ejected], Some(0), &policy())),
            [(0, Reason::Placement)]
        );
        let open = Standing {
            ejected: Some(until),
            ..external()
        };
        assert_eq!(
            choose(&[open], Some(0), &policy()),
            Choice::Nothing(Some(until))
        );
    }

    #[test]
    fn nothing_is_tried_without_a_target_that_has_weight() {
        assert_eq!(choose(&[local()], None, &policy()), Choice::Nothing(None));
        assert_eq!(choose(&[], Some(0), &policy()), Choice::Nothing(None));
    }

    fn standing() -> impl Strategy<Value = Standing> {
        (
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            prop::option::of(0u64..2000),
        )
            .prop_map(|(is_local, asleep, untried, ejected, wait)| Standing {
                location: if is_local {
                    Location::Local
                } else {
                    Location::External
                },
                asleep: is_local && asleep,
                untried: is_local && untried,
                ejected: ejected.then(Instant::now),
                queue_wait: wait.map(Duration::from_millis),
            })
    }

    proptest! {
        #[test]
        fn a_choice_names_known_targets_once_each(
            targets in prop::collection::vec(standing(), 0..6), primary in prop::option::of(0usize..6),
            enabled in any::<bool>(), bridges_cold_start in any::<bool>(),
        ) {
            let spill = SpillPolicy { enabled, queue_wait: Duration::from_millis(500), bridges_cold_start };
            if let Choice::Try(order) = choose(&targets, primary, &spill) {
                let mut seen: Vec<usize> = order.iter().map(|(index, _)| *index).collect();
                prop_assert!(!seen.is_empty() && seen.iter().all(|index| *index < targets.len()));
                prop_assert!(seen.iter().all(|index| !targets[*index].asleep));
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), order.len());
            }
        }

        #[test]
        fn targets_of_the_cluster_alone_are_never_left(
            targets in prop::collection::vec(standing(), 0..6), primary in prop::option::of(0usize..6),
        ) {
            let targets: Vec<_> = targets.into_iter().map(|target| Standing { location: Location::Local, ..target }).collect();
            if let Choice::Try(order) = choose(&targets, primary, &policy()) {
                prop_assert!(order.iter().all(|(index, _)| targets[*index].location == Location::Local));
            }
        }
    }
}
