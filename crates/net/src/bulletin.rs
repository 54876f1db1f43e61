//! A value that is posted by few and read by thousands of tasks, all of which wake when it changes.

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How many tasks are woken before others may enlist.
const WAKES_AT_ONCE: usize = 64;

/// The side that posts.
///
/// Like a [`watch`] channel, except for how readers wait. There, each wait links a node into one list for all and each wake-up unlinks
/// it, and its neighbours in the list are other tasks' memory, which is cold when thousands are told of something twice a minute. Here a
/// reader leaves its task's waker behind once, in an array, and waiting touches nothing but the reader itself.
#[derive(Debug)]
pub struct Bulletin<T> {
    value: watch::Sender<T>,
    /// Dropped after `value`, so that readers see that it is gone.
    bell: Bell,
}

/// The side that reads. A clone has seen what the original has.
#[derive(Debug)]
pub struct Reader<T> {
    value: watch::Receiver<T>,
    ear: Ear,
}

/// Nobody posts any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody is left to post")]
pub struct Abandoned;

impl<T> Bulletin<T> {
    /// With a first value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value: watch::Sender::new(value), bell: Bell::default() }
    }

    /// One more reader, for whom the present value is not new.
    #[must_use]
    pub fn reader(&self) -> Reader<T> {
        Reader { value: self.value.subscribe(), ear: Ear::of(&self.bell.0) }
    }

    /// The same value for those who are few.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<T> {
        self.value.subscribe()
    }

    /// The present value, which nobody can change meanwhile.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    /// Changes the value and wakes all readers.
    pub fn modify(&self, change: impl FnOnce(&mut T)) {
        self.value.send_modify(change);
        self.bell.ring();
    }

    /// The same, if `change` says that it has changed anything.
    pub fn modify_if(&self, change: impl FnOnce(&mut T) -> bool) {
        if self.value.send_if_modified(change) {
            self.bell.ring();
        }
    }

    /// Whether there are no readers.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.value.is_closed()
    }

    /// Waits until there are no readers. Cancel safe.
    pub async fn unread(&self) {
        self.value.closed().await;
    }
}

impl<T> Clone for Bulletin<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), bell: self.bell.clone() }
    }
}

impl<T> Reader<T> {
    /// The present value, which nobody can change meanwhile.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.value.borrow()
    }

    /// The same, and it is not new any more.
    pub fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// The same value for those who are few.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<T> {
        self.value.clone()
    }

    /// Waits until there is something new, which is then not new any more. Cancel safe.
    ///
    /// # Errors
    ///
    /// If nobody is left to post, and all was seen.
    pub async fn changed(&mut self) -> Result<(), Abandoned> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// [`Self::changed`] for a hand-written future.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Abandoned>> {
        // First, or a change in between would wake nobody.
        self.ear.enlist(cx.waker());
        match self.value.has_changed() {
            Ok(false) => Poll::Pending,
            Ok(true) => {
                self.value.mark_unchanged();
                Poll::Ready(Ok(()))
            }
            Err(_) if self.value.borrow().has_changed() => {
                self.value.mark_unchanged();
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Ready(Err(Abandoned)),
        }
    }

    /// Whether nobody is left to post.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.value.has_changed().is_err()
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ear: Ear::of(&self.ear.wakers) }
    }
}

/// Wakes all that have enlisted, also when it is dropped.
#[derive(Clone, Debug, Default)]
struct Bell(Arc<Mutex<Wakers>>);

