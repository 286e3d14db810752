//! Between a session and storage: which requests are read, which are written, and what storage's
//! errors mean to the session.

use larder_log::Batch;
use larder_log::ack::Ack;
use larder_protocol::{Fork, Reply, Request, Supply, Want};
use larder_types::{CloseCode, EpochId, TransportId};

use crate::black::not_shared;
use crate::forks::Checked;
use crate::{Applied, Error, Result, Space, SpaceWriter, Supplied, Wanted};

/// What the reading side makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The reply to the session.
    Reply(Reply),
    /// The space's writer has to do this; its reply is the reply to the session.
    Write(Task),
}

/// Work for the space's writer on behalf of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Verify and store a batch, and make it readable.
    Apply(Box<Batch>),
    /// Verify and store a batch. Others follow at once.
    Store(Box<Batch>),
    /// Verify and store acknowledgements.
    StoreAcks(Vec<Ack>),
    /// Verify and store what was lacking.
    TakeSupply(Box<Supply>),
    /// Say what is here of what a peer lacks, and note that it asks for leaves which are not
    /// written down yet.
    Supply {
        /// Who asks.
        peer: TransportId,
        /// For what.
        want: Box<Want>,
        /// Of which epochs it holds the secrets.
        epochs: Vec<EpochId>,
    },
    /// Stop logs that have two histories, before the session hears of them.
    StopLogs(Vec<Fork>),
}

/// What the writer made of a [`Task`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The reply to the session.
    pub reply: Reply,
    /// Entries that are new here: other sessions have them to send now.
    pub entries: u64,
}

impl Space {
    pub(crate) fn answer_to(&self, peer: &TransportId, request: Request) -> Answer {
        match self.read_for(peer, request) {
            Ok(answer) => answer,
            Err(error) => Answer::Reply(reply_of(error)),
        }
    }

    fn read_for(&self, peer: &TransportId, request: Request) -> Result<Answer> {
        let reply = match request {
            Request::Apply { batch, .. } if !self.may_extend(peer, &batch.device)? => {
                let message = "this log has two histories, and so does the device that sends it";
                return Err(Error::refused(CloseCode::Forked, message));
            }
            Request::Apply { batch, more: false } => return Ok(Answer::Write(Task::Apply(batch))),
            Request::Apply { batch, more: true } => return Ok(Answer::Write(Task::Store(batch))),
            Request::TakeSupply { supply } => {
                self.note_void(peer, &supply.void)?;
                self.note_uncomputed(peer, supply.uncomputed)?;
                return Ok(Answer::Write(Task::TakeSupply(supply)));
            }
            Request::ReadWants { from } => {
                let Wanted { want, next } = self.wanted_of(peer, from)?;
                Reply::Wanted { want: want.map(Box::new), next }
            }
            Request::ReadSupply { want, epochs } => {
                if self.could_write_down(peer, &want)? {
                    return Ok(Answer::Write(Task::Supply { peer: *peer, want, epochs }));
                }
                Reply::Supply { supply: Box::new(self.supply(peer, &want, &epochs)?) }
            }
            Request::StoreAcks { acks } => return Ok(Answer::Write(Task::StoreAcks(acks))),
            Request::ReadFrontiers => self.read_frontiers(peer)?,
            Request::CheckFrontiers { logs, forks } => {
                let Checked { forks, is_news } = self.check_frontiers(peer, &logs, forks)?;
                if is_news {
                    return Ok(Answer::Write(Task::StopLogs(forks)));
                }
                Reply::Checked { forks }
            }
            Request::ReadBatch { after, have, epochs, bytes_target } => {
                self.read_batch(peer, after, have.into_iter(), &epochs, bytes_target)?
            }
        };
        Ok(Answer::Reply(reply))
    }
}

impl SpaceWriter {
    /// Does what a session needs written. Blocks until it is durable.
    pub fn answer(&mut self, task: Task) -> Answered {
        let mut entries = 0;
        if let Some(reply) = self.decline(&task) {
            return Answered { reply, entries };
        }
        let reply = match task {
            Task::Apply(batch) => applied(self.apply(*batch), &mut entries),
            Task::Store(batch) => applied(self.store(*batch), &mut entries),
            Task::TakeSupply(supply) => self
                .take_supply(&supply)
                .map(|Supplied { progress, acks }| Reply::Supplied { progress, acks }),
            Task::Supply { peer, want, epochs } => {
                let news = &mut self.state_mut().news;
                news.is_asked = true;
                let wanted = want.snapshot.as_ref().map(|wanted| wanted.id);
                let uncomputed = wanted.filter(|id| news.differing.contains(id));
                let supply = self.space().supply(&peer, &want, &epochs);
                supply.map(|supply| Reply::Supply {
                    supply: Box::new(Supply { uncomputed, ..supply }),
                })
            }
            Task::StoreAcks(acks) => self.store_acks(&acks).map(|new| Reply::AcksStored { new }),
            Task::StopLogs(forks) => self.stop_logs(&forks).map(|()| Reply::Checked { forks }),
        };
        Answered { reply: reply.unwrap_or_else(reply_of), entries }
    }
}

impl SpaceWriter {
    /// What a copy that must not sign says instead of doing it: it takes nothing in, since it could
    /// not say that it has. Its storage has not failed, and the session ends in order.
    fn decline(&self, task: &Task) -> Option<Reply> {
        if self.shared.stays_here() {
            return Some(not_shared());
        }
        let error = self.shared.check_may_sign().err()?;
        Some(match task {
            Task::Apply(_) | Task::Store(_) => {
                let (code, message) = (CloseCode::Forked, error.to_string());
                Reply::Refused { code, message, fatal: false }
            }
            Task::StoreAcks(_) => Reply::AcksStored { new: Vec::new() },
            Task::TakeSupply(_) => Reply::Supplied { progress: false, acks: Vec::new() },
            Task::StopLogs(_) | Task::Supply { .. } => return None,
        })
    }
}

fn applied(result: Result<Applied>, entries: &mut u64) -> Result<Reply> {
    let Applied { device, size, acks, lacks, entries: new, fork } = result?;
    *entries = new;
    if let Some(fork) = fork {
        return Ok(Reply::Forked(fork));
    }
    Ok(Reply::Applied { device, size, acks, lacks })
}

fn reply_of(error: Error) -> Reply {
    match error {
        Error::Refused { code, message } => Reply::Refused { code, message, fatal: is_fatal(code) },
        error => Reply::Failed { message: error.to_string() },
    }
}

/// Whether no honest peer would have sent it. What is only not acceptable yet stops one log, for
/// this session.
fn is_fatal(code: CloseCode) -> bool {
    !matches!(code, CloseCode::Gap | CloseCode::Forked | CloseCode::NotShared | CloseCode::Busy)
}
