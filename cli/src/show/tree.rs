//! Who started whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use common::{
    answer::Row,
    event::{Fact, Field, Process, ProcessKey},
};

use super::columns::{command_line, executable};

/// Writes the processes of one host as trees; a process whose parent is not among them is a root.
pub(crate) fn write(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    let processes: BTreeMap<ProcessKey, &Process> = rows
        .iter()
        .filter_map(|row| match &row.fact {
            Fact::Process { key, record } => Some((*key, record)),
            _ => None,
        })
        .collect();
    let mut children: BTreeMap<Option<ProcessKey>, BTreeSet<ProcessKey>> = BTreeMap::new();
    for (key, record) in &processes {
        let parent = match record.parent {
            Field::Known(parent) if parent != *key && processes.contains_key(&parent) => Some(parent),
            _ => None,
        };
        children.entry(parent).or_default().insert(*key);
    }
    // A stack instead of recursion: depth comes from outside. Each entry holds the line's prefix.
    let none = BTreeSet::new();
    let roots = children.get(&None).unwrap_or(&none);
    let mut stack: Vec<(ProcessKey, String, String)> = roots
        .iter()
        .rev()
        .map(|key| (*key, String::new(), String::new()))
        .collect();
    // Each is written once, should records claim a circle.
    let mut written = BTreeSet::new();
    while let Some((key, branch, below)) = stack.pop() {
        if !written.insert(key) {
            continue;
        }
        if let Some(record) = processes.get(&key) {
            let shown = match &record.argv {
                Field::Known(argv) if !argv.args.is_empty() => command_line(record, false),
                _ => executable(record, false),
            };
            writeln!(out, "{branch}{} {shown}", key.tgid)?;
        }
        let of = children.get(&Some(key)).unwrap_or(&none);
        for (at, child) in of.iter().rev().enumerate() {
            let (fork, trunk) = if at == 0 {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            stack.push((*child, format!("{below}{fork}"), format!("{below}{trunk}")));
        }
    }
    Ok(())
}
