//! `hostledger-agent`: parses the command line, builds, runs. Logic lives in the library.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use agent::{
    config::{self, Config, Layout},
    doctor,
    identity::Identity,
    run, status,
};
use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exit code for a setting that cannot be used (sysexits: EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

/// Watches this host, seals what it sees into a signed chain and ships it to a collector.
#[derive(Parser)]
#[command(
    name = "hostledger-agent",
    version,
    after_help = "Diagnostics go to stderr; RUST_LOG sets their level."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this host's keys and certificate request; prints the host id
    Init(Init),
    /// Watch, seal and ship until SIGTERM or SIGINT
    Run(Run),
    /// Say what works here and what is missing, with the remedy; exit code 1 if something failed
    Doctor(Doctor),
    /// Show what a running agent says of itself; exit code 1 if none runs
    Status(Status),
    /// List every setting with its default and meaning
    Settings,
}

#[derive(Args)]
struct Dir {
    /// The agent's directory: keys, settings, spool, state
    #[arg(
        long,
        env = "HOSTLEDGER_AGENT_DIR",
        default_value = "/var/lib/hostledger-agent"
    )]
    dir: PathBuf,
}

#[derive(Args)]
struct Init {
    #[command(flatten)]
    dir: Dir,
    /// Address of the collector, host:port
    #[arg(long)]
    collector: Option<String>,
    /// Name in the collector's certificate, if it is not the host of its address
    #[arg(long)]
    server_name: Option<String>,
    /// Name shown for this host; the node name if left out
    #[arg(long)]
    name: Option<String>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Args)]
struct Settings {
    /// Settings file; agent.toml in the directory if left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the collector, host:port
    #[arg(long)]
    collector: Option<String>,
    /// Sensors to try: auto or procfs
    #[arg(long)]
    sensors: Option<String>,
    /// Any setting, e.g. batch.seal_ms=250; `hostledger-agent settings` lists them
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct Doctor {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    settings: Settings,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Args)]
struct Status {
    #[command(flatten)]
    dir: Dir,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    let outcome = match cli.command {
        Command::Init(init) => make(&init),
        Command::Run(run) => watch(&run),
        Command::Doctor(doctor) => examine(&doctor),
        Command::Status(status) => show(&status),
        Command::Settings => say(&config::template(&[])).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        let config = error.downcast_ref::<config::ConfigFaults>().is_some()
            || error
                .downcast_ref::<run::RunError>()
                .is_some_and(|error| matches!(error, run::RunError::Identity(_)));
        ExitCode::from(if config { EXIT_CONFIG } else { 1 })
    })
}

/// Writes to standard output. A reader that went away (`| head`) has what it wanted: no fault.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

fn load(dir: &Dir, settings: &Settings) -> anyhow::Result<(Layout, Config)> {
    let layout = Layout { dir: dir.dir.clone() };
    let mut flags: Vec<(&str, String)> = Vec::new();
    for pair in &settings.set {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        flags.push((key, value.to_owned()));
    }
    flags.extend(
        settings
            .collector
            .clone()
            .map(|value| ("collector.address", value)),
    );
    flags.extend(settings.sensors.clone().map(|value| ("sensors.choice", value)));
    let file = settings.config.clone().unwrap_or_else(|| layout.config());
    let mut config = Config::load(&file, settings.config.is_some(), std::env::vars(), &flags)?;
    if config.name.is_empty() {
        config.name = node_name();
    }
    Ok((layout, config))
}

fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn make(init: &Init) -> anyhow::Result<ExitCode> {
    let layout = Layout {
        dir: init.dir.dir.clone(),
    };
    let name = init.name.clone().unwrap_or_else(node_name);
    let mut set = vec![("name", name.clone())];
    set.extend(init.collector.clone().map(|value| ("collector.address", value)));
    set.extend(
        init.server_name
            .clone()
            .map(|value| ("collector.server_name", value)),
    );
    // Judged before anything is written.
    Config::load(&layout.config(), false, std::iter::empty(), &set)?;
    let identity = Identity::create(&layout, &name)?;
    if !layout.config().exists() {
        agent::disk::replace(&layout.config(), config::template(&set).as_bytes(), 0o644)
            .with_context(|| layout.config().display().to_string())?;
    }
    let csr = layout.csr();
    match init.output {
        Output::Json => say(&serde_json::json!(
            { "host": identity.host(), "name": name, "dir": layout.dir, "csr": csr }
        )
        .to_string()),
        Output::Table => say(&format!(
            "host  {}\nname  {name}\ndir   {dir}\ncsr   {csr}\n\nNext, where the collector's directory C is:\n  \
             hostledger-collector enrol --dir C --csr {csr} --out {dir}",
            identity.host(),
            dir = layout.dir.display(),
            csr = csr.display(),
        )),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn watch(args: &Run) -> anyhow::Result<ExitCode> {
    let (layout, config) = load(&args.dir, &args.settings)?;
    run::run(&layout, &config)?;
    Ok(ExitCode::SUCCESS)
}

fn examine(args: &Doctor) -> anyhow::Result<ExitCode> {
    let (layout, config) = load(&args.dir, &args.settings)?;
    let checks = doctor::examine(layout.dir.exists().then_some(&layout), &config);
    match args.output {
        Output::Json => say(&serde_json::to_string_pretty(&checks)?),
        Output::Table => say(&doctor::table(&checks)),
    }?;
    let failed = checks
        .iter()
        .any(|check| check.verdict == doctor::Verdict::Failed);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn show(args: &Status) -> anyhow::Result<ExitCode> {
    let layout = Layout {
        dir: args.dir.dir.clone(),
    };
    let report = status::ask(&layout.state()).with_context(|| {
        format!(
            "no agent answers on {}: is it running?",
            status::socket(&layout.state()).display()
        )
    })?;
    match args.output {
        Output::Json => say(&serde_json::to_string_pretty(&report)?),
        Output::Table => say(&status::table(&report)),
    }?;
    Ok(ExitCode::SUCCESS)
}
