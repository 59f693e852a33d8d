//! A real single-node Kubernetes of one's own, through `tests/cluster/weir-cluster`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// How `weir-cluster up` is asked for a cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpOptions {
    /// Remove a cluster of this name first.
    pub fresh: bool,
    /// etcd, API server and controller manager; no node.
    pub control_plane_only: bool,
    /// Leave it running when this value is dropped and when this process ends.
    pub keep: bool,
}

/// A running cluster. Unless it is kept, it goes with this value, and with this process however that ends.
#[derive(Debug)]
pub struct Cluster {
    /// How to reach it.
    pub facts: Facts,
    keep: bool,
    external: bool,
}

/// What `weir-cluster up --json` prints.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    pub name: String,
    /// Kubeconfig of the admin; it needs no other file.
    pub kubeconfig: PathBuf,
    /// URL of the API server, the same from the host and from pods.
    pub server: String,
    /// The node's address; processes in its namespaces listen here.
    pub node_ip: String,
    /// The host's address; pods reach processes on the host here.
    pub host_ip: String,
    /// Range for pods of fake nodes, such as `10.128.0.0/16`.
    pub fake_pods: String,
    /// JSON lines: every mutating request, and every request of Weir's components.
    pub audit_log: PathBuf,
    pub kubectl: PathBuf,
    pub helm: PathBuf,
}

/// What `weir-cluster images` prints.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// `weir/operator` → `localhost/weir/operator:<hash of its content>`, and so on.
    pub images: BTreeMap<String, String>,
    /// `weir/operator` → path of its archive.
    pub archives: BTreeMap<String, PathBuf>,
    /// Values that make the chart use these images; JSON is YAML, so it is a values file.
    pub helm_values: serde_json::Value,
}

/// Root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The harness with these arguments, its progress on this process's stderr.
pub fn weir_cluster<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(repository().join("tests/cluster/weir-cluster"));
    command.args(arguments).stderr(Stdio::inherit());
    command
}

/// Build every image of Weir, or those named (`operator`, `gateway-local`, …). `WEIR_IMAGES` names a file with what an
/// earlier build printed, to be used instead.
pub fn build_images(only: &[&str]) -> Result<Images> {
    let printed = match std::env::var_os("WEIR_IMAGES") {
        Some(file) => std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", Path::new(&file).display()))?,
        None => output(weir_cluster(["images"]).args(only))?,
    };
    serde_json::from_str(&printed).context("reading what weir-cluster images printed")
}

/// The demo's model file, fetched once.
pub fn model() -> Result<PathBuf> {
    Ok(output(&mut weir_cluster(["model"]))?.trim().into())
}

/// cargo without what a surrounding cargo set: build scripts that watch it (ring's) would run again, and all that needs
/// them be rebuilt.
pub fn cargo() -> Command {
    let inherited = |name: &str| {
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR"
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(inherited) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Stdout of a command that must succeed. Stderr is in the error if the command has it piped.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !done.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
    }
    String::from_utf8(done.stdout).with_context(|| format!("reading the output of {command:?}"))
}

impl Cluster {
    /// A running cluster of this name; one that is up already is taken over unless `fresh`.
    pub fn up(name: &str, options: UpOptions) -> Result<Self> {
        let mut command = weir_cluster(["up", "--json", "--name", name]);
        if options.fresh {
            command.arg("--fresh");
        }
        if options.control_plane_only {
            command.arg("--control-plane-only");
        }
        if !options.keep {
            command.arg(format!("--while-pid={}", std::process::id()));
        }
        let printed = output(&mut command)?;
        let facts =
            serde_json::from_str(&printed).context("reading what weir-cluster up printed")?;
        Ok(Self {
            facts,
            keep: options.keep,
            external: false,
        })
    }

    /// A cluster that is not ours: nothing of it is started or removed.
    pub fn external(facts: Facts) -> Self {
        Self {
            facts,
            keep: true,
            external: true,
        }
    }

    /// Whether the cluster is somebody else's: no way into its node, and no route to its pods.
    pub fn is_external(&self) -> bool {
        self.external
    }

    /// kubectl as the admin of this cluster.
    pub fn kubectl<I: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut command = Command::new(&self.facts.kubectl);
        command
            .env("KUBECONFIG", &self.facts.kubeconfig)
            .args(arguments);
        command
    }

    /// helm as the admin of this cluster.
    pub fn helm<I: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut command = Command::new(&self.facts.helm);
        command
            .env("KUBECONFIG", &self.facts.kubeconfig)
            .args(arguments);
        command
    }

    /// `kubectl apply --server-side -f -` of manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut command = self.kubectl(["apply", "--server-side", "-f", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting kubectl")?;
        child
            .stdin
            .take()
            .context("kubectl has no stdin")?
            .write_all(manifests.as_bytes())?;
        let done = child.wait_with_output()?;
        if !done.status.success() {
            bail!("kubectl apply: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// A subcommand of the harness for this cluster, such as `["component", "kube-apiserver", "stop"]`.
    pub fn harness(&self, arguments: &[&str]) -> Result<String> {
        let [subcommand, rest @ ..] = arguments else {
            bail!("no subcommand")
        };
        output(weir_cluster([subcommand, "--name", &self.facts.name]).args(rest))
    }

    /// Put image archives into the node; those that it has are skipped.
    pub fn import(&self, images: &Images) -> Result<()> {
        output(weir_cluster(["import", "--name", &self.facts.name]).args(images.archives.values()))
            .map(drop)
    }

    /// A command in the node's namespaces.
    pub fn enter<I: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut command = weir_cluster(["enter", "--name", &self.facts.name, "--"]);
        command.args(arguments);
        command
    }

    /// A client as the admin.
    pub async fn client(&self) -> Result<kube::Client> {
        let kubeconfig = kube::config::Kubeconfig::read_from(&self.facts.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Objects, events, logs and audit lines into a folder.
    pub fn dump(&self, folder: &Path) -> Result<()> {
        output(weir_cluster(["dump", "--name", &self.facts.name]).arg(folder)).map(drop)
    }

    /// Dumps what may explain a failure, and says where it is.
    pub fn evidence(&self) -> String {
        if self.external {
            return "nothing was dumped of a cluster that is not ours".to_owned();
        }
        // One folder for each failure: a later one leaves what explains an earlier one.
        let folder = std::env::temp_dir();
        let folder = (1..)
            .map(|count| format!("weir-{}-{}-{count}", self.facts.name, std::process::id()))
            .map(|name| folder.join(name))
            .find(|folder| !folder.exists())
            .unwrap_or(folder);
        match self.dump(&folder) {
            Ok(()) => format!(
                "objects, events, logs and audit lines are in {}",
                folder.display()
            ),
            Err(error) => format!("the cluster could not be dumped: {error:#}"),
        }
    }

    /// Leave it running from now on, also when this process ends.
    pub fn keep(&mut self) -> Result<()> {
        self.keep = true;
        self.harness(&["release"]).map(drop)
    }

    /// Remove it now and wait until it is gone.
    pub fn down(&self) -> Result<()> {
        output(&mut weir_cluster(["down", "--name", &self.facts.name])).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.down()
        {
            eprintln!("cluster {}: {error:#}", self.facts.name);
        }
    }
}
