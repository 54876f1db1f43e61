//! Whether the device can work with coinbases as long as the upstream's are.

use super::{Event, Machine};
use crate::job::Sv1Job;

impl Machine {
    /// Says once if the job's coinbase is longer than the device is known to take: it would find nothing that is valid, or stop.
    pub(super) fn watch_coinbase(&mut self, job: &Sv1Job) {
        let (length, longest) = (job.coinbase_len(self.config.extranonce2_len), self.device.coinbase_max);
        if self.long_coinbase.is_none() && length > longest {
            self.long_coinbase = Some(length);
            self.events.push_back(Event::LongCoinbase { length, longest });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adit_units::{Monotonic, Now, UnixTime};

    use super::*;
    use crate::Override;
    use crate::job::fixture::{Given, TIME};
    use crate::machine::{Lender, MachineConfig, MachineTerms};

    struct Nobody;

    impl Lender for Nobody {
        fn exchange(&mut self, _: [u8; 4], _: [u8; 4]) -> bool {
            false
        }
    }

    /// A job with 12 bytes of extranonce and coinbases of that length.
    fn job(number: u64, length: usize) -> Arc<Sv1Job> {
        let given = Given {
            coinbase: [50, length - 62],
            prefix: Vec::new(),
            extranonce_size: 12,
            ..Given::default()
        };
        let work = given.work();
        Arc::new(Sv1Job::new(&work, 0, (number, 0), 8).unwrap())
    }

    fn noted(user_agent: &str, lengths: &[usize]) -> (Vec<Event>, Option<usize>) {
        noted_by(MachineConfig::default(), user_agent, lengths)
    }

    /// A machine that calls itself that, and what it has been noted for after each of some jobs.
    fn noted_by(config: MachineConfig, user_agent: &str, lengths: &[usize]) -> (Vec<Event>, Option<usize>) {
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) };
        let terms = MachineTerms { extranonce1: [0, 0, 0, 1], seen_key: [0; 16] };
        let mut machine = Machine::new(Arc::new(config), terms, now.monotonic);
        let subscribe = format!("{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"{user_agent}\"]}}");
        let authorize = "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"a.b\",\"x\"]}";
        for line in [subscribe.as_str(), authorize] {
            machine.handle_line(line.as_bytes(), &mut Nobody, now).unwrap();
        }
        for (number, &length) in lengths.iter().enumerate() {
            machine.handle_job(&job(256 * (number as u64 + 1), length), now.monotonic);
        }
        let mut events = Vec::new();
        while let Some(event) = machine.poll_event() {
            events.push(event);
        }
        (events, machine.report(now.monotonic).long_coinbase)
    }

    #[test]
    fn a_coinbase_that_is_too_long_for_a_device_is_told_once() {
        let ready = Event::Ready { user: "a.b".into() };
        assert_eq!(noted("NiceHash/1.0.0", &[400, 500]), (vec![ready.clone()], None));
        let told = Event::LongCoinbase { length: 501, longest: 500 };
        assert_eq!(noted("NiceHash/1.0.0", &[400, 501, 700, 501]), (vec![ready.clone(), told], Some(501)));
        assert_eq!(noted("bosminer-plus-tuner 0.2.0", &[501, 2250]), (vec![ready], None));
    }

    #[test]
    fn an_operator_could_not_say_how_long_a_coinbase_a_device_takes() {
        let known = Override { pattern: "NiceHash".into(), coinbase_max: Some(600), ..Override::default() };
        let config = MachineConfig { devices: vec![known], ..MachineConfig::default() };
        assert_eq!(noted_by(config.clone(), "NiceHash/1.0.0", &[600]).1, None);
        let (events, length) = noted_by(config, "NiceHash/1.0.0", &[601]);
        assert_eq!(
            (events.last(), length),
            (Some(&Event::LongCoinbase { length: 601, longest: 600 }), Some(601))
        );
    }
}
