use std::collections::{BTreeMap, HashMap};

use larder_types::ObjectId;

use crate::{Document, DocumentError};

/// Loaded documents within a budget of bytes; the one not used for longest goes first.
///
/// Costs are estimates ([`Document::cost_bytes`]), taken when a document is put in: put it in
/// again after an edit. A document that alone exceeds the budget is not kept.
#[derive(Debug)]
pub struct Cache {
    budget_bytes: usize,
    used_bytes: usize,
    clock: u64,
    hits: u64,
    misses: u64,
    entries: HashMap<ObjectId, Entry>,
    by_use: BTreeMap<u64, ObjectId>,
}

#[derive(Debug)]
struct Entry {
    document: Document,
    cost_bytes: usize,
    used: u64,
}

impl Cache {
    /// An empty cache. A good budget is [`larder_types::limits::DOCUMENT_CACHE_BYTES`].
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            used_bytes: 0,
            clock: 0,
            hits: 0,
            misses: 0,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// A copy of the document, which shares its memory until one of them is edited; loaded if it
    /// is not there.
    ///
    /// # Errors
    /// What `load` gives.
    pub fn get_or_load<E>(
        &mut self,
        object: &ObjectId,
        load: impl FnOnce() -> Result<Document, E>,
    ) -> Result<Document, E>
    where
        E: From<DocumentError>,
    {
        if let Some(document) = self.get(object) {
            return Ok(document);
        }
        let document = load()?;
        self.insert(*object, document.clone());
        Ok(document)
    }

    /// The document itself, if it is there, and no longer afterwards: what edits it without a copy
    /// puts it back, or leaves it out if it came to nothing.
    pub fn take(&mut self, object: &ObjectId) -> Option<Document> {
        let taken = self.forget(object);
        *(if taken.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        taken
    }

    fn forget(&mut self, object: &ObjectId) -> Option<Document> {
        let entry = self.entries.remove(object)?;
        self.used_bytes -= entry.cost_bytes;
        self.by_use.remove(&entry.used);
        Some(entry.document)
    }

    /// A copy of the document, if it is there.
    pub fn get(&mut self, object: &ObjectId) -> Option<Document> {
        let Some(entry) = self.entries.get_mut(object) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.by_use.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.by_use.insert(self.clock, *object);
        Some(entry.document.clone())
    }

    /// Keeps the document in place of what was kept of it.
    pub fn insert(&mut self, object: ObjectId, document: Document) {
        self.remove(&object);
        let cost_bytes = document.cost_bytes();
        if cost_bytes > self.budget_bytes {
            return;
        }
        self.clock += 1;
        self.used_bytes += cost_bytes;
        self.by_use.insert(self.clock, object);
        self.entries.insert(object, Entry { document, cost_bytes, used: self.clock });
        while self.used_bytes > self.budget_bytes {
            let Some((_, oldest)) = self.by_use.first_key_value() else { return };
            let oldest = *oldest;
            self.remove(&oldest);
        }
    }

    /// Forgets the document.
    pub fn remove(&mut self, object: &ObjectId) {
        self.forget(object);
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        let (hits, misses) = (self.hits, self.misses);
        *self = Self { hits, misses, ..Self::new(self.budget_bytes) };
    }

    /// How often a document was there when it was asked for, and how often not, since this was
    /// asked.
    pub fn uses(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.hits), std::mem::take(&mut self.misses))
    }

    /// About how much memory the documents take.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(bytes: usize) -> Document {
        Document::flat([("a".to_owned(), "x".repeat(bytes).into())].into_iter().collect())
    }

    #[test]
    fn the_least_recently_used_go_first_and_the_budget_holds() {
        let cost = document(1000).cost_bytes();
        let mut cache = Cache::new(3 * cost);
        let id = |n| ObjectId::new([n; 16]);
        for n in 0..3 {
            cache.insert(id(n), document(1000));
        }
        assert!(cache.get(&id(0)).is_some());
        cache.insert(id(3), document(1000));
        assert!(cache.get(&id(1)).is_none());
        assert!([0, 2, 3].iter().all(|n| cache.get(&id(*n)).is_some()));
        assert_eq!(cache.used_bytes(), 3 * cost);
        cache.insert(id(4), document(100_000));
        assert!(cache.get(&id(4)).is_none());
        assert_eq!(cache.used_bytes(), 3 * cost);
        cache.remove(&id(0));
        cache.remove(&id(0));
        assert_eq!(cache.used_bytes(), 2 * cost);
        let loaded = cache.get_or_load(&id(0), || Ok::<_, DocumentError>(document(1)));
        assert!(loaded.is_ok());
        assert!(cache.get_or_load(&id(0), || Err(DocumentError::TooDeep)).is_ok());
        assert!(cache.take(&id(0)).is_some() && cache.take(&id(0)).is_none());
        assert_eq!(cache.used_bytes(), 2 * cost);
    }
}
