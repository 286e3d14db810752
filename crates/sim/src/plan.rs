//! What kind of run a seed makes: few faults of one kind find other bugs than many of all.

use larder_pages::testing::Dice;

/// How likely each fault is, and how large the run. Rates are events for each 1,000
/// units.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Plan {
    /// Devices that found or join the space before anything goes wrong.
    pub devices: usize,
    /// Devices that join while everything goes on.
    pub joins: usize,
    /// Devices that the first one shuts out, at most.
    pub revocations: usize,
    /// Units that apps ask for, in all.
    pub units: usize,
    /// Units that an app asks for at once, at most: those share transactions.
    pub burst: u64,
    /// Mean time between the acts of one app, in microseconds.
    pub think_us: u64,
    /// The longest that a frame takes, in microseconds.
    pub latency_us: u64,
    /// The longest that storage takes, in microseconds.
    pub storage_us: u64,
    /// Mean time between a device's attempts to reach another, in microseconds.
    pub dial_us: u64,
    /// Connections that end with the first exchange, in percent.
    pub once_percent: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Directions between two devices that go dead for a while.
    pub partitions: u64,
    /// Power failures, at any of the next disk calls.
    pub crashes: u64,
    /// Processes killed, with the system and its caches alive.
    pub kills: u64,
    /// Orderly restarts.
    pub restarts: u64,
    /// Phones that close everything, are laid aside, and open it again.
    pub suspensions: u64,
    /// Full disks.
    pub full_disks: u64,
    /// Clocks set anew, by seconds or by years.
    pub clock_jumps: u64,
    /// Bytes of a database that change by themselves.
    pub rots: u64,
    /// Devices that come back as they were some time ago.
    pub rollbacks: u64,
    /// Whole profiles copied, and both used.
    pub copies: u64,
    /// Devices that the first one sets aside, whether they are away or not.
    pub quarantines: u64,
    /// Apps that want room: bytes that all devices agree on go.
    pub prunes: u64,
    /// Bodies from which on devices prune by themselves, in bytes; none: only when asked.
    pub prunes_from: Option<u64>,
    /// Bytes of a snapshot handed over at once: of documents that take more, piece by piece.
    pub part_bytes: usize,
    /// Keys at rest renewed.
    pub rekeys: u64,
    /// Nights, in which nothing happens for a day: the next steps of secrets are due.
    pub nights: u64,
    /// Profiles stolen, by who has recorded all that was sent.
    pub thefts: u64,
    /// Whether at the end days pass, until no secret of before is left.
    pub days_pass: bool,
    /// Clearances raised or lowered.
    pub clearances: u64,
    /// Documents of which a part is taken out, in percent of those that have one.
    pub redacted_percent: u64,
    /// Documents put into the trash, and taken out, in percent of edits.
    pub trashed_percent: u64,
    /// Documents erased rather than deleted, in percent of those.
    pub erased_percent: u64,
    /// Documents that are BLACK, in percent of units.
    pub black_percent: u64,
    /// Whether devices are cleared for different bands, and apps write in all of them.
    pub has_bands: bool,
    /// Whether apps add blobs.
    pub has_blobs: bool,
    /// Whether one more device is an auditor's.
    pub has_auditor: bool,
    /// Connections whose transport repeats, reorders and changes frames, in percent.
    pub lying_percent: u64,
    /// Whether one of the enrolled devices keeps no rule.
    pub has_villain: bool,
    /// Whether that one tells different devices different histories.
    pub villain_forks: bool,
    /// Whether it goes on once it is shut out, with others who were.
    pub colludes: bool,
    /// Whether it may let devices in, and so tries to by every way that does not count.
    pub villain_rules: bool,
}

/// A unit for itself makes the longest runs, and the fewest of them.
const BURSTS: [u64; 10] = [1, 4, 4, 8, 8, 8, 16, 16, 16, 32];

fn seed_below(seed: u64, purpose: u64, below: u64) -> usize {
    usize::try_from(Dice::new(seed ^ purpose).below(below)).unwrap_or(0)
}

