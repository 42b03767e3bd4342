//! What the agent does when collector, keys or disk are not as they should be: it names and counts the fault,
//! goes on sealing, and ships when things are right again.

use std::fs;

use crate::node::{World, until};

const SETTINGS: [&str; 8] = [
    "--sensors",
    "procfs",
    "--set",
    "sensors.scan_ms=50",
    "--set",
    "batch.seal_ms=50",
    "--set",
    "batch.heartbeat_ms=100",
];

fn fault(world: &World, kind: &str) -> String {
    until(&format!("a fault of kind {kind} is counted"), || {
        let shipping = world.status()?.shipping?;
        (*shipping.faults.get(kind)? > 0).then(|| shipping.last_fault.unwrap_or_default())
    })
}

#[test]
fn a_foreign_authority_is_refused_by_name_and_enrolling_again_mends_it() {
    let mut world = World::new(&SETTINGS);
    let other = World::new(&SETTINGS);
    world.start_collector();
    let (ours, theirs) = (world.agent_dir().join("ca.crt"), other.agent_dir().join("ca.crt"));
    let good = fs::read(&ours).unwrap();
    fs::copy(theirs, &ours).unwrap();
    world.start_agent();
    let said = fault(&world, "tls");
    assert!(
        said.contains("authority") || said.contains("certificate"),
        "{said}"
    );
    let sealed = world.status().unwrap().chain.batches;
    until("sealing goes on", || {
        (world.status()?.chain.batches > sealed).then_some(())
    });
    fs::write(&ours, good).unwrap();
    world.drain();
}

#[test]
fn a_host_of_another_collector_is_refused_by_name() {
    let mut world = World::new(&SETTINGS);
    let other = World::new(&SETTINGS);
    world.start_collector();
    fs::copy(
        other.agent_dir().join("tls.crt"),
        world.agent_dir().join("tls.crt"),
    )
    .unwrap();
    fs::copy(
        other.agent_dir().join("tls.key"),
        world.agent_dir().join("tls.key"),
    )
    .unwrap();
    world.start_agent();
    let said = fault(&world, "tls");
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn an_expired_certificate_is_refused_by_name() {
    let mut world = World::new(&SETTINGS);
    world.start_collector();
    let pki = world.collector_dir().join("pki");
    let authority = rcgen::Issuer::from_ca_cert_pem(
        &fs::read_to_string(pki.join("ca.crt")).unwrap(),
        rcgen::KeyPair::from_pem(&fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap(),
    )
    .unwrap();
    let own = world.agent_dir().join("tls.key");
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(own).unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    let name = format!("hostledger:host:{}", world.host);
    params.subject_alt_names = vec![rcgen::SanType::URI(name.as_str().try_into().unwrap())];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let expired = params.signed_by(&key, &authority).unwrap();
    fs::write(world.agent_dir().join("tls.crt"), expired.pem()).unwrap();
    world.start_agent();
    let said = fault(&world, "tls");
    assert!(said.contains("expired") && said.contains("tls.crt"), "{said}");
    assert!(world.status().unwrap().spool.batches > 0 || world.status().unwrap().chain.batches == 0);
}

#[test]
fn a_host_that_is_not_registered_is_refused_by_name() {
    let mut world = World::new(&SETTINGS);
    world.start_collector();
    let hosts = world.collector_dir().join("hosts");
    let registration = hosts.join(format!("{}.toml", world.host));
    let aside = world.collector_dir().join("aside.toml");
    fs::rename(&registration, &aside).unwrap();
    world.start_agent();
    let said = fault(&world, "refused-host");
    assert!(said.contains("host"), "{said}");
    fs::rename(&aside, &registration).unwrap();
}

#[test]
fn a_missing_ledger_key_keeps_everything_in_the_spool() {
    let mut world = World::new(&SETTINGS);
    world.start_collector();
    let path = world.agent_dir().join("ledger.vkey");
    let good = fs::read(&path).unwrap();
    fs::write(&path, "nonsense").unwrap();
    world.start_agent();
    let said = fault(&world, "files");
    assert!(said.contains("ledger.vkey"), "{said}");
    assert!(!world.status().unwrap().shipping.unwrap().connected);
    fs::write(&path, good).unwrap();
    world.drain();
}
