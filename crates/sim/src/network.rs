//! Connections between devices, and the sessions on them.
//!
//! A connection is a stream each way, as QUIC gives it: what arrives does so in order and whole,
//! late, or not at all, because the connection is cut. A lying one does all that QUIC does not.

use std::collections::BTreeSet;

use larder_engine::Answer;
use larder_protocol::{
    Config, Event as SessionEvent, Greeting, Offered, Opens, Reply, Request, Session, Side, Tag,
    agree,
};
use larder_types::limits::{IDLE_MS_MAX, VOID_RUNS_KEPT_MAX};
use larder_types::{CloseCode, DeviceId, Timestamp, TransportId};

use crate::device::{Job, Slot};
use crate::inbox::{Got, Inbox, Packet};
use crate::world::{Event, World};

/// One side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct End {
    pub(crate) link: u64,
    /// 0 connected, 1 accepted.
    pub(crate) side: usize,
}

impl End {
    const fn other(self) -> Self {
        Self { link: self.link, side: 1 - self.side }
    }
}

/// A connection with one session on it.
pub(crate) struct Link {
    ends: [Option<Conversation>; 2],
    /// Frames under way in each direction before the sender has to wait.
    window: usize,
    /// Ends once both have everything.
    is_once: bool,
    pub(crate) lies: bool,
    /// If the villain is the other side.
    siege: Option<Siege>,
    /// Since when one direction has been dead.
    dead_since_us: Option<u64>,
    is_cut: bool,
}

/// The villain's side of a connection.
pub(crate) struct Siege {
    /// Its key.
    pub(crate) transport: TransportId,
    pub(crate) id: DeviceId,
    /// What it does.
    pub(crate) name: &'static str,
    /// Why the device ended the session, or took a log no further.
    pub(crate) refused: Option<CloseCode>,
    /// What it says once the device has said what it holds.
    pub(crate) then: Vec<Vec<u8>>,
    /// If it reads no more from then on: what it says whenever the device has an answer to that.
    pub(crate) deaf: Option<Vec<u8>>,
}

/// What one side has of a connection.
pub(crate) struct Conversation {
    pub(crate) device: Slot,
    /// The device at the other side; none if that is the villain.
    pub(crate) peer: Option<Slot>,
    /// Logs that it took no further.
    pub(crate) refused: BTreeSet<DeviceId>,
    session: Session,
    pub(crate) begun_us: u64,
    /// Messages that were passed on.
    pub(crate) heard: u64,
    inbox: Inbox,
    /// The last of what is on its way to this side arrives then.
    last_us: u64,
    timer_us: Option<u64>,
    /// Requests that storage has not answered.
    asked: usize,
    /// It has said what it holds.
    has_begun: bool,
}

impl Conversation {
    fn has_read_all(&self) -> bool {
        self.inbox.under_way() == 0 && self.asked == 0
    }
}

/// Opening and ending.
impl World {
    /// `from` reaches for `to`. Whether there is a conversation.
    pub(crate) fn connect(&mut self, from: Slot, to: Slot, is_once: bool) -> Option<u64> {
        if self.is_dead(from, to) || self.is_dead(to, from) {
            self.report.count("network: not reached");
            return None;
        }
        let mut exporter = [0; 32];
        larder_types::Entropy::fill(&mut self.dice, &mut exporter);
        let Some(opens) = self.greet(from, to, &exporter) else {
            self.report.count("network: nothing shared");
            return None;
        };
        if opens == Opens::Brief {
            self.report.count("network: the same on both sides");
        }
        let lies = self.is_faulty && self.dice.chance(self.plan.lying_percent);
        let number = self.links_made;
        self.links_made += 1;
        let ends = [(from, to, opens), (to, from, Opens::Second)]
            .map(|(me, peer, opens)| Some(self.conversation(me, peer, opens)));
        let window = 1 + usize::try_from(self.dice.below(4)).unwrap_or(0);
        let link =
            Link { ends, window, is_once, lies, siege: None, dead_since_us: None, is_cut: false };
        self.links.insert(number, link);
        if lies {
            // A frame that was dropped may leave both sides waiting for ever.
            let after_us = self.dice.below(20_000_000);
            self.later(after_us, Event::Cut { link: number });
        }
        self.report.count(if lies { "network: lying connections" } else { "network: connections" });
        self.note(|| {
            format!("link {number}: {from} and {to}{}", if lies { ", lying" } else { "" })
        });
        for side in [0, 1] {
            self.pump(End { link: number, side });
        }
        self.open_parcels(number, [from, to], is_once, lies);
        Some(number)
    }

