//! The settings as flags: one flag for each, all values kept as text so that every fault is reported at once.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{ENV_PREFIX, Raw, SETTINGS};

/// The settings given as flags.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings(pub(super) Raw);

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| {
            let help = format!(
                "{} [default: {}; {ENV_PREFIX}{}]",
                setting.help,
                setting.default,
                setting.name.to_uppercase()
            );
            command.arg(
                Arg::new(setting.name)
                    .long(setting.name.replace('_', "-"))
                    .value_name("VALUE")
                    .help_heading("Settings")
                    .help(help),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.0.insert(setting.name.to_owned(), value.clone());
            }
        }
        Ok(())
    }
}
