//! One command from its arguments to its answer: reads files and the cluster, leaves the rest to pure code.

use std::path::Path;

use jiff::Timestamp;
use weir_crds::{GPUTier, InferencePriceBook, InferenceProvider, names};

use crate::cli::{
    Cli, Command, ConfirmArgs, DiffArgs, Output, PlanArgs, PriceCommand, StatusArgs, TopArgs,
};
use crate::cluster::{Access, Cluster, ClusterError};
use crate::feed::{self, Feed, FeedError};
use crate::files::{self, FileError};
use crate::objects::Objects;
use crate::plan::{self, PlanError, Planned, WhatIf};
use crate::price_confirm::{self, ConfirmError};
use crate::prices::PriceError;
use crate::rerun::rerun;
use crate::{explain, price_diff, status, top};

/// Where workloads live that name no namespace, when no cluster is there to say.
const DEFAULT_NAMESPACE: &str = "default";

/// What a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub warnings: Vec<String>,
    /// Whether nothing was missing; otherwise the exit status is 1.
    pub complete: bool,
}

impl Answer {
    fn of(output: String) -> Self {
        Self {
            output,
            warnings: Vec::new(),
            complete: true,
        }
    }
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster gave none.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Files cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A feed cannot be used.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Prices cannot be used.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// Nothing can be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The files hold no workload.
    #[error("the files hold no InferenceWorkload: add one with -f, or name one of the cluster")]
    NoWorkload,
    /// There is no such price book.
    #[error("InferencePriceBook {0} does not exist: `kubectl get ipb` lists them")]
    NoBook(String),
    /// There is no such provider.
    #[error("InferenceProvider {0} does not exist: `kubectl get iprov` lists them")]
    NoProvider(String),
    /// Nothing is confirmed.
    #[error(transparent)]
    Confirm(#[from] ConfirmError),
    /// What is planned refers to objects that the user may not read.
    #[error(
        "a plan needs {0}, which you may not read: ask for a role that can get and list it, or give it with -f"
    )]
    Unreadable(String),
    /// The answer cannot be written.
    #[error("cannot write the answer as JSON")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    /// 2 for wrong usage, 1 otherwise.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NoWorkload
            | Self::Plan(PlanError::Price(
                PriceError::UnknownModel(..) | PriceError::NoOutput { .. },
            )) => 2,
            _ => 1,
        }
    }
}

/// A failure in lines: what failed, and under it why. What a line says already is not said again.
pub fn described(failure: &dyn std::error::Error) -> String {
    let mut said = failure.to_string();
    let mut text = format!("error: {said}\n");
    let mut source = failure.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !said.contains(&cause_text) {
            text.push_str(&format!("  because: {cause_text}\n"));
            said = cause_text;
        }
        source = cause.source();
    }
    text
}

/// Runs a command.
///
/// # Errors
/// When there is no answer at all.
pub async fn run(cli: &Cli, access: &Access, now: Timestamp) -> Result<Answer, Failure> {
    match &cli.command {
        Command::Status(args) => show_status(args, access, now).await,
        Command::Explain(args) => show_explanation(&args.name, access, now).await,
        Command::Plan(args) => {
            Planning {
                cli,
                args,
                access,
                now,
            }
            .run()
            .await
        }
        Command::Price(PriceCommand::Diff(args)) => show_diff(args, access, now).await,
        Command::Price(PriceCommand::Confirm(args)) => confirm(args, access).await,
        Command::Top(args) => show_top(args, access).await,
    }
}

/// Tiers belong to the cluster, and many users may read workloads alone.
async fn show_top(args: &TopArgs, access: &Access) -> Result<Answer, Failure> {
    let cluster = access.connect().await?;
    let (tiers, failed) = match cluster.all::<GPUTier>().await {
        Ok(tiers) => (Some(tiers), Vec::new()),
        Err(error @ ClusterError::Forbidden { .. }) => (None, vec![error]),
        Err(error) => return Err(error.into()),
    };
    let workloads = cluster.workloads(args.all_namespaces).await?;
    Ok(Answer {
        output: top::top(tiers.as_ref(), &workloads),
        warnings: warnings(&failed),
        complete: failed.is_empty(),
    })
}

