//! The plugin's process: flags, the clock, output and exit status.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use kubectl_weir::cli::Cli;
use kubectl_weir::cluster::Access;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Only a second provider is an error, and then there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let access = Access::Kubeconfig(cli.connection.clone());
    match kubectl_weir::run(&cli, &access, jiff::Timestamp::now()).await {
        Ok(answer) => {
            print(&mut std::io::stdout(), &answer.output);
            for warning in &answer.warnings {
                print(&mut std::io::stderr(), &format!("{warning}\n"));
            }
            ExitCode::from(u8::from(!answer.complete))
        }
        Err(failure) => {
            print(&mut std::io::stderr(), &kubectl_weir::described(&failure));
            ExitCode::from(failure.exit_status())
        }
    }
}

/// A reader that closed the pipe wants no more, and is no failure.
fn print(stream: &mut dyn Write, text: &str) {
    drop(stream.write_all(text.as_bytes()));
    drop(stream.flush());
}
