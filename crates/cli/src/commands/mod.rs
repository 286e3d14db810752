//! One module per group of commands; each returns the exit code it earned.

mod audit;
mod blob;
mod check;
mod classify;
mod contract;
mod device;
mod documents;
mod erase;
mod export;
mod import;
mod keys;
mod pair;
mod policy;
mod profile;
mod recovery;
mod retention;
mod search;
mod security;
mod subject;
mod transfer;
mod trash;
mod versions;

use crate::args::{AuditCommand, Cli, Command, SpaceCommand};
use crate::demo;
use crate::exit::{Exit, Failure, code_of};
use crate::home::Call;
use crate::output::{Output, printable};

pub(crate) use blob::BlobCommand;
pub(crate) use classify::Classify;
pub(crate) use contract::ContractArgs;
pub(crate) use device::{BandArg, DeviceCommand, OfBand, RoleArg};
pub(crate) use documents::title;
pub(crate) use erase::{Erase, Erasures, Redact};
pub(crate) use export::Export;
pub(crate) use import::{How, Notice, import, read_ahead};
pub(crate) use keys::{Passphrase, Prune, Purge, Rekey};
pub(crate) use policy::PolicyArgs;
pub(crate) use retention::RetentionArgs;
pub(crate) use security::Security;
pub(crate) use subject::SubjectCommand;
pub(crate) use transfer::Transfer;
pub(crate) use trash::{Delete, Restore, Trash};
pub(crate) use versions::{Diff, Show};

/// Runs a command, and tells how it failed if it did.
#[cfg(unix)]
pub(crate) async fn run_to_exit(cli: &Cli, call: &Call<'_>) -> Exit {
    run(cli, call).await.unwrap_or_else(|error| failed(call.out, &error))
}

/// Says what went wrong, for people and programs.
pub(crate) fn failed(out: Output<'_>, error: &anyhow::Error) -> Exit {
    let (exit, message) = (code_of(error), format!("{error:#}"));
    // If standard output is gone, the exit code and the note still tell.
    let _ = out.json(&serde_json::json!({ "error": message, "exit": exit as u8 }));
    out.note(&format!("larder: {}", printable(&message)));
    exit
}

/// Runs a command. Those that write in units finish the one at hand when asked to stop; any other
/// is dropped where it is: what it was about to commit is then not committed.
pub(crate) async fn run(cli: &Cli, call: &Call<'_>) -> anyhow::Result<Exit> {
    let finishes = matches!(
        cli.command,
        Command::Import(_)
            | Command::Export(_)
            | Command::Serve(_)
            | Command::Invite(_)
            | Command::Purge(_)
            | Command::Passphrase(_)
            | Command::Device(DeviceCommand::Renew(_))
    );
    check_clearance(cli, call)?;
    tokio::select! {
        biased;
        done = dispatch(&cli.command, call) => done,
        () = call.stop.asked(), if !finishes => {
            call.out.note(
                "Stopped. What was committed is safe; the same command again completes the work.",
            );
            Ok(Exit::Interrupted)
        }
    }
}

/// What is not about documents alone would show, or do, more than they are shown up to.
fn check_clearance(cli: &Cli, call: &Call<'_>) -> anyhow::Result<()> {
    match call.clearance {
        Some(band) if !cli.command.works_below_clearance() => Err(Failure::error(
            Exit::Failed,
            format!(
                "documents are shown up to {band} here, and this command is about more than \
                 documents: run it without --show-up-to, and not through a `larder serve` that has \
                 it"
            ),
        )),
        _ => Ok(()),
    }
}

async fn dispatch(command: &Command, call: &Call<'_>) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => profile::init(call, args).await,
        Command::Space(SpaceCommand::Create { space, recovery, recovery_of_words }) => {
            profile::create(call, space, *recovery, *recovery_of_words).await
        }
        Command::Space(SpaceCommand::Recover { space, lost }) => {
            recovery::recover(call, space, lost).await
        }
        Command::Space(SpaceCommand::Fingerprint { space }) => {
            profile::fingerprint(call, space).await
        }
        Command::Space(SpaceCommand::BeginAnew { space, .. }) => {
            profile::begin_anew(call, space).await
        }
        Command::Space(SpaceCommand::Policy(args)) => policy::run(call, args).await,
        Command::Space(SpaceCommand::List) => profile::list(call).await,
        Command::Status(args) => profile::status(call, args).await,
        Command::Blob(command) => blob::run(call, command).await,
        Command::Device(command) => device::run(call, command).await,
        Command::Check(args) => check::run(call, args).await,
        Command::Import(args) => import::run(call, args).await,
        Command::Export(args) => export::run(call, args).await,
        Command::Invite(args) => pair::invite(call, args).await,
        Command::Join(args) => pair::join(call, args).await,
        Command::Serve(args) => pair::serve(call, args).await,
        Command::Sync(args) => pair::sync(call, args).await,
        Command::List(args) => documents::list(call, args).await,
        Command::Get(args) => documents::get(call, args).await,
        Command::Put(args) => documents::put(call, args).await,
        Command::Copy(args) => transfer::run(call, args, false).await,
        Command::Move(args) => transfer::run(call, args, true).await,
        Command::Delete(args) => trash::delete(call, args).await,
        Command::Trash(args) => trash::list(call, args).await,
        Command::Restore(args) => trash::restore(call, args).await,
        Command::Retention(args) => retention::run(call, args).await,
        Command::Erase(args) => erase::erase(call, args).await,
        Command::Redact(args) => erase::redact(call, args).await,
        Command::Erasures(args) => erase::erasures(call, args).await,
        Command::History(args) => versions::history(call, args).await,
        Command::Show(args) => versions::show(call, args).await,
        Command::Diff(args) => versions::diff(call, args).await,
        Command::Conflicts(args) => versions::conflicts(call, args).await,
        Command::Search(args) => search::run(call, args).await,
        Command::Classify(args) => classify::run(call, args).await,
        Command::Contract(args) => contract::run(call, args).await,
        Command::Security(args) => security::run(call, args).await,
        Command::Subject(command) => subject::run(call, command).await,
        Command::Receipts(args) => audit::receipts(call, args).await,
        Command::Audit(AuditCommand::Verify { dir }) => audit::verify(&call.path(dir), call.out),
        Command::Prune(args) => keys::prune(call, args).await,
        Command::Rekey(args) => keys::rekey(call, args).await,
        Command::Purge(args) => keys::purge(call, args).await,
        Command::Passphrase(args) => keys::passphrase(call, args).await,
        Command::Demo(args) => demo::run(call, args).await,
    }
}
