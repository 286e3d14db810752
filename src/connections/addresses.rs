//! Where this machine can be found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The addresses to put into an invitation, for a socket that listens on `bound`: likeliest first.
pub(super) fn of(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for probe in PROBES {
        if (bound.is_ipv6() || probe.is_ipv4())
            && let Some(ip) = local_ip_towards(probe)
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    // For a second profile on the same machine.
    found.push(Ipv4Addr::LOCALHOST.into());
    found.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

/// Which of this machine's addresses the system would send from. Connecting a UDP socket sends
/// nothing.
fn local_ip_towards(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, DISCARD_PORT)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// One address beyond every network (RFC 5737, RFC 3849), and one in each range for private ones
/// (RFC 1918, RFC 4193), which may be reached through another interface.
const PROBES: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(172, 16, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
];
const DISCARD_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_socket_is_found_on_loopback_alone() {
        let bound = SocketAddr::from(([127, 0, 0, 1], 4711));
        assert_eq!(of(bound), [bound]);
    }

    #[test]
    fn an_open_socket_is_found_on_every_address_with_its_port_once() {
        let found = of(SocketAddr::from(([0, 0, 0, 0], 4711)));
        assert!(found.iter().all(SocketAddr::is_ipv4));
        let found = of(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 4711)));
        assert_eq!(found.last(), Some(&SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert!(found.len() <= PROBES.len() + 1);
        for (at, address) in found.iter().enumerate() {
            assert_eq!(address.port(), 4711);
            assert!(!address.ip().is_unspecified());
            assert!(!found[..at].contains(address));
        }
    }
}