    /// What both sides say first: whether they have the space in common, and then what the one that
    /// connects opens with.
    fn greet(&mut self, from: Slot, to: Slot, exporter: &[u8; 32]) -> Option<Opens> {
        let spaces = |world: &Self, me: Slot, peer: Slot, side: Side| {
            let space = world.devices[me].space()?;
            let knows = space.peer_device(&world.devices[peer].transport).is_some();
            // A device that was just invited knows nobody yet, and it is the one that connects.
            let offers = side == Side::Connector || knows;
            let source = space.source().ok()?;
            let (space, discovery) = (space.id(), source.discovery().ok()?);
            let held = source.held_digest(&world.devices[peer].transport).ok()?;
            let offered = Offered { space, discovery, held };
            Some(if offers { vec![offered] } else { Vec::new() })
        };
        let ours = spaces(self, from, to, Side::Connector)?;
        let theirs = spaces(self, to, from, Side::Acceptor)?;
        let mut said = |side, spaces: &[_]| {
            let greeting = Greeting::new(&mut self.dice, exporter, side, spaces);
            Greeting::decode(&greeting.expect("one space").encode()).expect("what was encoded")
        };
        let (first, second) = (said(Side::Connector, &ours), said(Side::Acceptor, &theirs));
        let agreed = agree(&second, exporter, Side::Connector, &ours).expect("one version");
        let taken = agree(&first, exporter, Side::Acceptor, &theirs).expect("one version");
        let tags = |tags: &[(larder_types::SpaceId, Tag)]| -> Vec<Tag> {
            tags.iter().map(|(_, tag)| *tag).collect()
        };
        assert_eq!(tags(&agreed.spaces), tags(&taken.spaces), "both name the same spaces");
        let opens = if agreed.same.is_empty() { Opens::Whole } else { Opens::Brief };
        (!agreed.spaces.is_empty()).then_some(opens)
    }

    /// The villain connects to `to`, says this and what is left to say, and goes.
    pub(crate) fn besiege(&mut self, to: Slot, siege: Siege, first: Vec<Vec<u8>>) {
        let number = self.links_made;
        self.links_made += 1;
        let ends = [Some(self.conversation_with(to, Some(siege.id), Opens::Second)), None];
        let is_deaf = siege.deaf.is_some();
        let (siege, dead_since_us, is_cut) = (Some(siege), None, false);
        let link =
            Link { ends, window: 4, is_once: false, lies: true, siege, dead_since_us, is_cut };
        self.links.insert(number, link);
        let end = End { link: number, side: 0 };
        for frame in first {
            self.send(end, Packet::Frame(frame));
        }
        self.pump(end);
        let stays_us = if is_deaf { 30_000_000 } else { 5_000_000 };
        let after_us = self.plan.latency_us * 4 + self.dice.below(stays_us);
        self.later(after_us, Event::Cut { link: number });
    }

    /// The device did not put up with what the villain sent.
    pub(crate) fn note_refused(&mut self, end: End, code: CloseCode) {
        if let Some(siege) = self.siege_at(end) {
            siege.refused = Some(code);
        }
    }

    fn conversation(&mut self, me: Slot, peer: Slot, opens: Opens) -> Conversation {
        let space = self.devices[me].space().expect("greeted").clone();
        let known = space.peer_device(&self.devices[peer].transport);
        Conversation { peer: Some(peer), ..self.conversation_with(me, known, opens) }
    }

    fn conversation_with(
        &mut self,
        me: Slot,
        peer: Option<DeviceId>,
        opens: Opens,
    ) -> Conversation {
        let space = self.devices[me].space().expect("it is up").clone();
        let mut seed = [0; 32];
        larder_types::Entropy::fill(&mut self.dice, &mut seed);
        let config = config(space.device(), opens);
        Conversation {
            device: me,
            peer: None,
            refused: BTreeSet::new(),
            session: Session::new(config, space.id(), peer, seed),
            begun_us: self.now_us,
            heard: 0,
            inbox: Inbox::new(),
            last_us: self.now_us,
            timer_us: None,
            asked: 0,
            has_begun: false,
        }
    }

