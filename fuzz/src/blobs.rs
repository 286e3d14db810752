use std::collections::BTreeMap;

use larder_crypto::Secret;
use larder_log::blob::{Chunk, Manifest, chunk_digest, open_chunk, seal_chunk};
use larder_protocol::{BlobFrame, BlobPosition, BlobReply, BlobRequest, BlobSession, Keeps};
use larder_types::limits::BLOB_REQUESTS_MAX;
use larder_types::{CloseCode, Hash};

use crate::{part, parts};

/// A manifest, and a chunk as one says it is.
pub fn manifests(data: &[u8]) {
    let mut data = data;
    let Some(manifest) = part(&mut data) else { return };
    let Ok(read) = Manifest::decode(manifest) else { return };
    assert_eq!(read.encode(), manifest);
    let size: u64 = read.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    assert_eq!(size, read.size);
    for chunk in &read.chunks {
        if let Ok(plain) = open_chunk(chunk, data) {
            assert_eq!(plain.len(), chunk.len as usize);
            assert_eq!(seal_chunk(&chunk.key, &plain), data);
        }
    }
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let manifest = |chunks| {
        Manifest::new("image/png".into(), Some("cat.png".into()), chunks).unwrap().encode()
    };
    let (chunk, sealed) = chunk(b"what is in it");
    vec![
        parts(&[&manifest(Vec::new())]),
        [parts(&[&manifest(vec![chunk.clone(), chunk])]), sealed].concat(),
    ]
}

fn chunk(plain: &[u8]) -> (Chunk, Vec<u8>) {
    let key = Secret::new([7; 32]);
    let sealed = seal_chunk(&key, plain);
    let len = u32::try_from(plain.len()).unwrap();
    (Chunk { len, digest: chunk_digest(&sealed), key }, sealed)
}

/// A blob stream with a device that holds one chunk and wants some, whatever the peer says. Each
/// part is a frame; an empty one stands for news from storage.
pub fn session(data: &[u8]) {
    let mut data = data;
    let mut storage = Storage::new();
    let mut session = BlobSession::new();
    while let Some(frame) = part(&mut data) {
        if frame.is_empty() {
            session.handle_changed();
            session.handle_settled();
        } else {
            if let Ok(read) = BlobFrame::decode(frame) {
                assert_eq!(BlobFrame::decode(&read.encode()).expect("what was written"), read);
            }
            session.handle_frame(frame);
        }
        while let Some(request) = session.poll_request() {
            session.handle_reply(storage.reply(request));
        }
        while let Some(sent) = session.poll_transmit() {
            let sent = BlobFrame::decode(&sent).expect("what is sent is a frame");
            if let BlobFrame::Want(digests) = &sent {
                assert!(digests.len() <= BLOB_REQUESTS_MAX);
            }
        }
        while session.poll_event().is_some() {}
    }
}

struct Storage {
    held: BTreeMap<Hash, Vec<u8>>,
    wanted: Vec<Hash>,
}

impl Storage {
    fn new() -> Self {
        let (held, sealed) = chunk(b"held");
        let wanted = WANTED.iter().map(|plain| chunk(plain).0.digest).collect();
        Self { held: [(held.digest, sealed)].into(), wanted }
    }

    fn reply(&mut self, request: BlobRequest) -> BlobReply {
        match request {
            BlobRequest::ReadWanted { from, limit } => {
                let at = usize::try_from(from.0).unwrap();
                let left = self.wanted.iter().skip(at);
                let left: Vec<Hash> =
                    left.filter(|digest| !self.held.contains_key(digest)).copied().collect();
                let more = left.len() > limit;
                let next = more.then(|| BlobPosition(from.0 + i64::try_from(limit).unwrap(), 0));
                BlobReply::Wanted { chunks: left.into_iter().take(limit).collect(), next }
            }
            BlobRequest::ReadChunk { digest } => {
                BlobReply::Chunk { sealed: self.held.get(&digest).cloned() }
            }
            BlobRequest::StoreChunk { digest, sealed } => {
                assert_eq!(chunk_digest(&sealed), digest, "nothing else is ever kept");
                assert!(self.wanted.contains(&digest), "nothing is kept that was not asked for");
                self.held.insert(digest, sealed);
                BlobReply::Stored
            }
            BlobRequest::ReadHeld { digests } => {
                let held = digests.into_iter().filter(|digest| self.held.contains_key(digest));
                BlobReply::Held { digests: held.collect() }
            }
            BlobRequest::ReadKept { .. } => {
                BlobReply::Kept { keeps: Keeps::default(), next: None }
            }
            BlobRequest::ReadDurable { mut keeps } => {
                keeps.chunks.retain(|digest| self.held.contains_key(digest));
                BlobReply::Confirmed { keeps }
            }
            BlobRequest::Release { .. } => panic!("nothing is kept for others"),
        }
    }
}

pub(crate) fn session_seeds() -> Vec<Vec<u8>> {
    let held = chunk(b"held").0.digest;
    let want = BlobFrame::Want(vec![held, Hash::new([9; 32])]).encode();
    let answers: Vec<Vec<u8>> =
        WANTED.iter().map(|plain| BlobFrame::Chunk(chunk(plain).1).encode()).collect();
    let have = BlobFrame::Have(vec![chunk(WANTED[0]).0.digest]).encode();
    let close = BlobFrame::Close { code: CloseCode::Done, message: String::new() }.encode();
    let (lacks, idle) = (BlobFrame::Lacks.encode(), BlobFrame::Idle.encode());
    vec![
        parts(&[&want, &[], &answers[0], &answers[1], &idle, &close]),
        parts(&[&lacks, &lacks, &have, &answers[0], &[]]),
        parts(&[&answers[0], &answers[0]]),
    ]
}

const WANTED: [&[u8]; 2] = [b"one", b"two"];
