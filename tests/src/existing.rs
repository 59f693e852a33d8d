//! An existing cluster of a kubeconfig instead of a node of our own.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command as AsyncCommand};

use crate::cluster::{Cluster, Facts, Images, output, weir_cluster};

#[derive(Deserialize)]
struct Clients {
    kubectl: std::path::PathBuf,
    helm: std::path::PathBuf,
}

/// A cluster of the user's kubeconfig, by its context. Nothing of it is removed with the value.
pub fn cluster(context: &str) -> Result<Cluster> {
    let clients = output(&mut weir_cluster(["clients"]))?;
    let clients: Clients =
        serde_json::from_str(&clients).context("reading what weir-cluster clients printed")?;
    let mut view = Command::new(&clients.kubectl);
    view.args([
        "config",
        "view",
        "--minify",
        "--flatten",
        "--context",
        context,
    ]);
    let kubeconfig =
        output(&mut view).with_context(|| format!("no context {context:?} in the kubeconfig"))?;
    let folder = std::env::temp_dir().join(format!(
        "weir-{}",
        context.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    ));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("kubeconfig");
    write_private(&path, &kubeconfig)?;
    let server = output(
        Command::new(&clients.kubectl)
            .env("KUBECONFIG", &path)
            .args([
                "config",
                "view",
                "-o",
                "jsonpath={.clusters[0].cluster.server}",
            ]),
    )?;
    Ok(Cluster::external(Facts {
        name: context.to_owned(),
        kubeconfig: path,
        server,
        node_ip: String::new(),
        host_ip: String::new(),
        fake_pods: String::new(),
        audit_log: std::path::PathBuf::new(),
        kubectl: clients.kubectl,
        helm: clients.helm,
    }))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// Puts the images where the cluster's nodes find them: `kind load` for kind; other clusters are told what to do.
pub fn import(cluster: &Cluster, images: &Images) -> Result<()> {
    let name = &cluster.facts.name;
    let Some(kind) = name.strip_prefix("kind-") else {
        if std::env::var_os("WEIR_IMAGES_ARE_THERE").is_some() {
            return Ok(());
        }
        let archives: Vec<String> = images
            .archives
            .values()
            .map(|path| path.display().to_string())
            .collect();
        bail!(
            "how to load images into {name} is not known. Import these archives on its nodes (`ctr -n k8s.io images import FILE`), \
             then run again with WEIR_IMAGES_ARE_THERE=1:\n  {}",
            archives.join("\n  ")
        );
    };
    for archive in images.archives.values() {
        let mut load = Command::new("kind");
        load.args(["load", "image-archive", "--name", kind])
            .arg(archive);
        output(&mut load).context("loading an image into kind")?;
    }
    Ok(())
}

/// Forwarded ports; they end with the value.
#[derive(Debug, Clone, Default)]
pub struct Forwards(Arc<Mutex<Vec<Child>>>);

impl Forwards {
    /// Forwards a port of this host to a Service, and returns it.
    pub async fn open(
        &self,
        cluster: &Cluster,
        namespace: &str,
        service: &str,
        port: u16,
    ) -> Result<u16> {
        let mut child = AsyncCommand::new(&cluster.facts.kubectl)
            .env("KUBECONFIG", &cluster.facts.kubeconfig)
            .args([
                "-n",
                namespace,
                "port-forward",
                &format!("service/{service}"),
                &format!(":{port}"),
            ])
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl port-forward")?;
        let stdout = child.stdout.take().context("kubectl has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines
            .next_line()
            .await?
            .with_context(|| format!("port-forward to {namespace}/{service} ended"))?;
        let local = line
            .split_once("127.0.0.1:")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        // kubectl prints a line for each connection; somebody has to read them.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
        local.with_context(|| format!("port-forward says {line:?}"))
    }
}
