//! Pure: how busy a tier is, and where that is not known, whether it cannot be measured or was lost.

use weir_crds::condition::{ConditionStatus, types};
use weir_crds::tier::GPUTierStatus;
use weir_placement::{Percent, Utilization};

const KNOWN: &str = "Measured";
const NOT_MEASURABLE: &str = "NotMeasurable";
const LOST: &str = "TelemetryLost";
const NOT_REPORTED: &str = "NoAgent";

/// What is heard of the processors or accelerators of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeReading {
    /// How busy they are, in percent.
    Percent(f64),
    /// How busy those are that can be read, in percent, and what is wrong with the others.
    Partly(f64, String),
    /// The node's agent reports and cannot read it, for this reason.
    NotMeasurable(String),
    /// They do not answer the agent, for this reason.
    Failed(String),
    /// The agent reported once and is silent.
    Silent,
    /// No agent ever reported.
    NeverHeard,
}

/// How busy a tier is.
#[derive(Clone, Debug, PartialEq)]
pub enum TierReading {
    /// Mean in percent over most of its nodes, and what is missing.
    Known {
        /// The mean.
        percent: f64,
        /// What is wrong with the nodes that are not in it, if any is.
        missing: Option<String>,
    },
    /// Agents report, and cannot read it, or get no answer: decisions go on, and no device counts as idle.
    NotMeasurable(String),
    /// It was heard of once, and is not now: cost moves nothing there and nothing away.
    Lost(String),
    /// No agent of its nodes ever reported.
    NotReported,
}

/// The reading of a tier from those of its usable nodes. A minority that is silent, or cannot be measured, is told and
/// changes nothing. Accelerators that do not answer their agent are not measured: whether devices can be given out is what
/// their node says of them.
pub fn of_nodes<'a>(readings: impl IntoIterator<Item = (&'a str, NodeReading)>) -> TierReading {
    let (mut nodes, mut known, mut sum) = (0, 0, 0.0);
    let (mut partly, mut unmeasured) = (Vec::new(), Vec::new());
    let (mut failed, mut lost) = (Vec::new(), Vec::new());
    for (node, reading) in readings {
        nodes += 1;
        match reading {
            NodeReading::Percent(percent) => {
                known += 1;
                sum += percent;
            }
            NodeReading::Partly(percent, why) => {
                known += 1;
                sum += percent;
                partly.push(format!("{node}: {why}"));
            }
            NodeReading::NotMeasurable(why) => unmeasured.push(format!("{node}: {why}")),
            NodeReading::Failed(why) => failed.push(format!("{node}: {why}")),
            NodeReading::Silent => lost.push(format!("{node}: its agent is silent")),
            NodeReading::NeverHeard => {}
        }
    }
    let first = |wrong: &[String]| {
        let (first, count) = (wrong.first()?, wrong.len());
        Some(format!("{count} of {nodes} nodes, first {first}"))
    };
    if known * 2 > nodes {
        let missing = first(&lost)
            .or_else(|| first(&failed))
            .or_else(|| first(&unmeasured))
            .or_else(|| first(&partly));
        let percent = sum / f64::from(known);
        return TierReading::Known { percent, missing };
    }
    if !lost.is_empty() && lost.len() * 2 >= nodes as usize {
        return TierReading::Lost(first(&lost).unwrap_or_default());
    }
    let why = first(&failed).or_else(|| first(&unmeasured));
    match why.or_else(|| first(&lost)) {
        Some(why) => TierReading::NotMeasurable(why),
        None if known > 0 => {
            TierReading::NotMeasurable(format!("{known} of {nodes} nodes are read"))
        }
        None => TierReading::NotReported,
    }
}

/// How full a tier is for the utilization band of policies, in percent: the mean of its engines, where most of them say so.
/// Without an engine a tier of GPUs is as full as others make it, and one of processors is empty: what else runs there is not
/// what decisions could move.
pub fn occupancy(
    engines: &[Option<f64>],
    reading: &TierReading,
    has_accelerators: bool,
) -> Option<f64> {
    let known: Vec<f64> = engines.iter().copied().flatten().collect();
    if !known.is_empty() && known.len() * 2 > engines.len() {
        return Some(known.iter().sum::<f64>() / known.len() as f64);
    }
    let measured = reading.percent().filter(|_| has_accelerators);
    measured.or(engines.is_empty().then_some(0.0))
}

impl TierReading {
    /// In percent, where it is known.
    pub fn percent(&self) -> Option<f64> {
        match self {
            Self::Known { percent, .. } => Some(*percent),
            _ => None,
        }
    }

    /// Whether agents report now.
    pub fn is_reported(&self) -> bool {
        matches!(self, Self::Known { .. } | Self::NotMeasurable(_))
    }

    /// The condition that says so: value, reason and message.
    pub fn condition(&self) -> (ConditionStatus, &'static str, String) {
        match self {
            Self::Known { missing: None, .. } => (
                ConditionStatus::True,
                KNOWN,
                "every node of the tier is measured".to_owned(),
            ),
            Self::Known {
                missing: Some(missing),
                ..
            } => (
                ConditionStatus::True,
                KNOWN,
                format!("the tier is measured, but for this: {missing}"),
            ),
            Self::NotMeasurable(why) => (
                ConditionStatus::False,
                NOT_MEASURABLE,
                format!(
                    "utilization cannot be measured, so idle devices are fully loaded in costs: {why}"
                ),
            ),
            Self::Lost(why) => (
                ConditionStatus::Unknown,
                LOST,
                format!(
                    "utilization was measured and is not heard of, so cost moves nothing: {why}"
                ),
            ),
            Self::NotReported => (
                ConditionStatus::Unknown,
                NOT_REPORTED,
                "no agent of the tier's nodes has ever reported".to_owned(),
            ),
        }
    }
}