async fn confirm(args: &ConfirmArgs, access: &Access) -> Result<Answer, Failure> {
    let cluster = access.connect().await?;
    let found = cluster.one::<InferencePriceBook>(&args.book).await?;
    let book = found.ok_or_else(|| Failure::NoBook(args.book.clone()))?;
    let provider = match &args.provider {
        None => None,
        Some(name) => {
            let found = cluster.one::<InferenceProvider>(name).await?;
            Some(found.ok_or_else(|| Failure::NoProvider(name.clone()))?)
        }
    };
    let confirmed = price_confirm::confirm(&book, args.model.as_deref(), provider.as_ref())?;
    let annotation = (
        names::ANNOTATION_CONFIRM_PRICES,
        confirmed.revisions.as_str(),
    );
    cluster.annotate(&book, annotation).await?;
    Ok(Answer::of(confirmed.output))
}

async fn show_status(
    args: &StatusArgs,
    access: &Access,
    now: Timestamp,
) -> Result<Answer, Failure> {
    let cluster = access.connect().await?;
    if let Some(name) = &args.name {
        return Ok(Answer::of(status::one(&cluster.workload(name).await?, now)));
    }
    let workloads = cluster.workloads(args.all_namespaces).await?;
    if !workloads.is_empty() {
        return Ok(Answer::of(status::lines(
            &workloads,
            args.all_namespaces,
            now,
        )));
    }
    let place = match args.all_namespaces {
        true => "the cluster".to_owned(),
        false => format!("namespace {}", cluster.namespace),
    };
    let mut answer = Answer::of(String::new());
    answer
        .warnings
        .push(format!("No InferenceWorkload in {place}."));
    Ok(answer)
}

async fn show_explanation(name: &str, access: &Access, now: Timestamp) -> Result<Answer, Failure> {
    let cluster = access.connect().await?;
    let workload = cluster.workload(name).await?;
    let mut objects = Objects::default();
    let mut failed = cluster.complete(&mut objects, &workload).await;
    match cluster.pods(&workload).await {
        Ok(pods) => objects.pods = pods,
        Err(error) => failed.push(error),
    }
    objects.workloads.push(workload.clone());
    // Decided again from a part of the inputs, a decision would differ for that alone.
    let again = failed
        .is_empty()
        .then(|| rerun(&objects, &workload, now))
        .flatten();
    let output = explain::explain(&workload, &objects, again.as_ref(), now);
    Ok(Answer {
        output,
        warnings: warnings(&failed),
        complete: true,
    })
}

fn warnings(failed: &[ClusterError]) -> Vec<String> {
    failed
        .iter()
        .map(|error| format!("warning: {error}"))
        .collect()
}

async fn show_diff(args: &DiffArgs, access: &Access, now: Timestamp) -> Result<Answer, Failure> {
    let a = feed_of(&args.a, access).await?;
    let b = feed_of(&args.b, access).await?;
    let diff = price_diff::diff(&a, &b, now)?;
    Ok(Answer {
        complete: !(args.exit_code && diff.differs),
        ..Answer::of(diff.text)
    })
}

async fn feed_of(name: &str, access: &Access) -> Result<Feed, Failure> {
    let Some(book) = name.strip_prefix("book/") else {
        return Ok(feed::read(name, &files::text(Path::new(name))?)?);
    };
    let cluster = access.connect().await?;
    let found = cluster.one::<InferencePriceBook>(book).await?;
    let found = found.ok_or_else(|| Failure::NoBook(book.to_owned()))?;
    Ok(feed::of_book(found)?)
}

struct Planning<'a> {
    cli: &'a Cli,
    args: &'a PlanArgs,
    access: &'a Access,
    now: Timestamp,
}

