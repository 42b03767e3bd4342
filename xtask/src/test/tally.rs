//! Counting: how many of each kind passed and failed, what they proved, and the closing line.
//!
//! Owns the verdict of a run.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::kinds::Kind;

/// Passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Tests that failed.
    pub(crate) failed: usize,
}

/// The counts of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    kinds: BTreeMap<Kind, Counts>,
    checks: Vec<(String, Counts)>,
    failures: Vec<String>,
    ignored: Vec<String>,
    not_checked: Vec<String>,
}

impl Tally {
    /// Counts a test.
    pub(crate) fn test(&mut self, kind: Kind, name: &str, passed: bool) {
        let counts = self.kinds.entry(kind).or_default();
        count(counts, passed);
        if !passed {
            self.failures.push(format!("{} test {name}", kind.name()));
        }
    }

    /// Counts a test that its author switched off.
    pub(crate) fn ignored(&mut self, name: &str) {
        self.ignored.push(name.to_owned());
    }

    /// Names what could not be checked here and why; it counts neither as passed nor as failed.
    pub(crate) fn not_checked(&mut self, name: &str, why: &str) {
        println!("    NOT CHECKED: {why}");
        self.not_checked.push(format!("{name} ({why})"));
    }

    /// Counts a check that is no test (style, dependencies, fuzzing).
    pub(crate) fn check(&mut self, name: &str, outcome: &Result<()>) {
        let mut counts = Counts::default();
        count(&mut counts, outcome.is_ok());
        self.checks.push((name.to_owned(), counts));
        if let Err(error) = outcome {
            println!("    FAILED: {error:#}");
            self.failures.push(name.to_owned());
        }
    }

    /// Prints the counts and decides: fails on any failure, and on a required kind without tests.
    pub(crate) fn close(mut self, required: &[Kind]) -> Result<()> {
        for kind in required {
            if self
                .kinds
                .get(kind)
                .is_none_or(|counts| counts.passed + counts.failed == 0)
            {
                self.failures.push(format!(
                    "no {} test ran, though this kind should have",
                    kind.name()
                ));
            }
        }
        println!("\ntests run");
        for (kind, counts) in &self.kinds {
            println!(
                "  {:<12} {:>5} passed, {} failed",
                kind.name(),
                counts.passed,
                counts.failed
            );
        }
        for (name, counts) in &self.checks {
            println!(
                "  {name:<12} {}",
                if counts.failed == 0 { "ok" } else { "FAILED" }
            );
        }
        for name in &self.ignored {
            println!("  ignored: {name}");
        }
        for name in &self.not_checked {
            println!("  NOT CHECKED: {name}");
        }
        for failure in &self.failures {
            println!("  FAILED: {failure}");
        }
        let (passed, failed) = self.totals();
        println!("{passed} passed, {failed} failed");
        if failed > 0 {
            bail!("the run failed");
        }
        Ok(())
    }

    /// Everything that passed, and every reason to fail.
    fn totals(&self) -> (usize, usize) {
        let all = self
            .kinds
            .values()
            .chain(self.checks.iter().map(|(_, counts)| counts));
        (all.map(|counts| counts.passed).sum(), self.failures.len())
    }
}

fn count(counts: &mut Counts, passed: bool) {
    if passed {
        counts.passed += 1;
    } else {
        counts.failed += 1;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_run_without_a_required_kind_fails() {
        let mut tally = Tally::default();
        tally.test(Kind::Unit, "a", true);
        assert!(tally.close(&[Kind::Unit, Kind::Kernel]).is_err());
    }

    #[test]
    fn a_run_with_everything_required_passes() {
        let mut tally = Tally::default();
        tally.test(Kind::Unit, "a", true);
        tally.check("style", &Ok(()));
        tally.not_checked("advisories", "no network");
        assert_eq!(tally.totals(), (2, 0), "what was not checked has not passed");
        assert!(tally.close(&[Kind::Unit]).is_ok());
    }

    #[test]
    fn one_failing_test_or_check_fails_the_run() {
        let mut tally = Tally::default();
        tally.test(Kind::Unit, "a", true);
        tally.test(Kind::Unit, "b", false);
        assert_eq!(tally.totals(), (1, 1));
        assert!(tally.close(&[Kind::Unit]).is_err());
        let mut tally = Tally::default();
        tally.check("style", &Err(anyhow!("broken")));
        assert!(tally.close(&[]).is_err());
    }
}
