//! Finding devices on the local network, by mDNS (RFC 6762) and DNS-SD (RFC 6763).
//!
//! Invariants: what is broadcast says that a device here speaks Larder, its addresses and its port,
//! and nothing else. The names in it are random, drawn anew every hour; there is no TXT
//! record. Who a device is shows in the handshake alone, to whoever connects; and who connects in
//! order to find out ([`crate::Endpoint::key_at`]) shows nothing of itself. What is heard leads to
//! places on the local network alone, and to no more of them than a limit: whoever broadcasts can
//! have this device neither knock at the doors of others far away, nor remember without end.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, sleep_until};

use crate::{Error, Result};

/// The type of service that is announced and looked for.
const SERVICE: &str = "_larder._udp.local.";
/// How long a device keeps the names under which it is announced.
const ROTATION: Duration = Duration::from_hours(1);
/// Of one device; the rest is not tried.
const ADDRESSES_MAX: usize = 8;
/// How often the system is asked for new or lost addresses; it does not tell.
const INTERFACES_EVERY_S: u32 = 30;
/// Records kept of what is heard. A household's are a few for each device; beyond this somebody
/// floods the network, and what was heard is forgotten.
const RECORDS_MAX: i64 = 4096;
/// How often they are counted: after so many announcements, and after a while.
const COUNT_EVERY_EVENTS: u32 = 32;
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// Names of one's own that may still come back from the network.
const OWN_NAMES_KEPT: usize = 4;

/// Announces this device and hears of others, from [`Discovery::start`] on until it is dropped.
pub struct Discovery {
    daemon: ServiceDaemon,
    found: Receiver<ServiceEvent>,
    listening: Option<SocketAddr>,
    rotation: Duration,
    rotate_at: Instant,
    count_at: Instant,
    events: u32,
    records_max: i64,
    /// The names of this device, the present one last.
    own: VecDeque<String>,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl Discovery {
    /// Looks for devices, and announces this one if it listens: on the interface of that address,
    /// or on all. Within a tokio runtime. A thread of its own waits for packets; where nothing
    /// happens it wakes up every 30 s to see whether there are other interfaces.
    ///
    /// # Errors
    /// [`Error::Discovery`] if the system has no thread, socket or randomness to give.
    pub fn start(listening: Option<SocketAddr>) -> Result<Self> {
        Self::with_rotation(listening, ROTATION)
    }

    fn with_rotation(listening: Option<SocketAddr>, rotation: Duration) -> Result<Self> {
        let (daemon, found) = browse(listening)?;
        let rotate_at = Instant::now();
        let own = VecDeque::new();
        let (count_at, events, records_max) = (rotate_at, 0, RECORDS_MAX);
        let mut discovery = Self {
            daemon,
            found,
            listening,
            rotation,
            rotate_at,
            count_at,
            events,
            records_max,
            own,
        };
        discovery.rotate()?;
        Ok(discovery)
    }

    /// Where the next device is that was found, or that changed its name or addresses. It is
    /// likely, and by no means certain, that there is a device of Larder's.
    ///
    /// # Errors
    /// As [`Discovery::start`].
    pub async fn next(&mut self) -> Result<Vec<SocketAddr>> {
        loop {
            if self.events >= COUNT_EVERY_EVENTS
                || self.events > 0 && self.count_at.elapsed() >= COUNT_EVERY
            {
                self.forget_if_flooded().await?;
            }
            let count_at = self.count_at + COUNT_EVERY;
            tokio::select! {
                event = self.found.recv_async() => {
                    self.events += 1;
                    match event {
                        Ok(ServiceEvent::ServiceResolved(service))
                            if !self.own.iter().any(|own| own == service.get_fullname()) =>
                        {
                            let here = Networks::of_this_machine();
                            let (ips, port) = (service.get_addresses(), service.get_port());
                            let addresses = addresses(ips, port, &here);
                            if !addresses.is_empty() {
                                return Ok(addresses);
                            }
                        }
                        Ok(_) => {}
                        // So many at once that some were lost: they are asked for again.
                        Err(_) => self.found = self.daemon.browse(SERVICE).map_err(failed)?,
                    }
                }
                () = sleep_until(count_at), if self.events > 0 => {}
                () = sleep_until(self.rotate_at), if self.listening.is_some() => self.rotate()?,
            }
        }
    }

    /// Begins anew, with nothing heard, if too much is remembered: the daemon itself has no bound.
    async fn forget_if_flooded(&mut self) -> Result<()> {
        (self.events, self.count_at) = (0, Instant::now());
        let counts = self.daemon.get_metrics().map_err(failed)?;
        // A daemon that does not answer is over, which the next announcement says.
        let Ok(counts) = counts.recv_async().await else { return Ok(()) };
        let records: i64 = counts
            .iter()
            .filter(|(name, _)| name.starts_with("cached-"))
            .map(|(_, count)| count)
            .sum();
        if records > self.records_max {
            let _ = self.daemon.shutdown();
            (self.daemon, self.found) = browse(self.listening)?;
            self.own.clear();
            self.rotate()?;
        }
        Ok(())
    }

    /// Announces this device under new names and takes the old ones back.
    fn rotate(&mut self) -> Result<()> {
        self.rotate_at = Instant::now() + self.rotation;
        let Some(listening) = self.listening else { return Ok(()) };
        if let Some(before) = self.own.back() {
            // It says good-bye; nobody waits for that.
            let _ = self.daemon.unregister(before);
        }
        let service = announcement(listening)?;
        self.own.push_back(service.get_fullname().to_owned());
        if self.own.len() > OWN_NAMES_KEPT {
            self.own.pop_front();
        }
        self.daemon.register(service).map_err(failed)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // Says good-bye and ends the thread; nobody waits for that.
        let _ = self.daemon.shutdown();
    }
}

/// A daemon that looks for devices on the interface of the address, or on all.
fn browse(listening: Option<SocketAddr>) -> Result<(ServiceDaemon, Receiver<ServiceEvent>)> {
    let daemon = ServiceDaemon::new().map_err(failed)?;
    daemon.set_ip_check_interval(INTERFACES_EVERY_S).map_err(failed)?;
    if let Some(ip) = listening.map(|at| at.ip()).filter(|ip| !ip.is_unspecified()) {
        daemon.disable_interface(IfKind::All).map_err(failed)?;
        daemon.enable_interface(IfKind::Addr(ip)).map_err(failed)?;
    }
    let found = daemon.browse(SERVICE).map_err(failed)?;
    Ok((daemon, found))
}

/// All that is said of this device.
fn announcement(listening: SocketAddr) -> Result<ServiceInfo> {
    let (name, host) = (random_name()?, format!("{}.local.", random_name()?));
    let (ip, port) = (listening.ip(), listening.port());
    let no_text: &[(&str, &str)] = &[];
    if ip.is_unspecified() {
        let service = ServiceInfo::new(SERVICE, &name, &host, "", port, no_text);
        Ok(service.map_err(failed)?.enable_addr_auto())
    } else {
        ServiceInfo::new(SERVICE, &name, &host, ip, port, no_text).map_err(failed)
    }
}

fn random_name() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn addresses<'a>(
    ips: impl IntoIterator<Item = &'a ScopedIp>,
    port: u16,
    here: &Networks,
) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = ips
        .into_iter()
        .filter(|_| port != 0)
        .map(|ip| match ip {
            // Reached through the interface that it was heard on.
            ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
                SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index).into()
            }
            ip => SocketAddr::new(ip.to_ip_addr(), port),
        })
        .filter(|address| here.reach(address.ip()))
        .collect();
    addresses.sort_unstable();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// The networks that this machine is on, beside those that are local everywhere.
