//! The `larder` command: one face of the façade. It parses, prints and decides exit codes.

mod args;
mod commands;
mod console;
mod demo;
mod exit;
mod files;
mod home;
mod interrupt;
mod metrics;
mod output;
mod passphrase;
mod private;
mod qr;
#[cfg(unix)]
mod socket;
mod turns;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::exit::{Exit, code_of};
use crate::home::Call;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::own(cli.global.json);
    start(&cli).unwrap_or_else(|error| commands::failed(out, &error).into())
}

fn start(cli: &Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Some(code) = served(cli).await? {
            return Ok(code);
        }
        match commands::run(cli, &Call::own(&cli.global)).await {
            Ok(exit) => Ok(exit.into()),
            // Somebody may have begun to serve it a moment ago.
            Err(error) if code_of(&error) == Exit::InUse => match served(cli).await? {
                Some(code) => Ok(code),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    })
}

/// Runs the command in the process that serves its profile, if there is one and it can.
#[cfg(unix)]
async fn served(cli: &Cli) -> anyhow::Result<Option<ExitCode>> {
    if cli.command.needs_profile_alone() {
        socket::refuse_while_served(&home::profile_dir(&cli.global)?)?;
    }
    if cli.command.runs_where_served() {
        return socket::run_there(cli, &home::profile_dir(&cli.global)?).await;
    }
    Ok(None)
}

#[cfg(not(unix))]
async fn served(_: &Cli) -> anyhow::Result<Option<ExitCode>> {
    Ok(None)
}
