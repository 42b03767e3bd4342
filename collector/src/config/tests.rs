//! Precedence, bounds, and that no fault hides another.

use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("collector.toml");
    std::fs::write(&path, file).unwrap();
    let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Config::load(
        &path,
        own(environment).into_iter(),
        &own(flags).into_iter().collect(),
    )
}

#[test]
fn defaults_and_the_written_template_agree() {
    let defaults = load("", &[], &[]).unwrap();
    assert_eq!(defaults.commit_delay, Duration::from_millis(2));
    let uncommented: String = template(&Raw::new())
        .lines()
        .filter_map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(uncommented.lines().count(), SETTINGS.len());
    assert_eq!(load(&uncommented, &[], &[]).unwrap(), defaults);
    let chosen = Raw::from([("connections_max".to_owned(), "9".to_owned())]);
    assert_eq!(load(&template(&chosen), &[], &[]).unwrap().connections_max, 9);
}

#[test]
fn flags_override_environment_overrides_file() {
    let file = "connections_max = 1\ncommit_delay = \"1ms\"\ncommit_batches_max = \"7\"";
    let config = load(
        file,
        &[
            ("HOSTLEDGER_COLLECTOR_CONNECTIONS_MAX", "2"),
            ("HOSTLEDGER_COLLECTOR_COMMIT_DELAY", "3ms"),
            ("HOSTLEDGER_COLLECTOR_DIR", "elsewhere"),
            ("PATH", "/bin"),
        ],
        &[("connections_max", "3")],
    )
    .unwrap();
    assert_eq!(config.connections_max, 3);
    assert_eq!(config.commit_delay, Duration::from_millis(3));
    assert_eq!(config.commit_batches_max, 7);
}

#[test]
fn all_faults_are_reported_together_each_with_its_origin() {
    let faults = load(
        "connections_max = 0\nnonsense = 1\nidle_timeout = \"soon\"",
        &[
            ("HOSTLEDGER_COLLECTOR_HTTP_LISTEN", "nowhere"),
            ("HOSTLEDGER_COLLECTOR_TYPO", "1"),
        ],
        &[("connection_bytes_max", "99999999999")],
    )
    .unwrap_err()
    .0;
    let whats: Vec<&str> = faults
        .iter()
        .map(|fault| fault.what.split(" (").next().unwrap())
        .collect();
    assert_eq!(
        whats,
        [
            "nonsense",
            "HOSTLEDGER_COLLECTOR_TYPO",
            "HOSTLEDGER_COLLECTOR_HTTP_LISTEN",
            "connections_max",
            "--connection-bytes-max",
            "idle_timeout"
        ]
    );
}

#[test]
fn one_connection_may_not_take_more_than_all() {
    let flags = [
        ("connection_bytes_max", "8388608"),
        ("inflight_bytes_max", "4194304"),
    ];
    let faults = load("", &[], &flags).unwrap_err();
    assert!(
        faults.to_string().contains("is more than inflight_bytes_max"),
        "{faults}"
    );
}

#[test]
fn stamps_need_somebody_to_trust_and_somewhere_to_be_kept() {
    assert_eq!(load("", &[], &[]).unwrap().anchors, None);
    let whole = [
        ("anchor_file", "/other/disk/anchors"),
        ("anchor_tsa", "http://tsa.example"),
        ("anchor_tsa_ca", "tsa.pem"),
        ("anchor_http", "https://sink.example/in"),
        ("anchor_leaves", "7"),
    ];
    let targets = load("", &[], &whole).unwrap().anchors.unwrap();
    assert_eq!(targets.file, Some(PathBuf::from("/other/disk/anchors")));
    assert_eq!(
        targets.tsa,
        Some(("http://tsa.example".to_owned(), PathBuf::from("tsa.pem")))
    );
    assert_eq!((targets.leaves, targets.interval), (7, Duration::from_secs(3600)));
    let refused = |flags: &[(&str, &str)], why: &str| {
        let fault = load("", &[], flags).unwrap_err().to_string();
        assert!(fault.contains(why), "{flags:?}: {fault}");
    };
    refused(&whole[..2], "says whose stamps count");
    refused(&whole[2..3], "is set, but anchor_tsa is not");
    refused(&whole[1..3], "needs anchor_file as well");
    refused(&[("anchor_http", "sink.example")], "neither http:// nor https://");
    refused(&[("anchor_interval", "0s")], "is not between");
}

#[test]
fn a_file_that_is_no_toml_is_a_fault() {
    assert_eq!(load("= =", &[], &[]).unwrap_err().0.len(), 1);
}

#[test]
fn durations_need_a_unit() {
    assert_eq!(parse::duration("90d"), Some(Duration::from_secs(90 * 86_400)));
    for bad in [
        "",
        "5",
        "ms",
        "-1s",
        "1.5s",
        "1w",
        "99999999999999999999s",
        "99999999999999999d",
    ] {
        assert_eq!(parse::duration(bad), None, "{bad}");
    }
}