struct Networks(Vec<(IpAddr, IpAddr)>);

impl Networks {
    /// As they are now. Where the system does not tell, only what is local everywhere is.
    fn of_this_machine() -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        Self(interfaces.iter().map(|interface| network(&interface.addr)).collect())
    }

    /// Whether an address is on the local network: of a range for that (RFC 1918, RFC 3927, RFC
    /// 4193, RFC 4291), or of a network that this machine is on.
    fn reach(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_place = !ip.is_unspecified() && !ip.is_multicast();
        let is_local = match ip {
            IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
            IpAddr::V6(ip) => {
                ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback()
            }
        };
        let is_on = |(own, mask): &(IpAddr, IpAddr)| match (ip, own, mask) {
            (IpAddr::V4(ip), IpAddr::V4(own), IpAddr::V4(mask)) => {
                let mask = mask.to_bits();
                mask != 0 && ip.to_bits() & mask == own.to_bits() & mask
            }
            (IpAddr::V6(ip), IpAddr::V6(own), IpAddr::V6(mask)) => {
                let mask = mask.to_bits();
                mask != 0 && ip.to_bits() & mask == own.to_bits() & mask
            }
            _ => false,
        };
        is_place && ip != IpAddr::from([255; 4]) && (is_local || self.0.iter().any(is_on))
    }
}

