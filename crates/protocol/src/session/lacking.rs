//! What is lacking though its entries are here: asked for piece by piece, the next when the last is
//! durable, until the peer has no more of it.

use larder_types::CloseCode;

use crate::frame::{Frame, FrameError, Supply, Want};
use crate::session::{Event, Outgoing, Position, Reply, Request, Session, Stage};

/// How far asking is.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    stage: Asking,
    /// Where the page begins that is asked for now, and the next, if there is one. What nobody has
    /// stays behind, and holds up nothing.
    after: Position,
    next: Option<Position>,
    /// Something was found to be lacking, and is to be asked for once the peer has sent its
    /// entries: what they say decides what there is to ask for.
    is_due: bool,
    opening: Opening,
    /// Storage looks for what the peer wants.
    answers: bool,
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
}

impl Session {
    /// Looks for what is lacking from the start.
    pub(crate) fn look_for_lacking(&mut self) {
        self.lacking.opening = Opening::Open;
        self.read_wants(Position::default());
    }

    fn read_wants(&mut self, after: Position) {
        self.lacking.stage = Asking::Reading;
        self.lacking.after = after;
        self.requests.push_back(Request::ReadWants { after });
    }

    /// Looks for what is lacking now, if the peer has sent its entries.
    pub(crate) fn ask_on(&mut self) {
        let is_idle = self.lacking.is_due && self.lacking.stage == Asking::Idle;
        if is_idle && self.inbox.peer_caught_up && self.inbox.in_flight() == 0 && self.is_live() {
            self.lacking.is_due = false;
            self.read_wants(Position::default());
        }
    }

    fn take_wanted(&mut self, want: Option<Want>, next: Option<Position>) {
        self.lacking.next = next.filter(|next| *next > self.lacking.after);
        match want.filter(|want| !want.is_empty()) {
            Some(want) if self.stage == Stage::Open => {
                self.lacking.stage = Asking::Asked;
                let frame = Frame::Want(want).encode();
                self.transmits.push_back(Outgoing { frame, batch: None });
            }
            _ => self.turn_page(),
        }
    }

    /// The peer has no more of what was asked for.
    fn turn_page(&mut self) {
        match self.lacking.next.take() {
            Some(next) if self.stage == Stage::Open => self.read_wants(next),
            _ => self.settle_lacking(),
        }
    }

    fn settle_lacking(&mut self) {
        self.lacking.stage = Asking::Idle;
        let opening = std::mem::take(&mut self.lacking.opening);
        if opening == Opening::Holds && self.stage == Stage::Open {
            let frame = Frame::CaughtUp.encode();
            self.transmits.push_back(Outgoing { frame, batch: None });
        }
    }

    /// The peer wants something.
    pub(crate) fn take_want(&mut self, want: Want) -> Result<(), FrameError> {
        if self.lacking.answers {
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
            self.transmits.push_back(Outgoing { frame, batch: None });
        }
    }

    /// The peer supplied something.
    pub(crate) fn take_supply(&mut self, supply: Box<Supply>) -> Result<(), FrameError> {
        if self.lacking.stage != Asking::Asked {
            let message = "supplied what was not asked for";
            return Err(FrameError::new(CloseCode::Unexpected, message));
        }
        self.lacking.stage = Asking::Taking;
        self.requests.push_back(Request::TakeSupply { supply });
        Ok(())
    }

    /// What was supplied is durable. As long as something comes of it, more is asked for.
    fn supplied(&mut self, progress: bool) {
        if progress && self.stage == Stage::Open {
            self.read_wants(self.lacking.after);
        } else {
            self.turn_page();
        }
    }
}

/// Storage's answers, for [`Session::handle_reply`].
impl Session {
    pub(crate) fn take_lacking(&mut self, reply: Reply) {
        match reply {
            Reply::Wanted { want, next } => self.take_wanted(want, next),
            Reply::Supply { supply } => self.send_supply(supply),
            Reply::Supplied { progress, acks } => {
                if !acks.is_empty() {
                    self.events.push_back(Event::Acks(acks.clone()));
                    self.offer_acks(acks);
                }
                self.supplied(progress);
            }
            _ => {}
        }
    }
}
