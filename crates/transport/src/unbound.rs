//! What an endpoint that was closed has in place of its socket.
//!
//! quinn keeps a socket for as long as anything of it is alive: a connection that was being made to
//! a device that does not answer, for three seconds. On its address nobody else can listen
//! meanwhile.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// No socket; quinn's tasks end with the error that it gives them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unbound(pub(crate) SocketAddr);

impl AsyncUdpSocket for Unbound {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(*self)
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Err(gone())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(gone()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }
}

impl UdpPoller for Unbound {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(gone()))
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the endpoint was closed")
}
