//! A value that is posted by few and read by thousands of tasks, all of which wake when it changes.

use core::future::poll_fn;
use core::task::{Poll, Waker};
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
        poll_fn(|cx| {
            // First, or a change in between would wake nobody.
            self.ear.enlist(cx.waker());
            match self.value.has_changed() {
                Ok(false) => Poll::Pending,
                Err(_) if !self.value.borrow().has_changed() => Poll::Ready(Err(Abandoned)),
                Ok(true) | Err(_) => {
                    self.value.mark_unchanged();
                    Poll::Ready(Ok(()))
                }
            }
        })
        .await
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
    use core::task::Context;

    use tokio_test::task::{Spawn, spawn};

    use super::*;

    const WAITS: Poll<Result<(), Abandoned>> = Poll::Pending;
    const NEW: Poll<Result<(), Abandoned>> = Poll::Ready(Ok(()));

    /// Each look is a future of its own, as in a `select!`.
    fn poll<T>(reader: &mut Reader<T>, cx: &mut Context<'_>) -> Poll<Result<(), Abandoned>> {
        pin!(reader.changed()).poll(cx)
    }

    fn look<T>(task: &mut Spawn<Reader<T>>) -> Poll<Result<(), Abandoned>> {
        task.enter(|cx, reader| poll(reader.get_mut(), cx))
    }

    #[test]
    fn all_readers_wake_for_each_change_however_often_they_waited() {
        let bulletin = Bulletin::new(0);
        let mut tasks: Vec<_> = (0..1_000).map(|_| spawn(bulletin.reader())).collect();
        for value in 1..=3 {
            for task in &mut tasks {
                assert_eq!([look(task), look(task)], [WAITS; 2]);
            }
            bulletin.modify(|posted| *posted = value);
            for task in &mut tasks {
                assert!(task.is_woken());
                assert_eq!((look(task), *task.borrow(), task.is_woken()), (NEW, value, false));
            }
        }
        assert_eq!(lock(&bulletin.bell.0).places.len(), tasks.len(), "each has one place");
    }

    #[test]
    fn a_change_that_changes_nothing_wakes_nobody() {
        let bulletin = Bulletin::new(7);
        let mut task = spawn(bulletin.reader());
        assert_eq!(look(&mut task), WAITS);
        bulletin.modify_if(|_| false);
        assert!(!task.is_woken());
        assert_eq!(look(&mut task), WAITS);
        bulletin.modify_if(|value| core::mem::replace(value, 8) != 8);
        assert!(task.is_woken());
        assert_eq!(look(&mut task), NEW);
    }

    #[test]
    fn who_waits_in_another_task_wakes_there_and_who_left_does_not() {
        let bulletin = Bulletin::new(0);
        let mut reader = bulletin.reader();
        let (mut first, mut second) = (spawn(()), spawn(()));
        for task in [&mut first, &mut second] {
            assert_eq!(task.enter(|cx, _| poll(&mut reader, cx)), WAITS);
        }
        bulletin.modify(|value| *value += 1);
        assert!(!first.is_woken() && second.is_woken());
        let kept = second.waker_ref_count();
        drop(reader);
        assert_eq!(
            (first.waker_ref_count(), second.waker_ref_count()),
            (1, 1),
            "nothing of the task is kept, of {kept}"
        );
        let mut next = spawn(bulletin.reader());
        assert_eq!(look(&mut next), WAITS);
        assert_eq!(lock(&bulletin.bell.0).places.len(), 1, "its place is given out again");
    }

    #[test]
    fn the_end_of_the_last_bulletin_is_told() {
        let bulletin = Bulletin::new(0);
        let mut task = spawn(bulletin.reader());
        drop(bulletin.clone());
        assert_eq!(look(&mut task), WAITS);
        bulletin.modify(|value| *value = 9);
        assert_eq!(look(&mut task), NEW);
        bulletin.modify(|value| *value = 10);
        drop(bulletin);
        assert!(task.is_woken() && task.is_abandoned());
        assert_eq!((look(&mut task), *task.borrow()), (NEW, 10), "the last word counts");
        assert_eq!(look(&mut task), Poll::Ready(Err(Abandoned)));
    }

    #[test]
    fn a_clone_has_seen_what_the_original_has() {
        let bulletin = Bulletin::new(0);
        let mut reader = bulletin.reader();
        bulletin.modify(|value| *value = 1);
        let mut unseen = spawn(reader.clone());
        assert_eq!(*reader.borrow_and_update(), 1);
        assert_eq!((look(&mut unseen), look(&mut spawn(reader.clone()))), (NEW, WAITS));
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
