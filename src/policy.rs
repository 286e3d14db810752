use larder_engine::{
    Contract, ContractAction, PersonalKind, Policy, PolicyChange, SpaceWriter, Terms, Whose,
};

use crate::error::blocking;
use crate::{Receipt, Result, Space};

impl Space {
    /// What devices do in this space where nobody says otherwise: by its kind
    /// ([`POLICIES`](crate::POLICIES)), and by what its owners have set. How long documents are
    /// kept is [`Space::retention`].
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed); the storage's.
    pub async fn policy(&self) -> Result<Policy> {
        let reader = self.seen().await?;
        blocking(move || reader.policy()).await
    }

    /// Sets some of the space's policy, for every device that hears of it. What is set by two
    /// owners at once is what gives least away. It is what devices go by, and no right: a device
    /// that does not hold to it is not refused.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it makes no sense, or this device is no
    /// owner's; the storage's.
    pub async fn set_policy(&self, change: PolicyChange) -> Result<Receipt> {
        let work = move |writer: &mut SpaceWriter| writer.set_policy(change);
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// What the space's owners want of personal data in what is written in it, on every device,
    /// beside what the app wants ([`Options::contract`](crate::Options::contract)).
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed); the storage's.
    pub async fn contracts(&self) -> Result<Vec<Contract>> {
        self.read_seen(larder_engine::Space::contracts).await
    }

    /// Sets what becomes of personal data of a kind in documents of a collection, or, without one,
    /// of all that have no contract of their own for it; `None`: nothing any more. It holds on
    /// every device that hears of it and has a
    /// [classifier](crate::Options::classifier), for what is written there from then on. Of the
    /// space's contract and the app's the stricter counts, and so of what two owners set at once.
    /// It is what devices go by, and no right: a device that does not hold to it is not refused.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it makes no sense, or this device is no
    /// owner's; the storage's.
    pub async fn set_contract(
        &self,
        collection: Option<&str>,
        kind: PersonalKind,
        action: Option<ContractAction>,
    ) -> Result<Receipt> {
        let collection = collection.map(str::to_owned);
        let work = move |writer: &mut SpaceWriter| {
            writer.set_contract(collection.as_deref(), kind, action)
        };
        self.open().await?.writer()?.run(true, work).await?.try_into()
    }

    /// On which terms a device is invited if nobody says otherwise: it may do what this one may,
    /// and read that too; somebody else's, no more than the policy says.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed); the storage's.
    pub async fn usual_terms(&self, of: Whose) -> Result<Terms> {
        let reader = self.seen().await?;
        blocking(move || Terms::usual_for(&reader, of)).await
    }
}
