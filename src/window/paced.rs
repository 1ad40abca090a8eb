//! A connection whose client must read its answers, or is cut off: an unread answer blocks the thread that produces it.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Minimum reading speed: `bytes_min` for each `window` of waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub window: Duration,
    pub bytes_min: usize,
}

/// A stream on which a write fails with `TimedOut` if the client reads too slowly. Time without a pending write does not count.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    /// Start of the pending write.
    waits_since: Option<Instant>,
    /// Earlier waiting time since `bytes_min` were last reached.
    waited: Duration,
    written: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub fn new(stream: S, pace: Pace) -> Self {
        Self { stream, pace, waits_since: None, waited: Duration::ZERO, written: 0, timer: None }
    }

    /// Accounts for one attempt to write.
    fn tried<T>(&mut self, context: &mut Context<'_>, tried: Poll<io::Result<T>>, bytes: impl Fn(&T) -> usize) -> Poll<io::Result<T>> {
        let now = Instant::now();
        if let Poll::Ready(done) = tried {
            self.waited += self.waits_since.take().map_or(Duration::ZERO, |since| now - since);
            self.written += done.as_ref().map_or(0, bytes);
            if self.written >= self.pace.bytes_min {
                (self.waited, self.written) = (Duration::ZERO, 0);
            }
            return Poll::Ready(done);
        }
        let since = *self.waits_since.get_or_insert(now);
        let end = since + self.pace.window.saturating_sub(self.waited);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads its answer too slowly"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.tried(context, tried, |count| *count)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.tried(context, tried, |count| *count)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_flush(context);
        self.tried(context, tried, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_shutdown(context);
        self.tried(context, tried, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    /// Returns true if a client that reads `bytes` at each interval is cut off.
    async fn is_cut(pace: Pace, bytes: usize, every: Duration) -> bool {
        let (ours, mut theirs) = duplex(4_096);
        let mut paced = Paced::new(ours, pace);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while theirs.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        });
        let wrote = paced.write_all(&vec![7; 4_096 + 20 * bytes]).await;
        reading.abort();
        wrote.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test]
    async fn x1_a_client_that_reads_too_slowly_is_cut_off_and_others_are_not() {
        let millis = Duration::from_millis;
        assert!(is_cut(Pace { window: millis(300), bytes_min: 1_000 }, 1, millis(20)).await);
        assert!(is_cut(Pace { window: millis(300), bytes_min: 1_000 }, 10, millis(20)).await);
        assert!(!is_cut(Pace { window: Duration::from_secs(10), bytes_min: 1_000 }, 1_000, millis(20)).await);
    }

    #[tokio::test]
    async fn a_client_that_waits_for_rare_events_is_not_cut_off() {
        let (ours, mut theirs) = duplex(64);
        let mut paced = Paced::new(ours, Pace { window: Duration::from_secs(2), bytes_min: 60 });
        for _event in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (wrote, read) = tokio::join!(paced.write_all(&[7; 80]), async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                theirs.read_exact(&mut [0; 80]).await
            });
            wrote.unwrap();
            read.unwrap();
        }
    }
}
