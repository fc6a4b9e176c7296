//! Waits for several descriptors at once.

use std::{io, os::fd::BorrowedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};

/// Waits until one of them is ready or the time is over; `None` means no timeout. Returns which are
/// ready.
pub(super) fn wait_for<const N: usize>(
    whom: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    time: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut asked: Vec<PollFd<'_>> = whom
        .iter()
        .flatten()
        .map(|(descriptor, what)| PollFd::from_borrowed_fd(*descriptor, *what))
        .collect();
    let time = time.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    match poll(&mut asked, time.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut answers = asked.iter().map(|answer| !answer.revents().is_empty());
    Ok(whom.map(|descriptor| descriptor.is_some() && answers.next().unwrap_or_default()))
}

/// Whether a child has ended; it stays a zombie, so that its process id is not reused.
pub(super) fn has_ended(child: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(child), options) {
        Ok(status) => Ok(status.is_some()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