    /// Whether the two speak, as far as both know.
    pub(crate) fn are_connected(&self, one: Slot, other: Slot) -> bool {
        self.links.values().any(|link| {
            let is_at = |side: usize, slot: Slot| {
                link.ends[side].as_ref().is_some_and(|end| end.device == slot)
            };
            (is_at(0, one) && is_at(1, other)) || (is_at(0, other) && is_at(1, one))
        })
    }

    /// The connection breaks: each side notices in its own time, and may still read what arrived.
    pub(crate) fn cut(&mut self, link: u64) {
        self.cut_parcels(link);
        let Some(known) = self.links.get_mut(&link).filter(|link| !link.is_cut) else { return };
        known.is_cut = true;
        let mut kept = 0;
        for end in known.ends.iter_mut().flatten() {
            kept += end.inbox.cut(&mut self.dice);
        }
        self.note(|| format!("link {link}: cut, {kept} frames still arrive"));
        for side in [0, 1] {
            let after_us = self.dice.below(2_000_000);
            self.later(after_us, Event::Broken { end: End { link, side } });
        }
    }

    /// This side is no more.
    pub(crate) fn drop_end(&mut self, end: End) {
        let Some(link) = self.links.get_mut(&end.link) else { return };
        let was_read = link.ends[end.side].take().is_some_and(|end| end.has_read_all());
        let is_over = link.ends.iter().all(Option::is_none);
        self.parcels_settled(end);
        if !is_over {
            return;
        }
        let siege = self.links.remove(&end.link).and_then(|link| link.siege);
        if let Some(Siege { name, refused, .. }) = siege {
            match refused {
                Some(code) => self.report.count(format!("effect: {name}: refused, {code:?}")),
                None if was_read => self.report.count(format!("effect: {name}: taken or ignored")),
                None => self.report.count(format!("effect: {name}: cut short")),
            }
        }
    }

    /// The device's ends are gone without a word; the others notice later.
    pub(crate) fn drop_links_of(&mut self, slot: Slot) {
        self.drop_parcels_of(slot);
        for end in self.ends_of(slot) {
            let after_us = self.dice.below(5_000_000);
            self.later(after_us, Event::Broken { end: end.other() });
            self.drop_end(end);
        }
    }

    pub(crate) fn conversation_at(&mut self, end: End) -> Option<&mut Conversation> {
        self.links.get_mut(&end.link)?.ends[end.side].as_mut()
    }

    /// Runs something on a session, and then what follows from it.
    pub(crate) fn tell(&mut self, end: End, what: impl FnOnce(&mut Session, Timestamp)) {
        let now_us = self.now_us;
        let Some(conversation) = self.conversation_at(end) else { return };
        let now = Timestamp((now_us - conversation.begun_us) / 1000);
        what(&mut conversation.session, now);
        self.pump(end);
    }
}

/// What happens to a session.
impl World {
    pub(crate) fn arrive(&mut self, end: End) {
        let now_us = self.now_us;
        let Some(link) = self.links.get(&end.link) else { return };
        let device = |side: usize| link.ends[side].as_ref().map(|end| end.device);
        let (Some(to), from) = (device(end.side), device(1 - end.side)) else { return };
        if from.is_some_and(|from| self.is_dead(from, to)) {
            // What is lost is sent again, until the connection is given up.
            let since =
                *self.links.get_mut(&end.link).expect("there").dead_since_us.get_or_insert(now_us);
            if now_us - since > IDLE_MS_MAX * 1000 {
                self.report.count("network: given up");
                self.cut(end.link);
            } else {
                self.later(250_000, Event::Arrive { end });
            }
            return;
        }
        self.links.get_mut(&end.link).expect("there").dead_since_us = None;
        let Some(conversation) = self.conversation_at(end) else { return };
        conversation.inbox.arrive();
        self.pump(end);
    }

    pub(crate) fn timer(&mut self, end: End, at_us: u64) {
        let Some(conversation) = self.conversation_at(end) else { return };
        if conversation.timer_us == Some(at_us) {
            conversation.timer_us = None;
            self.tell(end, Session::handle_timeout);
        }
    }