/// Who is to be woken; places of those who left are given out again.
#[derive(Debug, Default)]
struct Wakers {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// One reader's place among them.
#[derive(Debug)]
struct Ear {
    wakers: Arc<Mutex<Wakers>>,
    /// Where `waker` stands, if anywhere.
    place: Option<(usize, Waker)>,
}

impl Bell {
    fn ring(&self) {
        let mut first = 0;
        loop {
            let wakers = lock(&self.0);
            let Some(rest) = wakers.places.get(first..).filter(|rest| !rest.is_empty()) else { return };
            rest.iter().take(WAKES_AT_ONCE).flatten().for_each(Waker::wake_by_ref);
            first += WAKES_AT_ONCE;
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

impl Ear {
    fn of(wakers: &Arc<Mutex<Wakers>>) -> Self {
        Self { wakers: Arc::clone(wakers), place: None }
    }

    /// Sees to it that this task is woken; does nothing if it is the one that was enlisted before.
    fn enlist(&mut self, waker: &Waker) {
        if self.place.as_ref().is_some_and(|(_, known)| known.will_wake(waker)) {
            return;
        }
        let mut wakers = lock(&self.wakers);
        let place = match &self.place {
            Some((place, _)) => *place,
            None => wakers.claim(),
        };
        let before = wakers.places.get_mut(place).and_then(|mine| mine.replace(waker.clone()));
        let former = self.place.replace((place, waker.clone()));
        // The last waker of a task may take the task's memory with it, which nobody else should wait for.
        drop(wakers);
        drop((before, former));
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let Some((place, _)) = self.place.take() else { return };
        let mut wakers = lock(&self.wakers);
        let left = wakers.places.get_mut(place).and_then(Option::take);
        wakers.free.push(place);
        // The last waker of a task may take the task's memory with it, which nobody else should wait for.
        drop(wakers);
        drop(left);
    }
}

impl Wakers {
    fn claim(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }
}

/// What is behind the lock is whole after every statement, so a panic elsewhere has not spoilt it.
fn lock(wakers: &Mutex<Wakers>) -> MutexGuard<'_, Wakers> {
    wakers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use core::pin::pin;
    use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A task that only counts how often it was woken.
    fn task() -> (Arc<CountWakes>, Waker) {
        let wakes = Arc::new(CountWakes::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }

    fn poll<T>(reader: &mut Reader<T>, waker: &Waker) -> Poll<Result<(), Abandoned>> {
        // Each wait is a future of its own, as in a `select!`.
        pin!(reader.changed()).poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn all_readers_wake_once_for_each_change_however_often_they_waited() {
        let bulletin = Bulletin::new(0);
        let tasks: Vec<_> = (0..1_000).map(|_| task()).collect();
        let mut readers: Vec<_> = tasks.iter().map(|_| bulletin.reader()).collect();
        for value in 1..=3 {
            for (reader, (_, waker)) in readers.iter_mut().zip(&tasks) {
                assert_eq!([poll(reader, waker), poll(reader, waker)], [Poll::Pending; 2]);
            }
            bulletin.modify(|posted| *posted = value);
            for (reader, (wakes, waker)) in readers.iter_mut().zip(&tasks) {
                assert_eq!(wakes.0.load(SeqCst), value);
                assert_eq!(poll(reader, waker), Poll::Ready(Ok(())));
                assert_eq!(*reader.borrow(), value);
            }
        }
    }

    #[test]
    fn a_change_that_changes_nothing_wakes_nobody() {
        let bulletin = Bulletin::new(7);
        let ((wakes, waker), mut reader) = (task(), bulletin.reader());
        assert_eq!(poll(&mut reader, &waker), Poll::Pending);
        bulletin.modify_if(|_| false);
        assert_eq!((wakes.0.load(SeqCst), poll(&mut reader, &waker)), (0, Poll::Pending));
        bulletin.modify_if(|value| core::mem::replace(value, 8) != 8);
        assert_eq!((wakes.0.load(SeqCst), poll(&mut reader, &waker)), (1, Poll::Ready(Ok(()))));
    }

    #[test]
    fn who_waits_in_another_task_wakes_there_and_who_left_does_not() {
        let bulletin = Bulletin::new(0);
        let [(first, first_waker), (second, second_waker)] = [task(), task()];
        let mut reader = bulletin.reader();
        assert_eq!(poll(&mut reader, &first_waker), Poll::Pending);
        assert_eq!(poll(&mut reader, &second_waker), Poll::Pending);
        bulletin.modify(|value| *value += 1);
        assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (0, 1));
        drop(reader);
        bulletin.modify(|value| *value += 1);
        assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (0, 1));
        assert_eq!(Arc::strong_count(&second), 2, "nothing of the task is kept");
        let mut next = bulletin.reader();
        assert_eq!(poll(&mut next, &first_waker), Poll::Pending);
        assert_eq!(lock(&bulletin.bell.0).places.len(), 1, "its place is given out again");
    }

    #[test]
    fn the_end_of_the_last_bulletin_is_told() {
        let bulletin = Bulletin::new(0);
        let ((wakes, waker), mut reader) = (task(), bulletin.reader());
        assert_eq!(poll(&mut reader, &waker), Poll::Pending);
        drop(bulletin.clone());
        assert_eq!(poll(&mut reader, &waker), Poll::Pending);
        let before = wakes.0.load(SeqCst);
        bulletin.modify(|value| *value = 9);
        drop(bulletin);
        assert!(wakes.0.load(SeqCst) > before && reader.is_abandoned());
        assert_eq!(
            (poll(&mut reader, &waker), *reader.borrow()),
            (Poll::Ready(Ok(())), 9),
            "the last word counts"
        );
        assert_eq!(poll(&mut reader, &waker), Poll::Ready(Err(Abandoned)));
    }

    #[test]
    fn a_clone_has_seen_what_the_original_has() {
        let bulletin = Bulletin::new(0);
        let (_, waker) = task();
        let mut reader = bulletin.reader();
        bulletin.modify(|value| *value = 1);
        let mut unseen = reader.clone();
        assert_eq!(*reader.borrow_and_update(), 1);
        assert_eq!(poll(&mut unseen, &waker), Poll::Ready(Ok(())));
        assert_eq!(poll(&mut reader.clone(), &waker), Poll::Pending);
    }

    /// Reads until it finds that value, each time as another reader or always as the same.
    async fn read_on(mut reader: Reader<u32>, last: u32, moves: bool) {
        while *reader.borrow_and_update() < last {
            if moves {
                reader = reader.clone();
            }
            reader.changed().await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_change_is_missed_while_tasks_come_and_go() {
        let bulletin = Bulletin::new(0_u32);
        let readers: Vec<_> = (0..200).map(|_| bulletin.reader()).collect();
        let read = |(at, reader)| tokio::spawn(read_on(reader, 500, at % 2 == 0));
        let tasks: Vec<_> = readers.into_iter().enumerate().map(read).collect();
        for _ in 0..500 {
            bulletin.modify(|value| *value += 1);
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
}
