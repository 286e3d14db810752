//! Messages that are not stored: apps say something to whoever is there, and hear each thing once,
//! of whom it is.

use larder_engine::Message;
use larder_types::limits::MESSAGES_PER_SECOND_MAX;

use crate::device::Slot;
use crate::network::End;
use crate::world::World;

impl World {
    /// The app says something to the devices that its own is in a session with.
    pub(crate) fn say(&mut self, slot: Slot) {
        let Some(space) = self.devices[slot].space() else { return };
        let body = format!("{slot} says {}", self.now_us).into_bytes();
        // Before it has a secret it cannot.
        let Ok(sealed) = space.source().and_then(|source| source.seal_message(body)) else {
            return;
        };
        self.report.count("app: messages said");
        for end in self.ends_of(slot) {
            let sealed = sealed.clone();
            self.tell(end, move |session, now| session.handle_message(now, sealed));
        }
    }

    /// A message has come to this side.
    pub(crate) fn hear(&mut self, end: End, sealed: &[u8]) {
        let now_us = self.now_us;
        let Some(conversation) = self.conversation_at(end) else { return };
        let (slot, peer) = (conversation.device, conversation.peer);
        conversation.heard += 1;
        let seconds = (now_us - conversation.begun_us) / 1_000_000;
        let most = (2 + seconds) * MESSAGES_PER_SECOND_MAX;
        assert!(conversation.heard <= most, "{slot} is told more messages than may be");
        let Some(peer) = peer else { return };
        let transport = self.devices[peer].transport;
        let Some(space) = self.devices[slot].space() else { return };
        let Ok(source) = space.source() else { return };
        let Some(Message { device, body, .. }) = source.open_message(&transport, sealed) else {
            return;
        };
        assert_eq!(Some(device), self.devices[peer].id, "{slot} hears another than it is");
        let body = String::from_utf8(body).expect("what was said");
        let is_own = body.starts_with(&format!("{peer} says "));
        assert!(is_own || self.devices[peer].was_copied, "{slot} hears {body:?} of {peer}");
        let is_new = self.devices[slot].heard.insert((device, body));
        // QUIC does not play what was said before a restart into a later connection.
        let lies = self.links.get(&end.link).is_some_and(|link| link.lies);
        assert!(is_new || lies, "{slot} hears {peer} say the same again");
        self.report.count("check: messages heard");
    }
}