    /// Storage takes up a request.
    pub(crate) fn ask(&mut self, end: End, request: Request) {
        let Some(conversation) = self.conversation_at(end) else { return };
        let slot = conversation.device;
        let siege = self.links.get(&end.link).and_then(|link| link.siege.as_ref());
        let villain = siege.map(|siege| siege.transport);
        let peer = self.links.get(&end.link).and_then(|link| link.ends[1 - end.side].as_ref());
        // The other side may be gone; its key is still the connection's.
        let peer =
            peer.map_or(self.devices[slot].transport, |peer| self.devices[peer.device].transport);
        let peer = villain.unwrap_or(peer);
        let Some(space) = self.devices[slot].space().cloned() else { return };
        let answer = space.answer(&peer, request);
        if self.notice_power(slot) {
            return;
        }
        match answer {
            Answer::Reply(reply) => self.reply_later(end, reply),
            Answer::Write(task) => self.enqueue(slot, Job::Session(end, task)),
        }
    }

    pub(crate) fn reply_later(&mut self, end: End, reply: Reply) {
        self.overhear(&reply);
        let after_us = self.dice.below(self.plan.storage_us);
        self.later(after_us, Event::Reply { end, reply: Box::new(reply) });
    }

    pub(crate) fn reply(&mut self, end: End, reply: Reply) {
        let Some(conversation) = self.conversation_at(end) else { return };
        let slot = conversation.device;
        conversation.asked -= 1;
        if let Reply::Failed { message } = &reply {
            let message = message.clone();
            self.storage_failed(slot, &message);
        }
        // What this device acknowledged or learnt goes to the space's other sessions.
        let acks = match &reply {
            Reply::Applied { acks, .. } | Reply::AcksStored { new: acks } => acks.clone(),
            _ => Vec::new(),
        };
        let is_supply = matches!(reply, Reply::Supply { .. });
        self.tell(end, |session, now| session.handle_reply(now, reply));
        if is_supply && let Some(frame) = self.siege_at(end).and_then(|siege| siege.deaf.clone()) {
            self.report.count("villain: questions without reading answers");
            self.send(end, Packet::Frame(frame));
        }
        if !acks.is_empty() {
            for other in self.ends_of(slot).into_iter().filter(|other| *other != end) {
                self.tell(other, |session, _| session.handle_acks(acks.clone()));
            }
        }
    }

    /// The device has something new in the space.
    pub(crate) fn committed(&mut self, slot: Slot) {
        for end in self.ends_of(slot) {
            self.tell(end, Session::handle_local_commit);
        }
        self.parcels_changed(slot);
    }

    pub(crate) fn broken(&mut self, end: End) {
        // Whatever has arrived by now was read.
        if let Some(conversation) = self.conversation_at(end) {
            if conversation.inbox.break_off() {
                self.report.count("fault: cuts within a frame");
            }
            self.note(|| format!("link {}: side {} notices that it is cut", end.link, end.side));
            self.drop_end(end);
        }
    }

    /// The device ends this session in order.
    pub(crate) fn end_session(&mut self, end: End, code: CloseCode) {
        if let Some(conversation) = self.conversation_at(end) {
            conversation.session.close(code, "");
            self.pump(end);
        }
    }

    pub(crate) fn ends_of(&self, slot: Slot) -> Vec<End> {
        let mut ends = Vec::new();
        for (number, link) in &self.links {
            for (side, end) in link.ends.iter().enumerate() {
                if end.as_ref().is_some_and(|end| end.device == slot) {
                    ends.push(End { link: *number, side });
                }
            }
        }
        ends
    }

    /// Does all that a session wants done now.
    pub(crate) fn pump(&mut self, end: End) {
        let now_us = self.now_us;
        loop {
            self.take_requests(end);
            self.take_events(end);
            self.transmit(end);
            let Some(conversation) = self.conversation_at(end) else { return };
            let session = &mut conversation.session;
            if session.is_closed() {
                break;
            }
            if !session.wants_frame() {
                break;
            }
            let begun_us = conversation.begun_us;
            match conversation.inbox.read() {
                Some(Got::Frame(frame)) => {
                    let now = Timestamp((now_us - begun_us) / 1000);
                    conversation.session.handle_frame(now, &frame);
                    // There is room for another.
                    self.later(0, Event::Pump { end: end.other() });
                }
                // The other side ended without a word.
                Some(Got::End) => {
                    self.drop_end(end);
                    return;
                }
                None => break,
            }
        }
        self.check_memory(end);
        self.set_timer(end);
        self.end_if_done(end);
    }

