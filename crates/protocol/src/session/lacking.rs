//! What is lacking though its entries are here: asked for piece by piece, the next when the last is
//! durable, until the peer has no more of it.
//!
//! Invariants: what the peer has not, and what is of no use when it comes, holds up nothing behind
//! it; a peer that does not answer is not waited for without end.

use larder_types::{CloseCode, Timestamp};

use crate::frame::{Frame, FrameError, Supply, Want};
use crate::session::{Event, Lack, Reply, Request, Session, Stage, What};

/// How far asking is.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    stage: Asking,
    /// Where the page begins that is asked for now, and the next, if there is one.
    from: Lack,
    next: Option<Lack>,
    /// What the peer was asked for, until it answers; then what it had no room for.
    asked: Want,
    /// Something came of a page since the first.
    has_progress: bool,
    patience: Patience,
    /// Something was found to be lacking, and is to be asked for once the peer has sent its
    /// entries: what they say decides what there is to ask for.
    is_due: bool,
    opening: Opening,
    /// Storage looks for what the peer wants.
    answers: bool,
    /// What storage takes in of it, in bytes.
    taking: usize,
}

/// With a peer that was asked for something.
#[derive(Debug, Default)]
struct Patience {
    /// When it is looked whether anything moved.
    by: Option<Timestamp>,
    has_moved: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Asking {
    #[default]
    Idle,
    /// Storage looks for what is lacking.
    Reading,
    /// The peer was asked.
    Asked,
    /// Storage takes in what the peer supplied.
    Taking,
}

/// What becomes of what was lacking when the session began.
#[derive(Debug, Default, PartialEq, Eq)]
enum Opening {
    #[default]
    Settled,
    Open,
    /// And the frame that says "caught up" waits for it, since the peer may go by that.
    Holds,
}

impl Lacking {
    /// Whether the peer may still supply something, or be supplied with something.
    pub(crate) fn is_open(&self) -> bool {
        self.is_due || self.answers || self.stage != Asking::Idle
    }

    /// Whether a batch must not be called handled yet, so that the peer stays to supply what it
    /// lacks.
    pub(crate) fn holds_back(&self) -> bool {
        self.is_due || self.stage != Asking::Idle
    }

    /// Whether the peer is not to be told yet that it was sent everything.
    pub(crate) fn hold_caught_up(&mut self) -> bool {
        if self.opening == Opening::Open {
            self.opening = Opening::Holds;
        }
        self.opening == Opening::Holds
    }

    pub(crate) fn note(&mut self, lacks: bool) {
        self.is_due = lacks;
    }

    /// Something large came or went, so that an answer may well have had to wait.
    pub(crate) fn note_movement(&mut self) {
        self.patience.has_moved = true;
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes_held(&self) -> usize {
        self.taking + self.asked.bytes_held()
    }

    /// When to call [`Session::expire_asking`].
    pub(crate) fn by(&self) -> Option<Timestamp> {
        self.patience.by
    }
}

impl Session {
    /// Looks for what is lacking from the start.
    pub(crate) fn look_for_lacking(&mut self) {
        self.lacking.opening = Opening::Open;
        self.read_wants(Lack::default());
    }

    fn read_wants(&mut self, from: Lack) {
        self.lacking.stage = Asking::Reading;
        self.lacking.from = from;
        self.requests.push_back(Request::ReadWants { from });
    }

    /// Looks for what is lacking now, if the peer has sent its entries.
    pub(crate) fn ask_on(&mut self) {
        let is_idle = self.lacking.is_due && self.lacking.stage == Asking::Idle;
        if is_idle && self.inbox.peer_caught_up && self.inbox.in_flight() == 0 && self.is_live() {
            self.lacking.is_due = false;
            self.read_wants(Lack::default());
        }
    }

    fn take_wanted(&mut self, now: Timestamp, want: Option<Box<Want>>, next: Option<Lack>) {
        self.lacking.next = next.filter(|next| *next > self.lacking.from);
        match want.filter(|want| !want.is_empty()) {
            Some(want) if self.stage == Stage::Open => self.ask(now, *want),
            _ => self.turn_page(),
        }
    }

    fn ask(&mut self, now: Timestamp, want: Want) {
        self.lacking.stage = Asking::Asked;
        self.lacking.patience = Patience { by: Some(self.look_at(now)), has_moved: false };
        let frame = Frame::Want(want.clone()).encode();
        self.lacking.asked = want;
        self.send(What::Want, frame);
    }

