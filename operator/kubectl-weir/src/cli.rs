//! Commands and flags.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::prices::PriceOverride;

/// Where inference workloads run, why, and what would change it.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-weir",
    bin_name = "kubectl weir",
    version,
    about,
    after_help = "Exit status: 0 success, 1 failure or an incomplete answer, 2 wrong usage.",
    after_long_help = "Examples:\n  \
        kubectl weir status -A\n  \
        kubectl weir explain support-chat -n team-a\n  \
        kubectl weir plan -f charts/weir/examples --price acme-small=0.28:1.10 --price acme-frontier=3:15\n  \
        kubectl weir price diff old.json new.json\n  \
        kubectl weir price confirm acme\n  \
        kubectl weir top\n\n\
        Exit status: 0 success, 1 failure or an incomplete answer, 2 wrong usage."
)]
pub struct Cli {
    /// How the cluster is reached.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How the cluster is reached.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// Kubeconfig file; by default as kubectl finds it.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; by default its current one.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// Namespace; by default the context's.
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        help_heading = "Cluster"
    )]
    pub namespace: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Where workloads run; of one also its conditions, moves and usage.
    #[command(
        after_help = "Examples:\n  kubectl weir status\n  kubectl weir status -A\n  kubectl weir status support-chat -n team-a"
    )]
    Status(StatusArgs),
    /// The whole decision for a workload: numbers, candidates, gates, and what would flip it.
    #[command(
        after_help = "Examples:\n  kubectl weir explain support-chat\n  kubectl weir explain support-chat -n team-a --context production"
    )]
    Explain(ExplainArgs),
    /// What Weir would decide, by the operator's own code; objects that no file holds are read from the cluster.
    #[command(after_help = "Examples:\n  \
            kubectl weir plan -f workload.yaml -f fleet.yaml --price acme-small=0.28:1.10\n  \
            kubectl weir plan -f charts/weir/examples --prices model_prices_and_context_window.json\n  \
            kubectl weir plan support-chat --requests 2000000 --price acme/acme-small=0.10\n  \
            kubectl get iwl support-chat -o yaml | kubectl weir plan -f - -o json")]
    Plan(PlanArgs),
    /// Price feeds and price books.
    #[command(
        subcommand,
        after_help = "Examples:\n  kubectl weir price diff old.json new.json\n  kubectl weir price confirm acme --model acme-small"
    )]
    Price(PriceCommand),
    /// Tiers by what is free and what they cost, and workloads by what they cost.
    #[command(after_help = "Examples:\n  kubectl weir top\n  kubectl weir top -A")]
    Top(TopArgs),
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The workload to show in full.
    pub name: Option<String>,
    /// Every namespace.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    pub all_namespaces: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The workload.
    pub name: String,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("workloads").args(["name", "files"]).required(true).multiple(true)))]
pub struct PlanArgs {
    /// A workload to plan: of the files, or of the cluster. Default: every workload of the files.
    pub name: Option<String>,
    /// A file or folder of YAML or JSON, or - for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A price in USD per million tokens, such as acme-small=0.28:1.10; without OUTPUT the known output price stays. Cached prices and those of long prompts follow in proportion, the batch discount stays. May be repeated.
    #[arg(long = "price", value_name = "[PROVIDER/]MODEL=INPUT[:OUTPUT]")]
    pub prices: Vec<PriceOverride>,
    /// Prices of a file: LiteLLM's model_prices_and_context_window.json, OpenRouter's models, or Weir's own format.
    #[arg(long = "prices", value_name = "FILE")]
    pub feed: Option<PathBuf>,
    /// Requests in a month of 730 hours, instead of what is declared or was observed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=1_000_000_000_000))]
    pub requests: Option<u64>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What to do with prices.
#[derive(Debug, Subcommand)]
pub enum PriceCommand {
    /// What changed from A to B, and what the price guard would hold back.
    #[command(
        after_help = "A and B are files (LiteLLM, OpenRouter, Weir's format, or an InferencePriceBook), or book/NAME for a price book of the cluster.\n\n\
            Examples:\n  \
            kubectl weir price diff yesterday.json today.json\n  \
            kubectl weir price diff book/acme model_prices_and_context_window.json"
    )]
    Diff(DiffArgs),
    /// Has changes that the price guard holds back believed at once; shows both prices of each.
    #[command(
        after_help = "It writes an annotation that names each change by its revision, so that a later change of the same model is held again. \
            Rows that cannot be read have nothing to confirm.\n\n\
            Examples:\n  \
            kubectl weir price confirm acme\n  \
            kubectl weir price confirm acme --model acme-small\n  \
            kubectl weir price confirm acme --provider acme-eu"
    )]
    Confirm(ConfirmArgs),
}

/// Arguments of `price confirm`.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// The price book.
    pub book: String,
    /// Changes of this model alone, as the price book or a provider names it.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Changes of models of this InferenceProvider alone.
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
}

/// Arguments of `price diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The prices before: a file, or book/NAME.
    pub a: String,
    /// The prices after: a file, or book/NAME.
    pub b: String,
    /// Exit with status 1 when anything differs.
    #[arg(long)]
    pub exit_code: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Workloads of every namespace.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().or(command.get_after_long_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            let long = command.get_after_long_help().map(ToString::to_string);
            assert!(
                help.contains("kubectl weir")
                    || long.is_some_and(|help| help.contains("kubectl weir")),
                "{}",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn a_plan_needs_a_file_or_a_name() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("kubectl-weir plan").is_err());
        assert!(parse("kubectl-weir plan -f a.yaml -f b").is_ok());
        assert!(parse("kubectl-weir plan chat --requests 5").is_ok());
        assert!(parse("kubectl-weir plan chat --price acme-small").is_err());
        assert!(parse("kubectl-weir status -A -n team").is_err());
    }
}
