//! The `larder` command: one face of the façade. It parses, prints and decides exit codes.

mod args;
mod commands;
mod demo;
mod exit;
mod files;
mod home;
mod interrupt;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::exit::{Exit, code_of};
use crate::output::{Output, note, printable};

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let exit = match start(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = code_of(&error);
            let message = format!("{error:#}");
            let output = Output { json: cli.global.json };
            // If standard output is gone, the exit code and the note still tell.
            let _ = output.json(&serde_json::json!({ "error": message, "exit": exit as u8 }));
            note(&format!("larder: {}", printable(&message)));
            exit
        }
    };
    exit.into()
}

fn start(cli: &args::Cli) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(commands::run(cli))
}