    fn look_at(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add(self.config.supply_ms_max))
    }

    /// The session ends if the peer was asked for something and nothing has moved for long.
    pub(crate) fn expire_asking(&mut self, now: Timestamp) {
        if self.stage != Stage::Open || self.lacking.patience.by.is_none_or(|by| by > now) {
            return;
        }
        // Where this device does not read, the peer cannot have been heard.
        if std::mem::take(&mut self.lacking.patience.has_moved) || !self.wants_frame() {
            self.lacking.patience.by = Some(self.look_at(now));
            return;
        }
        let message = "the other device did not say whether it has what it was asked for";
        self.end(CloseCode::TimedOut, message, false);
    }

    /// The peer has no more of what was asked for. What came of it may have made more known that is
    /// lacking, so a walk that brought something is not the last.
    fn turn_page(&mut self) {
        let again = || Lack::default();
        let next = self.lacking.next.take();
        let next = next.or_else(|| std::mem::take(&mut self.lacking.has_progress).then(again));
        match next {
            Some(next) if self.stage == Stage::Open => self.read_wants(next),
            _ => self.settle_lacking(),
        }
    }

    fn settle_lacking(&mut self) {
        self.lacking.stage = Asking::Idle;
        let opening = std::mem::take(&mut self.lacking.opening);
        if opening == Opening::Holds && self.stage == Stage::Open {
            self.send(What::Other, Frame::CaughtUp.encode());
        }
    }

    /// The peer wants something.
    pub(crate) fn take_want(&mut self, want: Want) -> Result<(), FrameError> {
        // One that was read was sent: who asks without reading would have answers pile up here.
        if self.lacking.answers || self.is_queued(What::Supply) {
            let message = "wanted more before the last was supplied";
            return Err(FrameError::new(CloseCode::Unexpected, message));
        }
        self.lacking.answers = true;
        let epochs = self.epochs.clone();
        self.requests.push_back(Request::ReadSupply { want: Box::new(want), epochs });
        Ok(())
    }

    fn send_supply(&mut self, supply: Box<Supply>) {
        self.lacking.answers = false;
        if self.stage == Stage::Open {
            let mut frame = Frame::Supply(supply).encode();
            // Rather nothing than what the peer may not take.
            if frame.len() > self.config.frame_bytes_max {
                frame = Frame::Supply(Box::default()).encode();
            }
            self.send(What::Supply, frame);
        }
    }

    /// The peer supplied something.
    pub(crate) fn take_supply(&mut self, supply: Box<Supply>) -> Result<(), FrameError> {
        if self.lacking.stage != Asking::Asked || self.is_queued(What::Want) {
            let message = "supplied what was not asked for";
            return Err(FrameError::new(CloseCode::Unexpected, message));
        }
        self.check_unpacked(supply.bytes_held())?;
        self.lacking.stage = Asking::Taking;
        self.lacking.taking = supply.bytes_held();
        self.lacking.patience.by = None;
        self.lacking.asked.answer(&supply);
        self.requests.push_back(Request::TakeSupply { supply });
        Ok(())
    }

    /// What was supplied is durable. What there was no room for is asked for again, and of what is
    /// asked for by name more, as long as something comes of it.
    fn supplied(&mut self, now: Timestamp, progress: bool) {
        self.lacking.taking = 0;
        self.lacking.has_progress |= progress;
        let mut rest = std::mem::take(&mut self.lacking.asked);
        let by_name = rest.snapshot.take().is_some() || !std::mem::take(&mut rest.blobs).is_empty();
        if self.stage != Stage::Open {
            self.settle_lacking();
        } else if !rest.is_empty() {
            self.ask(now, rest);
        } else if progress && by_name {
            self.read_wants(self.lacking.from);
        } else {
            self.turn_page();
        }
    }
}

/// Storage's answers, for [`Session::handle_reply`].
impl Session {
    pub(crate) fn take_lacking(&mut self, now: Timestamp, reply: Reply) {
        match reply {
            Reply::Wanted { want, next } => self.take_wanted(now, want, next),
            Reply::Supply { supply } => self.send_supply(supply),
            Reply::Supplied { progress, acks } => {
                if !acks.is_empty() {
                    self.events.push_back(Event::Acks(acks.clone()));
                    self.offer_acks(acks);
                }
                self.supplied(now, progress);
            }
            _ => {}
        }
    }
}