impl Planning<'_> {
    async fn run(&self) -> Result<Answer, Failure> {
        let mut objects = files::objects(&self.args.files)?;
        let feed = match &self.args.feed {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                Some(feed::read(&name, &files::text(path)?)?.document)
            }
        };
        let mut problems = Vec::new();
        let mut namespace = self.cli.connection.namespace.clone();
        self.read_cluster(&mut objects, &mut namespace, &mut problems)
            .await?;
        let what_if = WhatIf {
            requests: self.args.requests,
            prices: self.args.prices.clone(),
            feed,
            namespace: namespace
                .clone()
                .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        };
        let name = self.args.name.as_deref();
        let workloads = plan::chosen(&objects, name, self.cli.connection.namespace.as_deref());
        if workloads.is_empty() {
            return Err(Failure::NoWorkload);
        }
        let mut plans = Vec::with_capacity(workloads.len());
        for workload in workloads {
            plans.push(plan::plan(&objects, workload, &what_if, self.now)?);
        }
        self.answer(&plans, problems)
    }

    /// Reads what the files do not hold. A cluster that is not needed is not asked; one that cannot be asked is no
    /// obstacle, unless it was named or has the workload itself.
    async fn read_cluster(
        &self,
        objects: &mut Objects,
        namespace: &mut Option<String>,
        problems: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let name = self.args.name.as_deref();
        let in_files =
            name.is_none_or(|name| objects.workload(name, namespace.as_deref()).is_some());
        let chosen = |objects: &Objects| -> Vec<_> {
            let chosen = plan::chosen(objects, name, self.cli.connection.namespace.as_deref());
            chosen.into_iter().cloned().collect()
        };
        let lacking = chosen(objects)
            .iter()
            .any(|workload| !objects.absent(workload).is_empty());
        if in_files && !lacking {
            return Ok(());
        }
        let cluster = match self.access.connect().await {
            Ok(cluster) => cluster,
            Err(error) if !in_files || self.is_cluster_named() => return Err(error.into()),
            Err(error) => {
                problems.push(format!("note: {error}"));
                return Ok(());
            }
        };
        namespace.get_or_insert_with(|| cluster.namespace.clone());
        if let Some(name) = name.filter(|_| !in_files) {
            self.read_workload(&cluster, objects, name).await?;
        }
        for workload in chosen(objects) {
            let failed = cluster.complete(objects, &workload).await;
            // What may not be read is not absent: a plan without it would say what is not so.
            let absent = objects.absent(&workload);
            let unreadable = failed.iter().filter_map(|error| match error {
                ClusterError::Forbidden { what } => Some(what.as_str()),
                _ => None,
            });
            let unreadable: Vec<&str> = unreadable.collect();
            if !absent.is_empty() && !unreadable.is_empty() {
                return Err(Failure::Unreadable(unreadable.join(", ")));
            }
            if let Some(error) = failed.into_iter().next() {
                if self.is_cluster_named() {
                    return Err(error.into());
                }
                problems.push(format!("note: {error}"));
                return Ok(());
            }
        }
        Ok(())
    }

    async fn read_workload(
        &self,
        cluster: &Cluster,
        objects: &mut Objects,
        name: &str,
    ) -> Result<(), Failure> {
        let workload = cluster.workload(name).await?;
        // Without its pods, the devices that it holds count as taken by others; that is told by the gate.
        objects
            .pods
            .extend(cluster.pods(&workload).await.unwrap_or_default());
        objects.workloads.push(workload);
        Ok(())
    }

    fn is_cluster_named(&self) -> bool {
        let connection = &self.cli.connection;
        connection.context.is_some() || connection.kubeconfig.is_some()
    }

    fn answer(&self, plans: &[Planned], problems: Vec<String>) -> Result<Answer, Failure> {
        let complete = plans.iter().all(|plan| plan.missing.is_empty());
        let output = match self.args.output {
            Output::Json => serde_json::to_string_pretty(plans)? + "\n",
            Output::Table => {
                let tables: Vec<String> = plans.iter().map(plan::table).collect();
                tables.join("\n")
            }
        };
        let mut warnings = problems;
        let lacking = plans.iter().filter(|plan| !plan.missing.is_empty());
        warnings.extend(lacking.map(|plan| {
            format!(
                "error: the plan of {} is incomplete: {}",
                plan.name,
                plan.missing.join("; ")
            )
        }));
        Ok(Answer {
            output,
            warnings,
            complete,
        })
    }
}
