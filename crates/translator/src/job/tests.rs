//! The parts of a job as machines put them together, against the pool's own way.

use adit_share::MAX_EXTRANONCE_LEN;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::hex::FromHex as _;

use super::fixture::{Given, TIME};
use super::*;

fn work(prefix: &[u8], extranonce_size: u16) -> ChannelWork {
    let merkle_path = vec![[3; 32], [4; 32]];
    Given { prefix: prefix.into(), extranonce_size, merkle_path, ..Given::default() }.work()
}

#[test]
fn the_length_of_a_coinbase_is_that_of_its_parts() {
    // Three bytes of the upstream's, and 16 of which 8 are rolled, 4 tell machines apart and 4 are zeros.
    let job = Sv1Job::new(&work(&[9; 3], 16), 0, (256, 0), 8).unwrap();
    assert_eq!(job.coinbase_len(8), 50 + 3 + 16 + 60);
}

fn params(line: &[u8]) -> Vec<serde_json::Value> {
    let line: serde_json::Value = serde_json::from_slice(line).unwrap();
    assert_eq!(line["method"], "mining.notify");
    line["params"].as_array().unwrap().clone()
}

/// The merkle root as a machine makes it of a line.
fn root(line: &[u8], extranonces: &[&[u8]]) -> [u8; 32] {
    let params = params(line);
    let bytes = |place: usize| Vec::from_hex(params[place].as_str().unwrap()).unwrap();
    let coinbase = [bytes(2), extranonces.concat(), bytes(3)].concat();
    let path =
        params[4].as_array().unwrap().iter().map(|step| Vec::from_hex(step.as_str().unwrap()).unwrap());
    let leaf = sha256d::Hash::hash(&coinbase).to_byte_array().to_vec();
    let root =
        path.fold(leaf, |root, step| sha256d::Hash::hash(&[root, step].concat()).to_byte_array().to_vec());
    root.try_into().unwrap()
}

#[test]
fn a_machine_and_the_pool_make_the_same_coinbase() {
    for (prefix, size, extranonce2_len) in [(6, 14, 8_u8), (8, 12, 8), (16, 16, 4), (0, 6, 2)] {
        let work = work(&vec![9; prefix], size);
        let job = Sv1Job::new(&work, 1, (256, 256), extranonce2_len).unwrap();
        let (one, two) = ([0xa1, 0xa2, 0xa3, 0xa4], vec![0xb0; extranonce2_len.into()]);
        let mut line = Vec::new();
        job.write(256, TIME, true, &mut line);
        let rolled = job.rolled(one, &two);
        assert_eq!(rolled.as_bytes().len(), usize::from(size), "all that the channel leaves is sent up");
        let whole = [&vec![9; prefix], rolled.as_bytes()].concat();
        assert_eq!(root(&line, &[&one, &two]), work.job.merkle_root(&whole).unwrap());
        let assignment = job.assignment(one, Target::MAX).unwrap();
        assert_eq!(assignment.target(), Target::MAX);
        assert!(whole.len() <= MAX_EXTRANONCE_LEN);
    }
}

#[test]
fn a_channel_without_room_is_told_with_what_would_fit() {
    let error = Sv1Job::new(&work(&[9; 8], 8), 1, (256, 256), 8).unwrap_err();
    assert_eq!(error, NoRoom { given: 8, needed: 12 });
    let text = |given| NoRoom { given, needed: 12 }.to_string();
    assert!(text(8).ends_with("machines need 12; lower translator.extranonce2_size to 4 or less"));
    assert!(text(6).ends_with("to 2 or less"));
    assert!(text(5).ends_with("fewer than 6"), "it told to set what the config refuses");
    assert!(Sv1Job::new(&work(&[9; 8], 8), 1, (256, 256), 4).is_ok());
}

#[test]
fn the_line_carries_the_number_the_time_and_the_flag_that_it_is_written_with() {
    let job = Sv1Job::new(&work(&[9; 8], 12), 1, (0xabc00, 0), 8).unwrap();
    let mut lines = Vec::new();
    job.write(0xabc00, TIME, true, &mut lines);
    job.write(0xabc01, TIME + 1, false, &mut lines);
    let lines: Vec<_> = lines.split_inclusive(|&byte| byte == b'\n').map(params).collect();
    assert_eq!((&lines[0][0], &lines[0][8]), (&"00000000000abc00".into(), &true.into()));
    assert_eq!((&lines[1][0], &lines[1][8]), (&"00000000000abc01".into(), &false.into()));
    assert_eq!(lines[0][1..7], lines[1][1..7]);
    assert_eq!(
        (&lines[0][7], &lines[1][7]),
        (&format!("{TIME:08x}").into(), &format!("{:08x}", TIME + 1).into())
    );
}

#[test]
fn a_renewed_job_is_the_same_but_for_its_number() {
    let job = Sv1Job::new(&work(&[9; 8], 12), 1, (256, 256), 8).unwrap();
    let later = job.renewed(512);
    assert_eq!((later.number(), later.ntime(), later.floor()), (512, TIME, 256));
    assert_eq!((later.route(), later.latest_ntime()), (job.route(), TIME + 3_600));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    job.write(1, TIME, false, &mut one);
    later.write(1, TIME, false, &mut two);
    assert_eq!(one, two);
}

#[test]
fn a_line_is_the_same_whether_it_is_kept_or_put_together_when_it_is_sent() {
    let line = |job: &Sv1Job, number, ntime, is_clean| {
        let mut line = b"before".to_vec();
        job.write(number, ntime, is_clean, &mut line);
        line
    };
    let fresh = Sv1Job::new(&work(&[9; 6], 14), 1, (256, 256), 8).unwrap();
    let kept = Sv1Job::new(&work(&[9; 6], 14), 1, (256, 256), 8).unwrap().rendered();
    let renewed = [&fresh, &kept].map(|job| job.renewed(512));
    assert_eq!(renewed.each_ref().map(|job| job.body.is_some()), [false, true]);
    for (number, ntime, is_clean) in
        [(256, TIME, true), (0x0123_4567_89ab_cdef, 0, false), (u64::MAX, u32::MAX, true)]
    {
        assert_eq!(line(&fresh, number, ntime, is_clean), line(&kept, number, ntime, is_clean));
        let [one, two] = &renewed;
        assert_eq!(line(one, number, ntime, is_clean), line(two, number, ntime, is_clean));
    }
}
