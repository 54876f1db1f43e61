//! A task that is told what to do over a bounded queue, and ends when nobody can tell it anything any more.

use core::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A handle on such a task. When it is dropped, the task is told nothing more and ends by itself.
#[derive(Debug)]
pub struct TaskHandle<C> {
    commands: mpsc::Sender<C>,
    task: JoinHandle<()>,
}

impl<C> TaskHandle<C> {
    /// Starts a task that has room for so many commands that it has not taken yet.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime, or without room for a command.
    pub fn spawn<F>(room: usize, run: impl FnOnce(mpsc::Receiver<C>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (commands, told) = mpsc::channel(room);
        Self { commands, task: tokio::spawn(run(told)) }
    }

    /// Tells it something; the answer is whether there was room for it, and the task to hear it.
    #[must_use]
    pub fn tell(&self, command: C) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Tells it nothing more, and waits until it has ended; the answer is whether it did so in time. It goes on by itself if not.
    pub async fn finish(self, patience: Duration) -> bool {
        drop(self.commands);
        // One that has panicked has ended too.
        timeout(patience, self.task).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_told_is_heard_before_the_end() {
        let (heard, mut hears) = mpsc::unbounded_channel();
        let task = TaskHandle::spawn(2, |mut told| async move {
            while let Some(number) = told.recv().await {
                heard.send(number).unwrap();
            }
        });
        assert!(task.tell(1) && task.tell(2));
        assert!(!task.tell(3), "there is no room, because nobody has listened yet");
        assert!(task.finish(Duration::from_secs(60)).await);
        assert_eq!((hears.recv().await, hears.recv().await, hears.recv().await), (Some(1), Some(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_end_is_not_waited_for_for_ever() {
        let task = TaskHandle::<()>::spawn(1, |_told| core::future::pending());
        assert!(!task.finish(Duration::from_secs(5)).await);
    }
}
