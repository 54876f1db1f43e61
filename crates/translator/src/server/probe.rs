//! A look at an upstream without any work for it.

use core::time::Duration;

use adit_net::{Clock, Intake, Timer, at_once};

use super::TranslatorConfig;
use super::link::LinkError;
use super::wire::{Speaker, Wire};
use crate::job::NoRoom;
use crate::upstream::{DOUBT_AFTER, Event};

/// How long an upstream may take to hear that this was all.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Why machines could not work for an upstream.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ProbeError(LinkError);

impl TranslatorConfig {
    /// Finds an upstream, by its place in the list, connects, shakes hands with it and introduces itself, as a translator does that begins to
    /// work for it; then it leaves, before any channel is opened.
    ///
    /// # Errors
    ///
    /// If it cannot be found, reached or trusted, does not speak the protocol, does not want us, or leaves machines too little to roll, as far
    /// as it says so before a channel is opened. There is none at any other place.
    pub async fn probe(&self, upstream: usize) -> Result<(), ProbeError> {
        self.introduce(upstream).await.map_err(ProbeError)
    }

    async fn introduce(&self, upstream: usize) -> Result<(), LinkError> {
        let to = self.destination(upstream, DOUBT_AFTER).ok_or(LinkError::Dismissed)?;
        let mut connection = Wire::dial(&to).await?;
        let (mut speaker, mut timer) = (Speaker::new(&to, Clock.monotonic()), Timer::default());
        loop {
            while let Some(event) = speaker.poll_event() {
                if matches!(event, Event::Ready { .. }) {
                    let room = speaker
                        .extranonce_size()
                        .map(|size| NoRoom::check(size, self.machine.extranonce2_len));
                    room.transpose()?;
                    connection.close(CLOSE_PATIENCE).await;
                    return Ok(());
                }
            }
            connection.queue(&mut speaker)?;
            timer.set(speaker.poll_timeout());
            tokio::select! {
                () = timer.fired() => {
                    // A pool that has answered is not judged by how long this process was stopped.
                    if let Some(io) = at_once(connection.io(Intake::Open)).await {
                        io?;
                        while connection.read_one(&mut speaker)? {}
                    }
                    speaker.handle_timeout(Clock.monotonic())?;
                }
                io = connection.io(Intake::Open) => {
                    io?;
                    while connection.read_one(&mut speaker)? {}
                }
            }
        }
    }
}