impl Plan {
    /// What this seed makes. Each kind of fault is there in about half of all runs.
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x706c_616e);
        let mut some = |most: u64| if dice.chance(50) { 1 + dice.below(most) } else { 0 };
        let (cuts, partitions) = (some(60), some(40));
        let (crashes, kills, restarts) = (some(40), some(20), some(20));
        let (full_disks, clock_jumps, rots) = (some(20), some(30), some(8));
        let (rollbacks, copies) = (some(8), some(6));
        let lying_percent = some(20);
        let (prunes, rekeys) = (some(60), some(15));
        let mut itself = Dice::new(seed ^ 0x7072_756e);
        let prunes_from = itself.chance(50).then(|| 512 << itself.below(5));
        let plan = Self {
            devices: 4 + usize::try_from(dice.below(2)).unwrap_or(0),
            revocations: [0, 0, 1, 2][seed_below(seed, 0x7265_766f, 4)],
            joins: usize::try_from(dice.below(3)).unwrap_or(0),
            units: 200,
            burst: BURSTS[usize::try_from(dice.below(BURSTS.len() as u64)).unwrap_or(0)],
            think_us: 20_000 << dice.below(6),
            latency_us: 200 << dice.below(10),
            storage_us: 200 << dice.below(8),
            dial_us: 20_000 << dice.below(6),
            once_percent: [0, 20, 50, 100][usize::try_from(dice.below(4)).unwrap_or(0)],
            cuts,
            partitions,
            crashes,
            kills,
            restarts,
            suspensions: Dice::new(seed ^ 0x736c_6565).below(20),
            full_disks,
            clock_jumps,
            rots,
            rollbacks,
            copies,
            quarantines: [0, 0, 20, 60][seed_below(seed, 0x6173_6964, 4)],
            prunes,
            prunes_from,
            part_bytes: 32 << Dice::new(seed ^ 0x7061_7274).below(5),
            rekeys,
            nights: [0, 0, 5, 20][seed_below(seed, 0x6e69_6768, 4)],
            thefts: [0, 0, 0, 10][seed_below(seed, 0x7468_6566, 4)],
            days_pass: Dice::new(seed ^ 0x6461_7973).chance(15),
            clearances: 0,
            redacted_percent: [0, 0, 30, 80][seed_below(seed, 0x7265_6461, 4)],
            trashed_percent: [0, 5, 20][seed_below(seed, 0x7472_6173, 3)],
            erased_percent: [0, 30, 80][seed_below(seed, 0x6572_6173, 3)],
            black_percent: [0, 0, 0, 20][seed_below(seed, 0x626c_6163, 4)],
            has_bands: Dice::new(seed ^ 0x6261_6e64).chance(25),
            has_blobs: Dice::new(seed ^ 0x626c_6f62).chance(35),
            has_auditor: Dice::new(seed ^ 0x6175_6469).chance(20),
            lying_percent,
            has_villain: Dice::new(seed ^ 0x7669_6c6c).chance(50),
            villain_forks: Dice::new(seed ^ 0x666f_726b).chance(30),
            colludes: Dice::new(seed ^ 0x636f_6c6c).chance(15),
            villain_rules: Dice::new(seed ^ 0x7275_6c65).chance(40),
        };
        let plan = if plan.days_pass { plan.with_days() } else { plan };
        let plan = if plan.colludes { plan.with_collusion() } else { plan };
        if plan.has_bands { plan.with_bands(seed) } else { plan }
    }

    /// A log with two histories holds up for good what is to become stable.
    const fn with_days(mut self) -> Self {
        (self.rots, self.rollbacks, self.copies) = (0, 0, 0);
        self
    }

    /// The malicious member is shut out early, and is there for long enough after that.
    fn with_collusion(mut self) -> Self {
        self.has_villain = true;
        (self.revocations, self.burst) = (2, self.burst.min(4));
        self
    }

    /// Whether somebody records what is sent.
    pub(crate) const fn records(&self) -> bool {
        self.revocations > 0 || self.thefts > 0 || self.days_pass
    }

    /// Of what is lost with a device the others that are cleared for it may have nothing but the
    /// headers: in such a run none is.
    fn with_bands(mut self, seed: u64) -> Self {
        (self.rots, self.rollbacks, self.copies, self.revocations) = (0, 0, 0, 0);
        self.colludes = false;
        self.has_blobs = false;
        self.clearances = [0, 10, 40, 80][seed_below(seed, 0x636c_6561, 4)];
        self
    }

    /// A run in which nothing goes wrong.
    #[must_use]
    pub fn calm(mut self) -> Self {
        (self.cuts, self.partitions, self.crashes, self.kills, self.restarts) = (0, 0, 0, 0, 0);
        (self.suspensions, self.full_disks, self.clock_jumps, self.rots) = (0, 0, 0, 0);
        (self.rollbacks, self.copies, self.lying_percent) = (0, 0, 0);
        (self.revocations, self.clearances, self.quarantines) = (0, 0, 0);
        self.has_villain = false;
        self
    }
}
