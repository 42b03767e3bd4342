//! What kind a test is: by the target it lies in, else by its name (CONTRIBUTING.md).
//!
//! Owns the naming convention and nothing else.

use clap::ValueEnum;

/// Modules whose tests are fault tests, whatever target they lie in.
const FAULT_MODULES: &[&str] = &["crash", "full_disk", "bad_batches", "bad_peers", "refused"];

/// A kind of test, in the order they are run and reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// One function or module, by example.
    Unit,
    /// A law over generated inputs.
    Property,
    /// Bytes frozen in a file.
    Golden,
    /// Both session machines and a crashing store in virtual time.
    Simulation,
    /// Our proofs and ledgers before verifiers that others wrote.
    Oracle,
    /// Real programs under injected faults.
    Fault,
    /// The eBPF programs in the running kernel.
    Kernel,
    /// The real programs together.
    EndToEnd,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 8] = [
        Self::Unit,
        Self::Property,
        Self::Golden,
        Self::Simulation,
        Self::Oracle,
        Self::Fault,
        Self::Kernel,
        Self::EndToEnd,
    ];

    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Property => "property",
            Self::Golden => "golden",
            Self::Simulation => "simulation",
            Self::Oracle => "oracle",
            Self::Fault => "fault",
            Self::Kernel => "kernel",
            Self::EndToEnd => "end-to-end",
        }
    }

    /// True where the test loads eBPF programs, makes namespaces or runs the real agent.
    pub(crate) fn needs_root(self) -> bool {
        matches!(self, Self::Fault | Self::Kernel | Self::EndToEnd)
    }

    /// True where the test runs the three programs.
    pub(crate) fn needs_programs(self) -> bool {
        matches!(self, Self::Fault | Self::EndToEnd)
    }

    /// True for targets of which two tests at a time would see each other: they share a kernel.
    pub(crate) fn one_at_a_time(package: &str, target: &str) -> bool {
        Self::of_target(package, target).is_some_and(Self::needs_root)
    }

    /// The kind of a whole test target, from the `tests` package's file names.
    pub(crate) fn of_target(package: &str, target: &str) -> Option<Self> {
        if package != "tests" {
            return None;
        }
        let kinds = [
            ("simulation", Self::Simulation),
            ("oracle", Self::Oracle),
            ("fault", Self::Fault),
            ("kernel", Self::Kernel),
            ("end_to_end", Self::EndToEnd),
        ];
        kinds
            .iter()
            .find(|(prefix, _)| target.starts_with(prefix))
            .map(|(_, kind)| *kind)
    }

    /// The kind of one test: its module's, else its target's, else what its name says.
    pub(crate) fn of(package: &str, target: &str, name: &str) -> Self {
        if name.split("::").any(|part| FAULT_MODULES.contains(&part)) {
            return Self::Fault;
        }
        Self::of_target(package, target).unwrap_or_else(|| Self::of_name(target, name))
    }

    /// The kind of a test in a target that has no kind of its own, from its path of names.
    fn of_name(target: &str, name: &str) -> Self {
        let parts = || std::iter::once(target).chain(name.split("::"));
        if parts().any(|part| part.starts_with("prop_")) {
            Self::Property
        } else if parts().any(|part| part == "golden" || part.starts_with("golden_")) {
            Self::Golden
        } else {
            Self::Unit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_the_tests_package_have_a_kind() {
        assert_eq!(Kind::of_target("tests", "simulation"), Some(Kind::Simulation));
        assert_eq!(Kind::of_target("tests", "end_to_end_api"), Some(Kind::EndToEnd));
        assert_eq!(Kind::of_target("tests", "tests"), None);
        assert_eq!(Kind::of_target("common", "simulation"), None);
    }

    #[test]
    fn modules_tell_fault_tests_in_any_target() {
        assert_eq!(
            Kind::of("tests", "end_to_end_ingest", "full_disk::a"),
            Kind::Fault
        );
        assert_eq!(Kind::of("ledger", "ledger", "crash::a"), Kind::Fault);
        assert_eq!(
            Kind::of("tests", "end_to_end_ingest", "good::crash_free"),
            Kind::EndToEnd
        );
    }

    #[test]
    fn names_tell_property_and_golden_tests() {
        assert_eq!(
            Kind::of_name("common", "codec::tests::prop_round_trip"),
            Kind::Property
        );
        assert_eq!(
            Kind::of_name("common", "event::tests::golden_exec_v1"),
            Kind::Golden
        );
        assert_eq!(Kind::of_name("golden", "exec_v1"), Kind::Golden);
        assert_eq!(Kind::of_name("common", "properties_of_nothing"), Kind::Unit);
    }
}