    /// What a peer sends and does not read takes no more memory than it may.
    fn check_memory(&mut self, end: End) {
        let Some(conversation) = self.conversation_at(end) else { return };
        let (slot, held) = (conversation.device, conversation.session.bytes_held());
        let most = config(DeviceId::new([0; 32]), Opens::Whole).bytes_held_max();
        assert!(held <= most, "a session of {slot} keeps {held} bytes, and may keep {most}");
        self.report.count("check: memory of sessions");
        let Some(transport) = self.siege_at(end).map(|siege| siege.transport) else { return };
        let Some(space) = self.devices[slot].space() else { return };
        let runs = space.void_runs_kept(&transport);
        assert!(runs <= VOID_RUNS_KEPT_MAX, "{slot} keeps {runs} runs that the villain told");
        if runs > 0 {
            self.report.count("check: memory of what the villain told");
        }
    }

    fn siege_at(&mut self, end: End) -> Option<&mut Siege> {
        self.links.get_mut(&end.link)?.siege.as_mut()
    }

    fn take_requests(&mut self, end: End) {
        while let Some(request) =
            self.conversation_at(end).and_then(|conversation| conversation.session.poll_request())
        {
            self.conversation_at(end).expect("there").asked += 1;
            self.trace.hash(std::mem::discriminant(&request));
            let after_us = self.dice.below(self.plan.storage_us);
            self.later(after_us, Event::Ask { end, request: Box::new(request) });
        }
    }

    fn take_events(&mut self, end: End) {
        while let Some(event) =
            self.conversation_at(end).and_then(|conversation| conversation.session.poll_event())
        {
            let slot = self.conversation_at(end).expect("there").device;
            match event {
                SessionEvent::CaughtUp => {
                    self.report.count("session: caught up");
                    self.parcels_settled(end);
                    let is_once = self.links.get(&end.link).is_some_and(|link| link.is_once);
                    if is_once && let Some(conversation) = self.conversation_at(end) {
                        conversation.session.close(CloseCode::Done, "");
                    }
                }
                SessionEvent::Received { entries, .. } => {
                    self.report.add("session: entries received", entries as u64);
                }
                SessionEvent::Forked(fork) => self.note_fork(slot, &fork),
                SessionEvent::Refused { device, code, message } => {
                    self.note(|| format!("{slot} refuses {device}: {code:?} {message}"));
                    self.check_refusal(end, slot, &device, code, &message);
                }
                SessionEvent::Closed { code, message, by_peer } => {
                    self.note(|| format!("link {}: {slot} closes, {code:?} {message}", end.link));
                    self.check_close(end, slot, code, &message, by_peer);
                }
                SessionEvent::Message(sealed) => self.hear(end, &sealed),
                SessionEvent::Sent { .. } | SessionEvent::Acks(_) => {}
            }
        }
    }

    fn transmit(&mut self, end: End) {
        let other = end.other();
        loop {
            let Some(link) = self.links.get(&end.link) else { return };
            let under_way = link.ends[other.side].as_ref().map_or(0, |to| to.inbox.under_way());
            let is_unread = link.siege.as_ref().is_some_and(|one| one.deaf.is_some())
                && link.ends[end.side].as_ref().is_some_and(|from| from.has_begun);
            if under_way >= link.window || is_unread {
                return;
            }
            let Some(conversation) = self.conversation_at(end) else { return };
            let Some(frame) = conversation.session.poll_transmit() else { return };
            // Frontiers or their digest; or it gives up.
            conversation.has_begun |= matches!(frame.first(), Some(1 | 9 | 5));
            assert!(conversation.has_begun, "{:?} comes before what is held", frame.first());
            self.trace.hash(&frame);
            self.report.add("network: bytes", frame.len() as u64);
            let is_siege = self.links.get(&end.link).is_some_and(|link| link.siege.is_some());
            let supply = if is_siege { self.supply_falsely(&frame) } else { None };
            self.send(other, Packet::Frame(frame));
            let then =
                self.siege_at(end).map(|siege| std::mem::take(&mut siege.then)).unwrap_or_default();
            for frame in then.into_iter().chain(supply) {
                self.send(end, Packet::Frame(frame));
            }
        }
    }

