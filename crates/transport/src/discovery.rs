//! Finding devices on the local network, by mDNS (RFC 6762) and DNS-SD (RFC 6763).
//!
//! Invariants: what is broadcast says that a device here speaks Larder, its addresses and its port,
//! and nothing else. The names in it are random, drawn anew every hour; there is no TXT
//! record. Who a device is shows in the handshake alone, to whoever connects; and who connects in
//! order to find out ([`crate::Endpoint::key_at`]) shows nothing of itself.

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
/// Names of one's own that may still come back from the network.
const OWN_NAMES_KEPT: usize = 4;

/// Announces this device and hears of others, from [`Discovery::start`] on until it is dropped.
pub struct Discovery {
    daemon: ServiceDaemon,
    found: Receiver<ServiceEvent>,
    listening: Option<SocketAddr>,
    rotation: Duration,
    rotate_at: Instant,
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
        let daemon = ServiceDaemon::new().map_err(failed)?;
        daemon.set_ip_check_interval(INTERFACES_EVERY_S).map_err(failed)?;
        if let Some(ip) = listening.map(|at| at.ip()).filter(|ip| !ip.is_unspecified()) {
            daemon.disable_interface(IfKind::All).map_err(failed)?;
            daemon.enable_interface(IfKind::Addr(ip)).map_err(failed)?;
        }
        let found = daemon.browse(SERVICE).map_err(failed)?;
        let rotate_at = Instant::now();
        let own = VecDeque::new();
        let mut discovery = Self { daemon, found, listening, rotation, rotate_at, own };
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
            tokio::select! {
                event = self.found.recv_async() => match event {
                    Ok(ServiceEvent::ServiceResolved(service))
                        if !self.own.iter().any(|own| own == service.get_fullname()) =>
                    {
                        let addresses = addresses(service.get_addresses(), service.get_port());
                        if !addresses.is_empty() {
                            return Ok(addresses);
                        }
                    }
                    Ok(_) => {}
                    // So many at once that some were lost: they are asked for again.
                    Err(_) => self.found = self.daemon.browse(SERVICE).map_err(failed)?,
                },
                () = sleep_until(self.rotate_at), if self.listening.is_some() => self.rotate()?,
            }
        }
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

fn addresses<'a>(ips: impl IntoIterator<Item = &'a ScopedIp>, port: u16) -> Vec<SocketAddr> {
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
        .filter(|address| is_a_place(address.ip()))
        .collect();
    addresses.sort_unstable();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

fn is_a_place(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255, 255, 255, 255])
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Discovery(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

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

    #[test]
    fn only_what_can_be_a_place_is_tried_and_not_much_of_it() {
        let ips = |ips: &[IpAddr]| ips.iter().map(|ip| ScopedIp::from(*ip)).collect::<Vec<_>>();
        let odd = ips(&[
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::BROADCAST.into(),
            Ipv4Addr::new(224, 0, 0, 251).into(),
            Ipv6Addr::UNSPECIFIED.into(),
            "ff02::fb".parse().unwrap(),
        ]);
        assert_eq!(addresses(&odd, 1), []);
        assert_eq!(addresses(&ips(&[Ipv4Addr::LOCALHOST.into()]), 0), []);
        let many: Vec<IpAddr> = (0..99).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        assert_eq!(addresses(&ips(&many), 1).len(), ADDRESSES_MAX);
    }
}