/// How busy a tier is, as its status says.
pub fn of_status(status: &GPUTierStatus) -> Utilization {
    let mut conditions = status.conditions.iter();
    let known = conditions.find(|each| each.type_ == types::UTILIZATION_KNOWN);
    let percent = status
        .utilization_percent
        .and_then(|it| u128::try_from(it).ok());
    match known.map(|condition| condition.reason.as_str()) {
        Some(NOT_MEASURABLE) => Utilization::NotMeasurable,
        Some(LOST) => Utilization::Lost,
        Some(NOT_REPORTED) => Utilization::NotReported,
        _ => percent.map_or(Utilization::NotReported, |percent| {
            Utilization::Known(Percent::clamped(percent))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmeasured() -> NodeReading {
        NodeReading::NotMeasurable("no NVML".to_owned())
    }

    fn of(readings: &[NodeReading]) -> TierReading {
        of_nodes(readings.iter().cloned().map(|reading| ("n", reading)))
    }

    #[test]
    fn what_cannot_be_measured_is_not_lost() {
        let why = "2 of 2 nodes, first n: no NVML".to_owned();
        assert_eq!(
            of(&[unmeasured(), unmeasured()]),
            TierReading::NotMeasurable(why)
        );
        let (known, reason, message) = of(&[unmeasured()]).condition();
        assert_eq!((known, reason), (ConditionStatus::False, "NotMeasurable"));
        assert!(message.contains("no NVML"), "{message}");
    }

    #[test]
    fn one_silent_node_of_five_is_told_and_freezes_nothing() {
        let mut readings = vec![NodeReading::Percent(40.0); 4];
        readings.push(NodeReading::Silent);
        let missing = Some("1 of 5 nodes, first n: its agent is silent".to_owned());
        let percent = 40.0;
        assert_eq!(of(&readings), TierReading::Known { percent, missing });
        let mut readings = vec![unmeasured(); 4];
        readings.push(NodeReading::Silent);
        assert!(matches!(of(&readings), TierReading::NotMeasurable(_)));
    }

    #[test]
    fn a_device_that_is_lost_beside_others_is_told() {
        let partly = NodeReading::Partly(37.0, "DeviceLost: 1 of 2 devices".to_owned());
        let missing = Some("1 of 1 nodes, first n: DeviceLost: 1 of 2 devices".to_owned());
        let percent = 37.0;
        assert_eq!(of(&[partly]), TierReading::Known { percent, missing });
    }

    #[test]
    fn what_does_not_answer_its_agent_is_not_lost() {
        let failed = NodeReading::Failed("driver and library differ".to_owned());
        assert!(matches!(
            of(&[failed.clone(), NodeReading::Silent]),
            TierReading::Lost(_)
        ));
        let why = "1 of 1 nodes, first n: driver and library differ".to_owned();
        assert_eq!(of(&[failed]), TierReading::NotMeasurable(why));
    }

    #[test]
    fn silence_of_half_of_the_nodes_is_a_loss_and_no_word_ever_is_none() {
        let half = [NodeReading::Percent(40.0), NodeReading::Silent];
        assert!(matches!(of(&half), TierReading::Lost(_)));
        assert_eq!(of(&[NodeReading::NeverHeard]), TierReading::NotReported);
        assert_eq!(of(&[]), TierReading::NotReported);
    }

    #[test]
    fn a_tier_is_as_full_as_its_engines_and_processors_say_nothing_of_it() {
        let busy = of(&[NodeReading::Percent(90.0)]);
        let unknown = TierReading::NotReported;
        let engines = [Some(20.0), Some(40.0), None];
        assert_eq!(occupancy(&engines, &busy, true), Some(30.0));
        assert_eq!(occupancy(&[Some(20.0), None], &busy, true), Some(90.0));
        assert_eq!(occupancy(&[Some(20.0), None], &busy, false), None);
        assert_eq!(occupancy(&[None], &unknown, true), None);
        assert_eq!(occupancy(&[], &busy, true), Some(90.0));
        assert_eq!(occupancy(&[], &busy, false), Some(0.0));
    }

    #[test]
    fn the_status_says_again_what_was_read() {
        use weir_crds::condition::Conditions;
        let written = |reading: &TierReading, utilization_percent| {
            let mut conditions = Conditions::default();
            let (known, reason, message) = reading.condition();
            let time =
                k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
            let condition = (types::UTILIZATION_KNOWN, known, reason);
            conditions.set(&[], condition, message, 1, &time);
            of_status(&GPUTierStatus {
                utilization_percent,
                conditions: conditions.0,
                ..GPUTierStatus::default()
            })
        };
        let forty = Utilization::Known(Percent::clamped(40));
        assert_eq!(written(&of(&[NodeReading::Percent(41.0)]), Some(40)), forty);
        assert_eq!(
            written(&of(&[unmeasured()]), None),
            Utilization::NotMeasurable
        );
        assert_eq!(
            written(&of(&[NodeReading::Silent]), None),
            Utilization::Lost
        );
        assert_eq!(
            of_status(&GPUTierStatus::default()),
            Utilization::NotReported
        );
    }
}
