//! `larder invite`, `join`, `serve`, `sync`: this device and the others.

use std::io::Read;
use std::net::SocketAddr;
use std::pin::pin;

use anyhow::Context;
use larder::limits::INVITATION_TRIES_MAX;
use larder::{
    CheckCode, Error, Event, Invitation, Joined, Joining, PeerReport, Profile, Role, SpaceName,
    SpaceReport, Terms, TransportId, Whose,
};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::args::{Invite, Join, Place, Serve, Sync};
use crate::commands::device::tell_carried;
use crate::commands::profile::short;
use crate::exit::{Exit, Failure, code_of_kind};
#[cfg(unix)]
use crate::home::Served;
use crate::home::{Call, Opened};
use crate::metrics;
use crate::output::{Output, bytes, claimed, counted, printable};
use crate::qr;
#[cfg(unix)]
use crate::socket::Server;
use crate::turns::Turns;

const INVITATION_BYTES_MAX: u64 = 64 << 10;

pub(crate) async fn invite(call: &Call<'_>, args: &Invite) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let served_at = if call.is_served() { profile.listening().await } else { None };
    let address = match (served_at, args.listen) {
        (Some(at), Some(other)) if at != other => {
            let message = format!("`larder serve` listens at {at}: leave --listen out");
            return Err(Failure::error(Exit::Usage, message));
        }
        (Some(at), _) => at,
        (None, listen) => profile.listen(listen).await?,
    };
    let mut events = profile.events();
    let invitation = match terms(&profile, args).await? {
        terms if args.code => profile.invite_by_code(&args.space, terms).await?,
        Some(terms) => profile.invite_on(&args.space, terms).await?,
        None => profile.invite(&args.space).await?,
    };
    let mut invitation = if args.unattended { invitation.unattended() } else { invitation };
    let joined = match admit(call, args, &profile, &mut invitation, address).await {
        Ok(Some(joined)) => joined,
        ended => {
            // Whoever serves the profile would honour it until it expires.
            invitation.withdraw();
            profile.close().await?;
            return ended.map(|_| Exit::Interrupted);
        }
    };
    out.json(&json!({
        "event": "joined", "label": joined.label, "device": joined.device.to_string(),
    }))?;
    out.line(&format!("{} joined {}.", printable(&joined.label), args.space))?;
    let devices = profile.space(&args.space).await?.devices().await?;
    let newcomer = devices.iter().find(|device| device.device == joined.device);
    let what = match newcomer.map(|device| device.role) {
        Some(Role::Auditor) => "the space's receipts",
        _ => "what the space holds",
    };
    out.note(&format!("Giving it {what}; this ends when it has all."));
    let newcomer = newcomer.map(|device| device.transport);
    let mut has_all = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                // Files come after the documents that name them; it hangs up when it has them.
                Ok(Event::CaughtUp { space, peer })
                    if space == args.space && Some(peer) == newcomer => has_all = true,
                Ok(Event::PeerLost { peer, .. }) if Some(peer) == newcomer => {
                    if !has_all {
                        let message = "It hung up. If it lacks anything: larder serve here, \
                                       larder sync there.";
                        out.note(message);
                    }
                    break;
                }
                Err(RecvError::Closed) => break,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
            },
            () = call.stop.asked() => break,
        }
    }
    profile.close().await?;
    Ok(Exit::Done)
}

