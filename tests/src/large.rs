//! A collector's directory with a large ledger of real batches, made without a collector.

use std::{path::Path, sync::Arc, time::SystemTime};

use collector::{
    layout::Layout,
    pki::{self, ServerName},
};
use common::{
    event::{baseline::Phase, process::ProcessCause},
    ids::WallNanos,
    note::SignerKey,
    receipt::Receipt,
};
use ledger::{Entry, Ledger, Local};

use crate::chains::{GOES_ON, Maker, STARTS, baseline, event, process, process_key, run_begins};

/// Batches in a group.
const GROUP: usize = 64;

/// The directory and what the world was told of it.
pub struct Large {
    /// Where it lies.
    pub layout: Layout,
    /// Its key.
    pub signer: SignerKey,
    /// Headers of some batches with the receipts that their agents got at that time.
    pub receipts: Vec<(Vec<u8>, Receipt)>,
    /// Every host's chain, to go on from.
    pub chains: Vec<Maker>,
}

impl Large {
    /// Hosts from seed 1 on, with so many batches each in turn, 10 ms a batch with one program of 1.5 kB started in it.
    ///
    /// # Panics
    /// Where the disk does not take it.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "serves tests only")]
    pub fn make(dir: &Path, hosts: u8, batches: u64) -> Self {
        let layout = Layout::new(dir);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = WallNanos(u64::try_from(now.as_nanos()).unwrap());
        let names = [ServerName::Dns("localhost".to_owned())];
        pki::init(&layout, "ledger.example/prune", &names, now).unwrap();
        let text = std::fs::read_to_string(layout.ledger_key()).unwrap();
        let signer = SignerKey::parse(text.trim()).unwrap();
        let chains: Vec<Maker> = std::thread::scope(|scope| {
            let made: Vec<_> = (1..=hosts)
                .map(|seed| scope.spawn(move || chain(seed, batches)))
                .collect();
            made.into_iter().map(|made| made.join().unwrap()).collect()
        });
        let storage = Local::open_writer(&layout.ledger()).unwrap();
        let describe = collector::pipeline::describe;
        let (mut ledger, _) = Ledger::open(Arc::new(storage), signer.clone(), describe).unwrap();
        let leaves: Vec<&(Vec<u8>, Vec<u8>)> = (0..usize::try_from(batches).unwrap())
            .flat_map(|at| chains.iter().map(move |chain| &chain.sealed[at]))
            .collect();
        let mut receipts = Vec::new();
        for (at, group) in leaves.chunks(GROUP).enumerate() {
            let entries: Vec<Entry<'_>> = group
                .iter()
                .map(|(header, body)| Entry { header, body })
                .collect();
            let first = ledger.append_group(&entries).unwrap();
            if at % 16 == 0 {
                ledger.integrate_and_publish().unwrap();
                // As an agent gets them: under the checkpoint of that moment.
                receipts.push((group[0].0.clone(), ledger.reader().receipt(first).unwrap()));
            }
        }
        ledger.integrate_and_publish().unwrap();
        drop(leaves);
        Self {
            layout,
            signer,
            receipts,
            chains,
        }
    }
}

/// One host's chain.
fn chain(seed: u8, batches: u64) -> Maker {
    let mut maker = Maker::new(seed);
    let mut begun = run_begins(maker.host(), &format!("node-{seed}"), 0);
    begun.push(event(5, baseline(0, Phase::Complete { events: 3 })));
    maker.seal(STARTS, 0, 9, &begun);
    for at in 1..batches {
        seal_next(&mut maker, at);
    }
    maker
}

/// Seals a chain's batch of that number.
pub fn seal_next(maker: &mut Maker, at: u64) {
    let long = vec![b'a'; 1_500];
    let pid = u32::try_from(at % 4_000_000_000).unwrap_or_default() + 10;
    let fact = process(
        process_key(pid, at * 10),
        None,
        &[b"/bin/work", &long],
        ProcessCause::Exec,
    );
    maker.seal(GOES_ON, at * 10, at * 10 + 9, &[event(at * 10 + 1, fact)]);
}
