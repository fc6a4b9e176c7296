//! Descriptors over a socket, each with one byte of its own among the socket's bytes.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use tokio::{io::Interest, net::UnixStream};

/// The byte that goes with a descriptor.
const MARK: u8 = 0;

/// Sends a descriptor.
pub(super) async fn send(to: &UnixStream, descriptor: impl AsFd) -> io::Result<()> {
    to.async_io(Interest::WRITABLE, || Ok(send_now(to.as_fd(), descriptor.as_fd())?)).await
}

fn send_now(to: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(to, &[IoSlice::new(&[MARK])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a descriptor from a blocking socket. It is closed at `exec`.
pub(super) fn receive(from: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut mark = [0; 1];
    loop {
        let mut mark = [IoSliceMut::new(&mut mark)];
        match recvmsg(&from, &mut mark, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.next().ok_or_else(|| io::Error::other("a descriptor did not come"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
        os::unix::net::UnixStream as StdUnixStream,
    };

    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;

    #[tokio::test]
    async fn a_descriptor_travels_between_bytes_and_closes_at_exec() {
        let (ours, mut theirs) = StdUnixStream::pair().unwrap();
        (&ours).write_all(b"ab").unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let (read, mut write) = io::pipe().unwrap();
        send(&ours, &read).await.unwrap();
        drop((ours, read));
        theirs.read_exact(&mut [0; 2]).unwrap();
        let received = receive(&theirs).unwrap();
        assert!(fcntl_getfd(&received).unwrap().contains(FdFlags::CLOEXEC));
        write.write_all(b"c").unwrap();
        let mut read = [0; 1];
        File::from(received).read_exact(&mut read).unwrap();
        assert_eq!(read, *b"c");
        assert!(receive(&theirs).is_err(), "no other came");
    }
}
