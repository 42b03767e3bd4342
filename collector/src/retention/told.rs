//! What `prune` and `hold` say, for people and for programs: the same whether the collector runs or not.

use common::{
    answer::Moment,
    ids::StatementNumber,
    retention::{Holds, Plan, Policy},
    statement::Hold,
};
use ledger::{prune::Report, storage::Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Pruned;

/// An outcome, told twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// For programs.
    pub value: Value,
    /// For people.
    pub text: String,
}

/// What a policy would remove.
#[must_use]
pub fn planned(policy: &Policy, plan: &Plan) -> Told {
    Told {
        value: planned_value(policy, plan),
        text: format!("would remove {}", in_words(policy, plan)),
    }
}

/// What a prune removed.
#[must_use]
pub fn pruned(policy: &Policy, pruned: &Pruned) -> Told {
    let Pruned { plan, stated, report } = pruned;
    let lost_in_all = lost(report.before, report.after);
    let text = format!(
        "removed {}\n\
         groups      {} rewritten, {}\n\
         ledger      {} bytes on disk before, {} after: du lost {}; certificates, their tiles, directories and whatever \
         came in meanwhile took the difference",
        in_words(policy, plan),
        report.changes.len(),
        freed_in_words(report),
        report.before.disk,
        report.after.disk,
        lost_in_all["disk"],
    );
    let objects: Vec<Value> = report
        .changes
        .iter()
        .map(|change| {
            json!({
                "object": change.object, "bodies": change.bodies, "body_bytes": change.body_bytes,
                "before": usage(change.before), "after": usage(change.after),
            })
        })
        .collect();
    let mut value = planned_value(policy, plan);
    if let Some(map) = value.as_object_mut() {
        map.insert("statements".into(), json!(stated));
        map.insert("removed_bodies".into(), json!(report.bodies()));
        map.insert("removed_body_bytes".into(), json!(report.body_bytes()));
        map.insert("objects".into(), Value::Array(objects));
        map.insert("freed".into(), usage(report.freed()));
        map.insert("lost_by_removal".into(), lost(report.stated, report.after));
        map.insert("lost".into(), lost_in_all);
        map.insert(
            "ledger".into(),
            json!({
                "before": usage(report.before),
                "stated": usage(report.stated),
                "after": usage(report.after),
            }),
        );
    }
    Told { value, text }
}

/// A hold was set.
#[must_use]
pub fn hold_added(number: Option<StatementNumber>, hold: &Hold) -> Told {
    Told {
        value: json!({"statement": number, "hold": hold}),
        text: row(number.unwrap_or_default(), hold),
    }
}

/// A hold was lifted.
#[must_use]
pub fn hold_lifted(number: Option<StatementNumber>, hold: StatementNumber) -> Told {
    let by = number.unwrap_or_default();
    Told {
        value: json!({"statement": number, "lifted": hold}),
        text: format!("statement {by} lifts the hold of statement {hold}"),
    }
}

/// The holds in force.
#[must_use]
pub fn holds_listed(holds: &Holds) -> Told {
    let rows = holds.in_force();
    let values: Vec<Value> = rows
        .iter()
        .map(|(number, hold)| json!({"statement": number, "hold": hold}))
        .collect();
    let lines: Vec<String> = rows.iter().map(|(number, hold)| row(*number, hold)).collect();
    Told {
        value: Value::Array(values),
        text: if lines.is_empty() {
            "no legal hold is in force".to_owned()
        } else {
            lines.join("\n")
        },
    }
}

fn row(number: StatementNumber, hold: &Hold) -> String {
    format!("statement {number}: {hold}")
}

/// What went at the groups.
pub(super) fn freed_in_words(report: &Report) -> String {
    let freed = report.freed();
    format!(
        "{} bodies of {} bytes removed, {} bytes on disk freed ({} by length)",
        report.bodies(),
        report.body_bytes(),
        freed.disk,
        freed.apparent
    )
}

fn in_words(policy: &Policy, plan: &Plan) -> String {
    let certificates: Vec<String> = plan.certificates.iter().map(ToString::to_string).collect();
    format!(
        "{} bodies of {} bytes by policy {}; {} more stay for a legal hold{}",
        plan.bodies(),
        plan.bytes(),
        policy.text(),
        plan.held,
        certificates
            .iter()
            .map(|one| format!("\ncertificate {one}"))
            .collect::<String>()
    )
}

fn planned_value(policy: &Policy, plan: &Plan) -> Value {
    json!({
        "policy": policy.text(),
        "older_than": policy.older_than.map(Moment),
        "bodies": plan.bodies(),
        "body_bytes": plan.bytes(),
        "held": plan.held,
        "certificates": plan.certificates,
    })
}

fn usage(usage: Usage) -> Value {
    json!({"apparent": usage.apparent, "disk": usage.disk})
}

/// What a directory lost, negative where it grew.
fn lost(before: Usage, after: Usage) -> Value {
    let less = |before: u64, after: u64| i128::from(before) - i128::from(after);
    let whole = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "apparent": whole(less(before.apparent, after.apparent)),
        "disk": whole(less(before.disk, after.disk)),
    })
}