/// Shows the invitation and waits until a device is let in with it; none if asked to stop before.
async fn admit(
    call: &Call<'_>,
    args: &Invite,
    profile: &Profile,
    invitation: &mut Invitation,
    address: SocketAddr,
) -> anyhow::Result<Option<Joined>> {
    let out = call.out;
    let mut discover = std::pin::pin!(profile.discover());
    if let Some(place) = &args.qr_png {
        qr::write_png(&call.path(place), &invitation.text)?;
    }
    out.json(&json!({
        "event": "invitation",
        "text": invitation.text,
        "expires": invitation.expires.to_string(),
        "address": address.to_string(),
    }))?;
    out.line(&invitation.text)?;
    if args.qr && !out.is_json() {
        out.note(&qr::for_terminal(&invitation.text)?);
    }
    let how = if args.code { "--code" } else { "INVITATION" };
    let how = if args.code { format!("{how} {}", invitation.text) } else { how.to_owned() };
    let who = if args.unattended { "is let in, and nobody is asked" } else { "can ask to join" };
    out.note(&format!(
        "Whoever has this text {who}, once, until {}. On the other device:\n  \
         larder join {how}\n\
         Waiting for it at {address}; Ctrl-C withdraws the invitation.",
        invitation.expires
    ));
    let admitted = async {
        if args.unattended { Ok(invitation.joined().await?) } else { ask(call, invitation).await }
    };
    tokio::select! {
        joined = admitted => joined.map(Some),
        // On an address that only this machine reaches there is nobody to be found by.
        Err(error) = &mut discover, if args.code && !address.ip().is_loopback() => {
            Err(error.into())
        }
        () = call.stop.asked() => Ok(None),
    }
}

/// Shows each device that asks, and lets in the one that is approved.
async fn ask(call: &Call<'_>, invitation: &mut Invitation) -> anyhow::Result<Joined> {
    let out = call.out;
    for _ in 0..INVITATION_TRIES_MAX {
        let request = invitation.request().await?;
        let (code, label) = (request.check_code, claimed(&request.label));
        call.forget_typed()?;
        out.json(&json!({
            "event": "request",
            "check_code": code.to_string(),
            "label": request.label,
            "device": request.device.to_string(),
        }))?;
        if !out.is_json() {
            out.note(&format!(
                "Check code: {code}\nLet the device in that asks, if it shows the same code; if it \
                 shows another or none, it is not that device which asks. [y/N]\n\
                 It calls itself: {label}"
            ));
        }
        let of_person = call.is_typed() && !out.is_json();
        if !is_approved(call.line().await?.as_deref(), code, of_person) {
            request.refuse();
            out.json(&json!({ "event": "refused", "label": label }))?;
            out.note(&format!("Not let in; waiting for another one. It called itself: {label}"));
            continue;
        }
        match request.approve().await {
            Err(error @ Error::PairingGone) => out.note(&format!("{error}.")),
            joined => return Ok(joined?),
        }
    }
    let message = "the invitation was tried too often without success: make a new one";
    Err(Failure::error(Exit::Refused, message))
}

/// A person says yes, or types the other screen's code; a program has to bring that code.
fn is_approved(answer: Option<&String>, code: CheckCode, of_person: bool) -> bool {
    let answer = answer.map_or("", |line| line.trim());
    let says_yes = ["y", "yes"].iter().any(|yes| answer.eq_ignore_ascii_case(yes));
    (says_yes && of_person) || answer.parse() == Ok(code)
}

/// On which terms, if others than the usual ones are asked for.
async fn terms(profile: &Profile, args: &Invite) -> anyhow::Result<Option<Terms>> {
    let Invite { role, clearance, new_member, .. } = args;
    if role.is_none() && clearance.is_none() && !new_member {
        return Ok(None);
    }
    let of = if *new_member { Whose::New } else { Whose::Own };
    let usual = profile.space(&args.space).await?.usual_terms(of).await?;
    let role = role.map_or(usual.role, Role::from);
    if role == Role::Auditor && clearance.is_some() {
        let message = "an auditor's device reads nothing: leave --clearance out";
        return Err(Failure::error(Exit::Usage, message));
    }
    Ok(Some(Terms { of, role, clearance: clearance.map_or(usual.clearance, Into::into) }))
}

