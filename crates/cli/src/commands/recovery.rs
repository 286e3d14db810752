//! Recovery kits: words that are shown once, and typed when all else is lost. Never an argument.

use std::fmt::Write;

use larder::{RecoveryKit, SpaceName};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::commands::device::named;
use crate::exit::{Exit, Failure};
use crate::home::Call;
use crate::output::{Output, printable};

/// How many of the words are asked back.
const ASKED_BACK: usize = 3;
const TRIES: usize = 3;

/// The kit that a new space is to have, if it is to have one.
pub(super) async fn kit_for_new_space(
    call: &Call<'_>,
    new: bool,
    of_words: bool,
) -> anyhow::Result<Option<RecoveryKit>> {
    if of_words {
        return Ok(Some(typed(call).await?));
    }
    if !new {
        return Ok(None);
    }
    let kit = RecoveryKit::generate();
    let text = kit.words()?;
    let words: Vec<&str> = text.split(' ').collect();
    show(call.out, &words)?;
    for _ in 0..TRIES {
        let numbers = any_of(words.len())?;
        let asked = numbers.map(|number| number.to_string()).join(", ");
        call.out.json(&json!({ "event": "type-back", "numbers": numbers }))?;
        call.out
            .note(&format!("Type the words {asked}, so that it is sure they are written down:"));
        let Some(line) = call.line().await? else { break };
        let right = numbers.iter().filter_map(|number| words.get(number - 1).copied());
        let mut typed = line.split_whitespace();
        let mut fits =
            |word: &str| typed.next().is_some_and(|typed| typed.eq_ignore_ascii_case(word));
        if right.into_iter().all(&mut fits) && typed.next().is_none() {
            return Ok(Some(kit));
        }
        call.out.note("These are not the words.");
    }
    let message = "no space was made: the words were not typed back";
    Err(Failure::error(Exit::Refused, message))
}

#[derive(Serialize)]
struct Shown<'a> {
    event: &'a str,
    words: &'a [&'a str],
}

fn show(out: Output<'_>, words: &[&str]) -> anyhow::Result<()> {
    // As JSON values they would be copied, and not wiped.
    out.json(&Shown { event: "recovery-kit", words })?;
    for (row, four) in words.chunks(4).enumerate() {
        let mut line = Zeroizing::new(String::with_capacity(128));
        for (at, word) in four.iter().enumerate() {
            write!(line, "{:2} {word:10} ", row * 4 + at + 1)?;
        }
        out.line(line.trim_end())?;
    }
    out.note(
        "This is the recovery kit. It is shown once and kept nowhere: write it down on paper.\n\
         With it and any device of the space, the space can be had back when its owner's devices \
         are lost.",
    );
    Ok(())
}

/// Different numbers from 1 to `count`, in order.
fn any_of(count: usize) -> anyhow::Result<[usize; ASKED_BACK]> {
    let mut all: Vec<usize> = (1..=count).collect();
    let mut picked = [0; ASKED_BACK];
    for place in &mut picked {
        let bytes = getrandom::u64()?.to_be_bytes();
        let at = bytes.iter().fold(0, |at, byte| (at << 8 | usize::from(*byte)) % all.len());
        *place = all.swap_remove(at);
    }
    picked.sort_unstable();
    Ok(picked)
}

/// The kit whose words somebody types, on one line or several.
pub(super) async fn typed(call: &Call<'_>) -> anyhow::Result<RecoveryKit> {
    call.out.note("Type the 24 words of the recovery kit:");
    let mut text = Zeroizing::new(String::with_capacity(16 << 10));
    while text.split_whitespace().count() < RecoveryKit::WORDS && text.len() < 8 << 10 {
        let Some(line) = call.line().await? else { break };
        text.push_str(&line);
        text.push(' ');
    }
    Ok(RecoveryKit::from_words(&text)?)
}

pub(super) async fn recover(
    call: &Call<'_>,
    name: &SpaceName,
    lost: &[String],
) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(name).await?;
    let mut devices = Vec::new();
    for label in lost {
        devices.push(named(&space, label).await?.device);
    }
    let kit = typed(call).await?;
    let receipt = space.recover(&kit, devices).await?;
    out.json(&json!({ "event": "recovered", "space": name.to_string(), "seq": receipt.seq }))?;
    out.line(&format!("This device is an owner of {name}: receipt {}.", receipt.seq))?;
    for label in lost {
        out.line(&format!("{} is shut out.", printable(label)))?;
    }
    out.note("The others hear of it when they sync next: larder sync");
    profile.close().await?;
    Ok(Exit::Done)
}