    fn send(&mut self, to: End, packet: Packet) {
        if let Packet::Frame(frame) = &packet {
            self.check_frame(frame);
        }
        let Some(link) = self.links.get(&to.link).filter(|link| !link.is_cut) else { return };
        let lies = link.lies && link.siege.is_none();
        let after_us = self.dice.below(self.plan.latency_us);
        let packets = if lies { self.lie(packet) } else { vec![packet] };
        let now_us = self.now_us;
        let reorders = lies && self.dice.chance(10);
        let Some(conversation) = self.conversation_at(to) else { return };
        let at_us = (now_us + after_us).max(conversation.last_us);
        conversation.last_us = at_us;
        let count = packets.len();
        for packet in packets {
            if reorders {
                conversation.inbox.push_first(packet);
            } else {
                conversation.inbox.push(packet);
            }
        }
        if reorders {
            self.report.count("fault: frames reordered");
        }
        for _ in 0..count {
            self.later(at_us - now_us, Event::Arrive { end: to });
        }
    }

    /// What a transport that is not to be trusted makes of a packet.
    fn lie(&mut self, packet: Packet) -> Vec<Packet> {
        let Packet::Frame(mut frame) = packet else { return vec![packet] };
        match self.dice.below(30) {
            0 => {
                self.report.count("fault: frames repeated");
                vec![Packet::Frame(frame.clone()), Packet::Frame(frame)]
            }
            1 => {
                self.report.count("fault: frames changed");
                let bit = self.dice.below(frame.len() as u64 * 8);
                if let Some(byte) = frame.get_mut(usize::try_from(bit / 8).unwrap_or(0)) {
                    *byte ^= 1 << (bit % 8);
                }
                vec![Packet::Frame(frame)]
            }
            2 => {
                self.report.count("fault: frames cut short");
                frame.truncate(usize::try_from(self.dice.below(frame.len() as u64)).unwrap_or(0));
                vec![Packet::Frame(frame)]
            }
            3 => {
                self.report.count("fault: frames dropped");
                Vec::new()
            }
            4 => {
                let earlier = self.heard.len() as u64;
                let at = usize::try_from(self.dice.below(earlier)).unwrap_or(0);
                let mut packets = vec![Packet::Frame(frame.clone())];
                if let Some(other) = self.heard.get(at) {
                    self.report.count("fault: frames of other sessions");
                    packets.push(Packet::Frame(other.clone()));
                }
                packets
            }
            _ => {
                if self.heard.len() < HEARD_MAX {
                    self.heard.push(frame.clone());
                }
                vec![Packet::Frame(frame)]
            }
        }
    }

    fn set_timer(&mut self, end: End) {
        let Some(conversation) = self.conversation_at(end) else { return };
        let Some(at) = conversation.session.poll_timeout() else {
            conversation.timer_us = None;
            return;
        };
        // Rounded up, or a timer that fires within the same millisecond would be too early.
        let at_us = conversation.begun_us + (at.0 + 1) * 1000;
        if conversation.timer_us != Some(at_us) {
            conversation.timer_us = Some(at_us);
            let after_us = at_us.saturating_sub(self.now_us);
            self.later(after_us, Event::Timer { end, at_us });
        }
    }

    /// A session that is closed, and has said so, ends its side.
    fn end_if_done(&mut self, end: End) {
        let other = end.other();
        let Some(conversation) = self.conversation_at(end) else { return };
        if !conversation.session.is_closed() {
            return;
        }
        // Whatever is left goes out, whether or not the other side reads it.
        while let Some(frame) =
            self.conversation_at(end).and_then(|conversation| conversation.session.poll_transmit())
        {
            self.trace.hash(&frame);
            self.send(other, Packet::Frame(frame));
        }
        self.send(other, Packet::End);
        self.drop_end(end);
    }
}

/// Frames are as small as what is in them here, so that a bound on many is near.
const FRAME_BYTES_MAX: usize = 2 << 20;

fn config(me: DeviceId, opens: Opens) -> Config {
    let mut config = Config::new(me);
    (config.opens, config.frame_bytes_max) = (opens, FRAME_BYTES_MAX);
    config
}

/// Frames kept to be played into other sessions.
const HEARD_MAX: usize = 64;