pub(crate) async fn join(call: &Call<'_>, args: &Join) -> anyhow::Result<Exit> {
    let out = call.out;
    let (profile, joining) = begin_join(call, args).await?;
    let code = joining.check_code();
    out.json(&json!({ "event": "check-code", "check_code": code.to_string() }))?;
    out.note(&format!(
        "The check code is {code}. Waiting until the other device lets this one in. If it shows \
         another code, end this with Ctrl-C: somebody stands between the two."
    ));
    let space = tokio::select! {
        space = joining.approved() => space?,
        () = call.stop.asked() => {
            profile.close().await?;
            return Ok(Exit::Interrupted);
        }
    };
    out.json(&json!({
        "event": "joined",
        "space": space.name().to_string(),
        "id": space.id().to_string(),
        "device": space.device().to_string(),
    }))?;
    out.line(&format!("Joined {}.", space.name()))?;
    let reports = profile.sync().await?;
    let exit = tell_reports(out, &reports)?;
    if let Some(carried) = space.carry_over().await? {
        tell_carried(out, &space, &carried)?;
        // Who invited may be gone by now: it is given then when the two sync next.
        let _ = profile.sync().await;
    }
    let devices = space.devices().await?;
    let is_auditor = devices.iter().any(|one| one.me && one.role == Role::Auditor);
    profile.close().await?;
    if exit == Exit::Done {
        let next = if is_auditor { "receipts" } else { "list" };
        out.line(&format!("Next: larder {next} {}", space.name()))?;
    } else {
        out.note(
            "This device has joined, and what it holds is safe; `larder sync` takes the rest.",
        );
    }
    Ok(exit)
}

async fn begin_join(call: &Call<'_>, args: &Join) -> anyhow::Result<(Opened, Joining)> {
    let given = args.invitation.as_deref();
    if let Some(code) = &args.code {
        let address = given.map(str::parse).transpose();
        let address = address.map_err(|_| {
            let message = "with --code, name the other device's address as 192.0.2.7:4433";
            Failure::error(Exit::Usage, message)
        })?;
        let profile = call.open().await?;
        if address.is_none() {
            call.out.note("Looking for the device that invites in this network.");
        }
        let joining = profile.begin_join_by_code(code, address).await?;
        return Ok((profile, joining));
    }
    let invitation = invitation_text(call, given.unwrap_or_default())?;
    let profile = call.open().await?;
    let joining = profile.begin_join(invitation.trim()).await?;
    Ok((profile, joining))
}

fn invitation_text(call: &Call<'_>, argument: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    let place = Place::from(argument);
    let path = call.path(&place);
    if place.is_stdin() {
        call.stdin().take(INVITATION_BYTES_MAX).read_to_string(&mut text)?;
    } else if path.is_file() {
        let file = std::fs::File::open(path)?;
        file.take(INVITATION_BYTES_MAX)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {argument}"))?;
    } else {
        argument.clone_into(&mut text);
    }
    Ok(text)
}

pub(crate) async fn sync(call: &Call<'_>, args: &Sync) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let exit = if let Some(address) = args.with {
        let spaces = profile.sync_with(address).await?;
        out.json(&json!({
            "address": address.to_string(), "ok": true, "spaces": spaces_json(&spaces),
        }))?;
        out.line(&format!("{address}: {}", sentence(&spaces)))?;
        Exit::Done
    } else {
        let reports = profile.sync().await?;
        if reports.is_empty() {
            out.note("No peers yet: larder invite SPACE here, larder join INVITATION there.");
        }
        tell_reports(out, &reports)?
    };
    profile.close().await?;
    Ok(exit)
}

fn tell_reports(out: Output<'_>, reports: &[PeerReport]) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    for report in reports {
        let (peer, label) = (report.peer.to_string(), &report.label);
        let (line, text) = match &report.outcome {
            Ok(spaces) => (
                json!({ "peer": peer, "label": label, "ok": true, "spaces": spaces_json(spaces) }),
                sentence(spaces),
            ),
            Err(error) => {
                exit = code_of_kind(error.kind());
                let error = error.to_string();
                (json!({ "peer": peer, "label": label, "ok": false, "error": error }), error)
            }
        };
        out.json(&line)?;
        out.line(&printable(&format!("{label}: {text}")))?;
    }
    Ok(exit)
}

