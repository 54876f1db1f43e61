//! What the kernel alone takes to tell every connection something: the least that a new tip can take on loopback.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use adit_net::raise_descriptor_limit;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};

/// A sealed `SetNewPrevHash`: its frame, and a MAC for the header and one for the payload.
const SEALED_TIP: [u8; 98] = [0; 98];

/// New tips are rare: caches are cold, and processors asleep.
const BETWEEN_TIPS: Duration = Duration::from_millis(500);

/// Both ends of connections on loopback.
fn connections(count: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    (0..count)
        .map(|_| {
            let far = TcpStream::connect(address).expect("there is a listener");
            let (near, _) = listener.accept().expect("somebody has connected");
            near.set_nodelay(true).expect("it is a TCP socket");
            (near, far)
        })
        .unzip()
}

/// Until the last of `far` has what was written to all of `near`, in their order.
fn tell_all(near: &mut [TcpStream], far: &mut [TcpStream]) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for stream in far {
                stream.read_exact(&mut [0; SEALED_TIP.len()]).expect("it is being written to");
            }
        });
        for stream in near {
            stream.write_all(&SEALED_TIP).expect("the other end is there");
        }
    });
}

fn bench(criterion: &mut Criterion) {
    assert!(raise_descriptor_limit() > 2 * 5_000, "both ends of each connection are here");
    let mut group = criterion.benchmark_group("loopback");
    group.sample_size(10);
    for count in [1_000, 5_000] {
        let (mut near, mut far) = connections(count);
        group.bench_function(BenchmarkId::new("tell_all", count), |bencher| {
            let round = |()| tell_all(&mut near, &mut far);
            bencher.iter_batched(|| thread::sleep(BETWEEN_TIPS), round, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