fn network(address: &if_addrs::IfAddr) -> (IpAddr, IpAddr) {
    match address {
        if_addrs::IfAddr::V4(v4) => (v4.ip.into(), v4.netmask.into()),
        if_addrs::IfAddr::V6(v6) => (v6.ip.into(), v6.netmask.into()),
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Discovery(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Those that broadcast, one at a time: they hear each other.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    async fn hears(discovery: &mut Discovery, port: u16) -> Vec<SocketAddr> {
        let found = async {
            loop {
                // Others may be about on this machine.
                let found = discovery.next().await.unwrap();
                if found.iter().all(|address| address.port() == port) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
    }

    /// Real multicast, on the loopback interface alone.
    #[tokio::test(flavor = "multi_thread")]
    async fn two_devices_find_each_other_and_again_under_new_names() {
        let _alone = ALONE.lock().await;
        let mut first = Discovery::with_rotation(Some(at(4001)), Duration::from_secs(3)).unwrap();
        let mut second = Discovery::start(Some(at(4002))).unwrap();
        assert_eq!(hears(&mut second, 4001).await, [at(4001)]);
        assert_eq!(hears(&mut first, 4002).await, [at(4002)]);
        let before = first.own.back().cloned();
        let (again, _) = tokio::join!(hears(&mut second, 4001), async {
            tokio::time::timeout(Duration::from_secs(4), first.next()).await
        });
        assert_eq!(again, [at(4001)]);
        assert_ne!(first.own.back(), before.as_ref());
    }

    #[test]
    fn an_announcement_holds_random_names_and_an_address_and_nothing_else() {
        let of = |listening: &str| announcement(listening.parse().unwrap()).unwrap();
        let (first, second) = (of("127.0.0.1:4711"), of("127.0.0.1:4711"));
        for (announced, other) in [(&first, &second), (&second, &first)] {
            let name = announced.get_fullname().strip_suffix(&format!(".{SERVICE}")).unwrap();
            let host = announced.get_hostname().strip_suffix(".local.").unwrap();
            for random in [name, host] {
                assert!(random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(!other.get_fullname().contains(random));
                assert!(!other.get_hostname().contains(random));
            }
            assert_ne!(name, host);
            assert_eq!(announced.get_properties().len(), 0);
            assert_eq!(announced.get_port(), 4711);
        }
        assert!(of("0.0.0.0:4711").is_addr_auto());
    }

    /// Somebody in a café announces addresses of a server far away, and every laptop there that
    /// runs this knocks at its door.
    #[test]
    fn only_places_on_the_local_network_are_tried_and_not_many_of_them() {
        let ips = |ips: &[&str]| {
            ips.iter().map(|ip| ScopedIp::from(ip.parse::<IpAddr>().unwrap())).collect::<Vec<_>>()
        };
        let none = Networks(Vec::new());
        let odd = ["0.0.0.0", "255.255.255.255", "224.0.0.251", "::", "ff02::fb"];
        assert_eq!(addresses(&ips(&odd), 1, &none), []);
        let far = ["203.0.113.7", "2001:db8::7", "100.64.0.1", "::ffff:203.0.113.7"];
        assert_eq!(addresses(&ips(&far), 1, &none), []);
        let near = ["127.0.0.1", "192.168.1.2", "10.9.8.7", "169.254.1.1", "fe80::1", "fd00::1"];
        assert_eq!(addresses(&ips(&near), 1, &none).len(), near.len());
        assert_eq!(addresses(&ips(&near), 0, &none), []);
        let pair = |own: &str, mask: &str| (own.parse().unwrap(), mask.parse().unwrap());
        let campus = Networks(vec![
            pair("203.0.113.1", "255.255.255.0"),
            pair("2001:db8::1", "ffff:ffff:ffff:ffff::"),
        ]);
        let (here, far) = (["203.0.113.7", "2001:db8::7"], ["203.0.114.7", "2001:db8:0:1::7"]);
        assert_eq!(addresses(&ips(&here), 1, &campus).len(), 2);
        assert_eq!(addresses(&ips(&far), 1, &campus), []);
        let unknown = Networks(vec![pair("203.0.113.1", "0.0.0.0")]);
        assert_eq!(addresses(&ips(&far), 1, &unknown), []);
        let many: Vec<String> = (0..99).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(addresses(&ips(&many), 1, &none).len(), ADDRESSES_MAX);
    }

    /// A machine on the network announces one new device after the other. What was heard of them
    /// was kept, all of it, for over an hour.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_heard_is_forgotten_when_it_is_too_much() {
        let _alone = ALONE.lock().await;
        let mut discovery = Discovery::start(Some(at(4003))).unwrap();
        discovery.records_max = 20;
        let before = discovery.own.clone();
        let flood: Vec<Discovery> =
            (0..20).map(|n| Discovery::start(Some(at(5000 + n))).unwrap()).collect();
        let forgotten = async {
            while discovery.own == before {
                discovery.next().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_mins(1), forgotten).await.unwrap();
        drop(flood);
        // It goes on all the same.
        discovery.records_max = RECORDS_MAX;
        let _late = Discovery::start(Some(at(4004))).unwrap();
        assert_eq!(hears(&mut discovery, 4004).await, [at(4004)]);
    }
}