fn spaces_json(spaces: &[SpaceReport]) -> Value {
    let line = |report: &SpaceReport| {
        json!({
            "space": report.space.to_string(),
            "entries_in": report.entries_in,
            "entries_out": report.entries_out,
            "bytes_in": report.bytes_in,
            "bytes_out": report.bytes_out,
            "blob_chunks_in": report.blobs.chunks_in,
            "blob_chunks_out": report.blobs.chunks_out,
            "blob_bytes_in": report.blobs.bytes_in,
            "blob_bytes_out": report.blobs.bytes_out,
        })
    };
    spaces.iter().map(line).collect()
}

fn sentence(spaces: &[SpaceReport]) -> String {
    let one = |report: &SpaceReport| {
        format!(
            "{}: took {} ({}), gave {} ({})",
            report.space,
            counted(report.entries_in, "entry", "entries"),
            bytes(report.bytes_in + report.blobs.bytes_in),
            counted(report.entries_out, "entry", "entries"),
            bytes(report.bytes_out + report.blobs.bytes_out)
        )
    };
    if spaces.is_empty() {
        return "no space in common".to_owned();
    }
    spaces.iter().map(one).collect::<Vec<_>>().join("; ")
}

pub(crate) async fn serve(call: &Call<'_>, args: &Serve) -> anyhow::Result<Exit> {
    let out = call.out;
    metrics::keep();
    let profile = call.open().await?;
    let mut events = profile.events();
    let turns = Turns::new();
    let mut reopened = turns.reopened();
    let address = profile.listen(args.listen).await?;
    #[cfg(unix)]
    let commands = take_commands(call, &profile, args, turns);
    let served = loop {
        out.json(&json!({ "event": "listening", "address": address.to_string() }))?;
        out.line(&format!("Listening on {address}. Ctrl-C ends it."))?;
        // On an address that only this machine reaches there is nobody else to find.
        let discovers = !args.no_discovery && !address.ip().is_loopback();
        match until_closed(call, discovers, &profile, &mut events, &mut reopened).await {
            Ok(true) => {}
            Ok(false) => break Ok(Exit::Done),
            Err(error) => break Err(error),
        }
    };
    #[cfg(unix)]
    if let Some(commands) = commands {
        commands.end().await;
    }
    let closed = profile.close().await;
    let exit = served?;
    closed?;
    Ok(exit)
}

/// Speaks with peers until the profile was closed for a command and is open again: true; or until
/// it is to end.
async fn until_closed(
    call: &Call<'_>,
    mut discovers: bool,
    profile: &Profile,
    events: &mut Receiver<Event>,
    reopened: &mut watch::Receiver<Option<String>>,
) -> anyhow::Result<bool> {
    let out = call.out;
    let following = profile.clone();
    let (mut follow, mut follows) = (tokio::spawn(async move { following.follow().await }), true);
    let mut discover = pin!(profile.discover());
    let goes_on = loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => tell_event(out, &event)?,
                Err(RecvError::Lagged(missed)) => out.note(&format!("({missed} events not shown)")),
                Err(RecvError::Closed) => break false,
            },
            ended = &mut follow, if follows => {
                follows = false;
                match ended.context("the task that follows peers ended")? {
                    // It comes back in a moment.
                    Ok(()) | Err(Error::Closed) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            found = &mut discover, if discovers => {
                discovers = false;
                match found {
                    Ok(()) | Err(Error::Closed) => {}
                    Err(error) => {
                        out.note(&format!("Peers are found at known addresses only: {error}."));
                    }
                }
            }
            Ok(()) = reopened.changed() => match &*reopened.borrow_and_update() {
                None => break true,
                Some(why) => return Err(Failure::error(Exit::Failed, why.clone())),
            },
            () = call.stop.asked() => break false,
        }
    };
    follow.abort();
    Ok(goes_on)
}

