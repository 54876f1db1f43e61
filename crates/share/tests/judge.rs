//! The judge from outside: against a naive twin, against `channels_sv2`, against vectors, and without memory.

#[cfg(test)]
#[path = "judge/allocation.rs"]
mod allocation;
#[cfg(test)]
#[path = "judge/differential.rs"]
mod differential;
#[cfg(test)]
#[path = "judge/fixture.rs"]
mod fixture;
#[cfg(test)]
#[path = "judge/naive.rs"]
mod naive;
#[cfg(test)]
#[path = "judge/oracle.rs"]
mod oracle;
#[cfg(test)]
#[path = "judge/pairs.rs"]
mod pairs;
#[cfg(test)]
#[path = "judge/vectors.rs"]
mod vectors;
