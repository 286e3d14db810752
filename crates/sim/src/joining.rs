//! Devices come into the space by an invitation, a request and a welcome, as people pair them.

use larder_engine::{Admission as Admitted, Error, Joining, Terms};
use larder_log::act::Role;
use larder_protocol::Invitation;
use larder_protocol::pairing::{Agreed, PairReply};
use larder_types::Entropy;

use crate::device::{Job, Running, Slot};
use crate::world::{Event, World};

/// A device is to be admitted.
pub(crate) struct Admission {
    pub(crate) admitted: Box<Admitted>,
    pub(crate) asked: Asked,
}

/// A device has asked, and waits.
pub(crate) struct Asked {
    joiner: Slot,
    life: u64,
    joining: Joining,
    agreed: Agreed,
}

/// What a device that asked hears.
pub(crate) struct Answered {
    asked: Asked,
    reply: PairReply,
}

impl World {
    /// The space is founded, and its first devices join it, before anything goes wrong.
    pub(crate) fn found(&mut self) {
        let founder = self.add_device();
        let device = &mut self.devices[founder];
        let running = device.running.as_mut().expect("it is new");
        let made = running.profile.create_space(&crate::device::space_name()).expect("a space");
        device.id = Some(made.0.device());
        running.space = Some(made);
        if self.plan.has_villain {
            self.let_villain_in(founder);
        }
        for _ in 1..self.plan.devices + usize::from(self.plan.has_auditor) {
            let slot = self.add_device();
            self.join(slot);
            while self.devices[slot].id.is_none() {
                assert!(self.step(), "a device cannot join");
            }
            self.connect(slot, founder, true);
            while !self.links.is_empty() {
                assert!(self.step(), "a session does not end");
            }
        }
    }

    /// A device asks one that is in the space to be let in, and asks again until it is.
    pub(crate) fn join(&mut self, slot: Slot) {
        let device = &self.devices[slot];
        if device.id.is_some() || device.standing == crate::device::Standing::Gone {
            return;
        }
        self.later(3_000_000, Event::Join { slot });
        let members: Vec<Slot> =
            self.up().into_iter().filter(|member| self.may_invite(*member)).collect();
        let Some(inviter) = self.pick(&members) else { return };
        if self.devices[slot].running.is_some() && !self.is_dead(slot, inviter) {
            self.ask_to_join(slot, inviter);
        }
    }

    /// A device that runs asks this one to be let in.
    pub(crate) fn ask_to_join(&mut self, slot: Slot, inviter: Slot) {
        self.devices[slot].inviter = Some(inviter);
        let space = self.devices[inviter].space().expect("it is up").clone();
        let inviting = &self.devices[inviter].running.as_ref().expect("it is up").profile;
        let usual = Terms::usual(&space).expect("it is enrolled");
        // Nobody but the founder gives more than it has.
        let clearance = usual.clearance.min(self.devices[slot].likes.clearance);
        let audits = self.devices[slot].likes.audits;
        let role = if audits { Role::Auditor } else { usual.role };
        let terms = Terms { clearance, role, ..usual };
        let invitation = inviting.invite_on(&space, Vec::new(), terms).expect("it may write");
        // It goes from one to the other as a text.
        let invitation: Invitation = invitation.to_string().parse().expect("what was shown");
        let mut exporter = [0; 32];
        self.dice.fill(&mut exporter);
        let device = &self.devices[slot];
        let begun = device.running.as_ref().expect("it runs").profile.begin_join(invitation);
        if self.notice_power(slot) {
            return;
        }
        let mut joining = match begun {
            Ok(joining) => joining,
            // By its own clock.
            Err(Error::Invitation(_)) => return,
            Err(error) => return self.storage_failed(slot, &error.to_string()),
        };
        let profile = |slot: Slot| &self.devices[slot].running.as_ref().expect("it is up").profile;
        let asked = profile(slot).ask_within(&mut joining, profile(inviter), &exporter);
        if self.notice_power(slot) {
            return;
        }
        let (agreed, admitted) = match asked {
            Ok(asked) => asked,
            Err(Error::Invitation(_)) => return,
            Err(error) => return self.storage_failed(slot, &error.to_string()),
        };
        let asked = Asked { joiner: slot, life: self.devices[slot].life, joining, agreed };
        self.note(|| format!("{slot} asks {inviter} to be let in"));
        let admission = Admission { admitted: Box::new(admitted), asked };
        self.enqueue(inviter, Job::Admit(Box::new(admission)));
    }

    fn may_invite(&self, slot: Slot) -> bool {
        self.is_enrolled(slot) && !self.devices[slot].likes.audits
    }

    /// Whether the device has learnt that it is one of the space's.
    pub(crate) fn is_enrolled(&self, slot: Slot) -> bool {
        let devices = self.devices[slot].space().and_then(|space| space.devices().ok());
        devices.is_some_and(|devices| devices.iter().any(|device| device.me))
    }

    /// The enrolment is durable: the device that asked is told.
    pub(crate) fn admitted(&mut self, inviter: Slot, admission: Admission) {
        let Admission { admitted, asked } = admission;
        self.report.count("app: devices admitted");
        let running = self.devices[inviter].running.as_ref().expect("it has just written");
        let (space, _) = running.space.as_ref().expect("it has just written");
        let reply = running.profile.welcome(&admitted, space).expect("keys that fit");
        self.answer_later(asked, reply);
    }

    fn answer_later(&mut self, asked: Asked, reply: PairReply) {
        let after_us = self.dice.below(self.plan.latency_us);
        self.later(after_us, Event::Welcome { answered: Box::new(Answered { asked, reply }) });
    }

    /// The device that asked hears the answer, unless it was restarted since.
    pub(crate) fn welcome(&mut self, answered: Answered) {
        let Answered { asked: Asked { joiner: slot, life, joining, agreed }, reply } = answered;
        let device = &mut self.devices[slot];
        if device.life != life || device.id.is_some() {
            return;
        }
        let Some(Running { profile, space, .. }) = &mut device.running else { return };
        match profile.finish_join(joining, &agreed, &reply) {
            Ok(joined) => {
                device.id = Some(joined.0.device());
                *space = Some(joined);
                self.report.count("app: devices joined");
                self.note(|| format!("{slot} has joined"));
                if !self.notice_power(slot) && self.is_faulty {
                    self.begin_life(slot);
                }
            }
            Err(error) => {
                if !self.notice_power(slot) {
                    self.storage_failed(slot, &error.to_string());
                }
            }
        }
    }
}
