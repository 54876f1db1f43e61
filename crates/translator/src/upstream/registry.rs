//! Which channels there are, what their owners call them, and whom a message is for.

use std::collections::{BTreeMap, BTreeSet};

use adit_units::{Hashrate, Monotonic};

use super::UpstreamError;
use super::channel::Channel;

/// The most channels of a connection, those being opened among them.
pub const CHANNELS_MAX: usize = 65_536;

/// A channel that was asked for.
#[derive(Debug)]
pub(super) struct Opening {
    /// What its owner calls it, or `None` if nobody wants it any more.
    pub(super) key: Option<u64>,
    pub(super) user: Box<str>,
    /// What the pool was told.
    pub(super) nominal: Hashrate,
    /// What it has become since.
    pub(super) is: Hashrate,
    pub(super) asked_at: Monotonic,
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// With the number of its request.
    Opening(u32),
    /// With its own number.
    Open(u32),
}

/// The channels of a connection.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// On the heap, because half of such a map's places are empty where numbers only rise.
    open: BTreeMap<u32, Box<Channel>>,
    opening: BTreeMap<u32, Opening>,
    keys: BTreeMap<u64, Place>,
    /// Group and member.
    groups: BTreeSet<(u32, u32)>,
    last_request: u32,
    /// Channels without work, by when that began.
    idle: BTreeSet<(Monotonic, u32)>,
    /// Channels of whose speed the pool is to be told, by when.
    due: BTreeSet<(Monotonic, u32)>,
}

impl Registry {
    /// How many are open.
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    /// How many were asked for and not answered.
    pub(super) fn opening_len(&self) -> usize {
        self.opening.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() + self.opening.len() >= CHANNELS_MAX
    }

    pub(super) fn has_key(&self, key: u64) -> bool {
        self.keys.contains_key(&key)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.open.values().map(|channel| &**channel)
    }

    pub(super) fn channels_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.open.values_mut().map(|channel| &mut **channel)
    }

    pub(super) fn by_id(&mut self, id: u32) -> Option<&mut Channel> {
        self.open.get_mut(&id).map(|channel| &mut **channel)
    }

    /// Changes a channel in a way that may change when something is due for it.
    pub(super) fn change<T>(&mut self, id: u32, change: impl FnOnce(&mut Channel) -> T) -> Option<T> {
        let channel = self.open.get_mut(&id)?;
        let before = (channel.idle_since, channel.speed.due);
        let outcome = change(channel);
        let after = (channel.idle_since, channel.speed.due);
        if before != after {
            self.forget_times(id, before);
            self.idle.extend(after.0.map(|since| (since, id)));
            self.due.extend(after.1.map(|due| (due, id)));
        }
        Some(outcome)
    }

    fn forget_times(&mut self, id: u32, (idle_since, due): (Option<Monotonic>, Option<Monotonic>)) {
        if let Some(since) = idle_since {
            self.idle.remove(&(since, id));
        }
        if let Some(due) = due {
            self.due.remove(&(due, id));
        }
    }

    /// The channel that has been without work for longest, and since when.
    pub(super) fn longest_idle(&self) -> Option<(Monotonic, u32)> {
        self.idle.first().copied()
    }

    /// The channel of whose speed the pool is to be told first, and when.
    pub(super) fn first_due(&self) -> Option<(Monotonic, u32)> {
        self.due.first().copied()
    }

    /// The number of the open channel that its owner calls so.
    pub(super) fn id_of(&self, key: u64) -> Option<u32> {
        match self.keys.get(&key) {
            Some(&Place::Open(id)) => Some(id),
            Some(Place::Opening(_)) | None => None,
        }
    }

    pub(super) fn opening_by_key(&mut self, key: u64) -> Option<&mut Opening> {
        match self.keys.get(&key) {
            Some(Place::Opening(request)) => self.opening.get_mut(request),
            Some(Place::Open(_)) | None => None,
        }
    }

    /// The channels that a message with that number is for: the one, or else those of the group.
    pub(super) fn addressed(&self, id: u32) -> Vec<u32> {
        if self.open.contains_key(&id) {
            return vec![id];
        }
        self.members(id).collect()
    }

    fn members(&self, group: u32) -> impl Iterator<Item = u32> {
        self.groups.range((group, 0)..=(group, u32::MAX)).map(|&(_, member)| member)
    }

    /// Notes a request; the answer is its number.
    pub(super) fn ask(&mut self, key: u64, opening: Opening) -> u32 {
        let request = self.next_request();
        self.opening.insert(request, opening);
        self.keys.insert(key, Place::Opening(request));
        request
    }

    /// A number for a request, which none that waits for an answer has.
    pub(super) fn next_request(&mut self) -> u32 {
        self.last_request = self.last_request.wrapping_add(1);
        while self.opening.contains_key(&self.last_request) {
            self.last_request = self.last_request.wrapping_add(1);
        }
        self.last_request
    }

    /// The request with that number, which has been answered.
    pub(super) fn answer(&mut self, request: u32) -> Option<Opening> {
        let opening = self.opening.remove(&request)?;
        if let Some(key) = opening.key {
            self.keys.remove(&key);
        }
        Some(opening)
    }

    /// Whether that request waits for an answer.
    pub(super) fn is_asked(&self, request: u32) -> bool {
        self.opening.contains_key(&request)
    }

    /// That a channel may have this number.
    ///
    /// That its group may have the number of a channel is let pass: pools that know no groups write anything there.
    pub(super) fn check_new(&self, id: u32) -> Result<(), UpstreamError> {
        if self.open.contains_key(&id) {
            return Err(UpstreamError::Misbehaved("it gave two channels the same number"));
        }
        if self.members(id).next().is_some() {
            return Err(UpstreamError::Misbehaved("it gave a channel the number of a group"));
        }
        Ok(())
    }

    /// Notes a channel whose number was checked.
    pub(super) fn insert(&mut self, channel: Channel) {
        self.keys.insert(channel.key, Place::Open(channel.id));
        self.groups.insert((channel.group, channel.id));
        self.idle.extend(channel.idle_since.map(|since| (since, channel.id)));
        self.due.extend(channel.speed.due.map(|due| (due, channel.id)));
        self.open.insert(channel.id, Box::new(channel));
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Channel> {
        let channel = self.open.remove(&id)?;
        self.keys.remove(&channel.key);
        self.groups.remove(&(channel.group, id));
        self.forget_times(id, (channel.idle_since, channel.speed.due));
        Some(*channel)
    }

    /// The owner does not want the channel any more; the answer is the channel, if it was open. One that is being opened is then nobody's.
    pub(super) fn leave(&mut self, key: u64) -> Option<Channel> {
        match self.keys.remove(&key)? {
            Place::Open(id) => self.remove(id),
            Place::Opening(request) => {
                if let Some(opening) = self.opening.get_mut(&request) {
                    opening.key = None;
                }
                None
            }
        }
    }

    /// Puts a channel into a group; whether there is such a channel.
    ///
    /// # Errors
    ///
    /// If the group has the number of another channel, which is not allowed to become one.
    pub(super) fn regroup(&mut self, id: u32, group: u32) -> Result<bool, UpstreamError> {
        if group != id && self.open.contains_key(&group) {
            return Err(UpstreamError::Misbehaved("it made a group of a channel"));
        }
        let Some(channel) = self.open.get_mut(&id) else { return Ok(false) };
        self.groups.remove(&(channel.group, id));
        channel.group = group;
        self.groups.insert((group, id));
        Ok(true)
    }
}
