use std::collections::BTreeMap;
use std::fmt;

use larder_types::Timestamp;
use serde::Serialize;

/// What a verified export proves, and what it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Always true: a refuted export is an error.
    pub verified: bool,
    /// The space.
    pub space: String,
    /// Its name, which the genesis act states.
    pub name: String,
    /// When the export was made, as its maker claims.
    pub exported_at_ms_claim: u64,
    /// The logs, in order of device.
    pub logs: Vec<LogVerdict>,
    /// The security log of the device that made the export, if it is here.
    pub security: Option<SecurityVerdict>,
    /// What holds, in words.
    pub proven: Vec<String>,
    /// What an export like this cannot show, in words.
    pub not_proven: Vec<String>,
}

/// What a device signed of what happened to it in the space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityVerdict {
    /// The device.
    pub device: String,
    /// The first event that is here; those before it were dropped as too many. 0 for none.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Events by kind.
    pub kinds: BTreeMap<String, u64>,
}

/// One device's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogVerdict {
    /// The device.
    pub device: String,
    /// Its name, as its enrolment states.
    pub label: String,
    /// The member it belongs to.
    pub member: String,
    /// Its role, as its enrolment states.
    pub role: String,
    /// Whether it founded the space.
    pub founder: bool,
    /// How many entries it has committed: all of them are here, 1 to this.
    pub entries: u64,
    /// The root over them.
    pub root: String,
    /// How many sections they have.
    pub sections: u64,
    /// Sections of which the export discloses nothing.
    pub sections_undisclosed: u64,
    /// Sections by disclosed kind.
    pub kinds: BTreeMap<String, u64>,
    /// How many of them are tombstones, as far as kinds are disclosed.
    pub deletions: u64,
    /// For each metadata field, in how many sections it is hidden though others are disclosed.
    pub hidden_fields: BTreeMap<String, u64>,
    /// How many bodies are disclosed.
    pub bodies: u64,
    /// The earliest and latest disclosed clock, as the device claims.
    pub clock_ms_claim: Option<(u64, u64)>,
    /// Who states to hold the log, up to which entry.
    pub acknowledgements: Vec<AckVerdict>,
}

/// One device's signed statement that it holds a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AckVerdict {
    /// The device that states it.
    pub by: String,
    /// Up to which entry.
    pub entries: u64,
    /// When, in seconds since 1970, as it claims.
    pub time_s_claim: u64,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VERIFIED  {}  (space {})", self.name, self.space)?;
        let exported = Timestamp(self.exported_at_ms_claim);
        writeln!(f, "exported {exported}, as its maker claims\n")?;
        for log in &self.logs {
            writeln!(f, "{log}")?;
        }
        if let Some(security) = &self.security {
            let SecurityVerdict { device, first, last, kinds } = security;
            writeln!(f, "security log of device {device}")?;
            writeln!(f, "  events {first} to {last}, signed by it and by nobody else")?;
            for (kind, count) in kinds {
                writeln!(f, "    {count} × {kind}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "Proven:")?;
        for line in &self.proven {
            writeln!(f, "  + {line}")?;
        }
        writeln!(f, "Not proven:")?;
        for line in &self.not_proven {
            writeln!(f, "  - {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LogVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let founder = if self.founder { ", founder" } else { "" };
        writeln!(f, "device {}", self.device)?;
        writeln!(f, "  \"{}\" of member {}, {}{founder}", self.label, self.member, self.role)?;
        writeln!(f, "  entries 1 to {}, {} sections", self.entries, self.sections)?;
        for (kind, count) in &self.kinds {
            writeln!(f, "    {count} × {kind}")?;
        }
        if self.sections_undisclosed > 0 {
            writeln!(f, "    {} with nothing disclosed", self.sections_undisclosed)?;
        }
        for (field, count) in &self.hidden_fields {
            writeln!(f, "    {field} hidden in {count}")?;
        }
        if let Some((first, last)) = self.clock_ms_claim {
            let (first, last) = (Timestamp(first), Timestamp(last));
            writeln!(f, "  from {first} to {last}, as the device claims")?;
        }
        for ack in &self.acknowledgements {
            let time = Timestamp(ack.time_s_claim.saturating_mul(1000));
            writeln!(f, "  held up to entry {} by {} (claims {time})", ack.entries, ack.by)?;
        }
        Ok(())
    }
}
