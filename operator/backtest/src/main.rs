//! `weir-backtest`: replays a bundle, writes the plan and prints one line of accounting.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Parser;
use weir_backtest::bundle::Bundle;
use weir_backtest::report::report;
use weir_backtest::{fleet, workload};
use weir_placement::SplitParameters;

/// Replays recorded prices and traffic, step by step, through the code that decides placements.
///
/// Prints one JSON line: {"totalUsd": …} for a workload, {"savedUsd": …} for a fleet.
#[derive(Debug, Parser)]
#[command(name = "weir-backtest", version)]
struct Arguments {
    /// The bundle to replay (format weir-backtest/2).
    #[arg(long, value_name = "FILE.json.gz")]
    bundle: PathBuf,
    /// Where the decisions go, one JSON line for each step.
    #[arg(long, value_name = "OUT.jsonl")]
    plan: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let plan = arguments.plan.as_deref();
    match Bundle::read(&arguments.bundle)? {
        Bundle::Workload(bundle) => {
            let replay = workload::replay(&bundle, &SplitParameters::default())?;
            report(&replay.decisions, &replay.accounting, plan)?;
        }
        Bundle::Fleet(bundle) => {
            let replay = fleet::replay(&bundle);
            report(&replay.decisions, &replay.accounting, plan)?;
        }
    }
    Ok(())
}