/// Lets other processes run their commands here, where that is possible and wanted.
#[cfg(unix)]
fn take_commands(call: &Call<'_>, profile: &Profile, args: &Serve, turns: Turns) -> Option<Server> {
    let out = call.out;
    let dir = profile.dir().filter(|_| !args.no_commands)?;
    let tell = |error: &std::io::Error| {
        out.note(&format!("Other commands have to wait until this one ends: {error}."));
    };
    let served = Served { profile: profile.clone(), clearance: call.clearance, turns };
    Server::start(dir, &served).inspect_err(tell).ok()
}

fn tell_event(out: Output<'_>, event: &Event) -> anyhow::Result<()> {
    let (line, text) = match event {
        Event::PeerConnected { peer, label } => (
            json!({ "event": "peer-connected", "peer": peer.to_string(), "label": label }),
            format!("{} is here", name_of(peer, label)),
        ),
        Event::PeerLost { peer, label } => (
            json!({ "event": "peer-lost", "peer": peer.to_string(), "label": label }),
            format!("{} is gone", name_of(peer, label)),
        ),
        Event::Received { space, peer, entries } => (
            moved("received", space, peer, *entries),
            format!("{space}: took {}", counted(*entries, "entry", "entries")),
        ),
        Event::Sent { space, peer, entries } => (
            moved("sent", space, peer, *entries),
            format!("{space}: gave {}", counted(*entries, "entry", "entries")),
        ),
        Event::CaughtUp { space, peer } => (
            json!({ "event": "caught-up", "space": space.to_string(), "peer": peer.to_string() }),
            format!("{space}: both hold the same"),
        ),
        Event::Joined { space, device, label } => (
            json!({
                "event": "joined", "space": space.to_string(), "device": device.to_string(),
                "label": label,
            }),
            format!("{label} joined {space}"),
        ),
        Event::Forked { space, device } => (
            json!({ "event": "forked", "space": space.to_string(), "device": device.to_string() }),
            format!("{space}: the log of {device} has two histories and is taken no further"),
        ),
        Event::SyncFailed { space, peer, message } => (
            json!({
                "event": "sync-failed", "space": space.as_ref().map(ToString::to_string),
                "peer": peer.as_ref().map(ToString::to_string), "message": message,
            }),
            format!("a sync ended early: {message}"),
        ),
        Event::Retained { space, trashed, deleted } => (
            json!({
                "event": "retained", "space": space.to_string(), "trashed": trashed,
                "deleted": deleted,
            }),
            format!("{space}: over its time, {trashed} went into the trash and {deleted} for ever"),
        ),
        Event::Security => (
            json!({ "event": "security" }),
            "there is something new in the security log: `larder security` shows it".to_owned(),
        ),
        Event::Carried { space } => (
            json!({ "event": "carried-over", "space": space.to_string() }),
            format!("{space}: what only the old copy had is in this device's log"),
        ),
        Event::Pruned { space, sections, bytes: freed } => (
            json!({
                "event": "pruned-by-itself", "space": space.to_string(), "sections": sections,
                "bytes": freed,
            }),
            format!(
                "{space}: {} with {} dropped",
                counted(*sections, "body", "bodies"),
                bytes(*freed)
            ),
        ),
        Event::Rekeyed { space } => (
            json!({ "event": "rekeyed", "space": space.to_string() }),
            format!("{space} is under a new key"),
        ),
        Event::RekeyFailed { space, message } => (
            json!({ "event": "rekey-failed", "space": space.to_string(), "message": message }),
            format!("{space}: its key was not renewed, and it is as it was: {message}"),
        ),
        _ => return Ok(()),
    };
    out.json(&line)?;
    out.line(&printable(&text))
}

fn moved(event: &str, space: &SpaceName, peer: &TransportId, entries: u64) -> Value {
    json!({
        "event": event, "space": space.to_string(), "peer": peer.to_string(), "entries": entries,
    })
}

fn name_of(peer: &TransportId, label: &str) -> String {
    if label.is_empty() { short(&peer.to_string()) } else { label.to_owned() }
}
