//! What the board says of an anchor file that is not as it was left.

use std::path::Path;

use super::*;

/// A board in `dir` as a start finds it, with one file as its target.
fn start(dir: &Path, file: &str) -> Board {
    Board::recall(dir.join("anchors.json"), [(FILE, file.to_owned())].into_iter())
}

/// What is said after a record of 100 bytes behind `before` others.
fn said(board: &Board, before: u64) -> Option<String> {
    let appended = Appended {
        before,
        after: before + 100,
    };
    board.record(0, 7, &Ok(Some(appended)));
    board.read().file.unwrap().missed
}

/// The length was kept in `anchors.json` alone: whoever cut the file and removed that one too went unnoticed.
#[test]
fn a_file_whose_length_nobody_remembers_is_said_to_be_unknown() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(said(&start(dir.path(), "a"), 0), None, "begun here");
    assert_eq!(said(&start(dir.path(), "a"), 100), None, "as it was left");
    for broken in [None, Some("{}"), Some("{\"targets\": []}")] {
        let path = dir.path().join("anchors.json");
        match broken {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
        let told = said(&start(dir.path(), "a"), 100).unwrap();
        assert!(
            told.contains("is unknown") && told.contains("anchor verify"),
            "{told}"
        );
        // It stays said, over starts as well, until another file is begun.
        assert_eq!(said(&start(dir.path(), "a"), 200), Some(told));
        assert_eq!(said(&start(dir.path(), "b"), 0), None);
    }
}

#[test]
fn a_shorter_file_is_told_from_another_one() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(said(&start(dir.path(), "a"), 0), None);
    let told = said(&start(dir.path(), "a"), 40).unwrap();
    assert!(
        told.contains("40 bytes") && told.contains("where it had 100"),
        "{told}"
    );
    // A new file is no shortened one; what an earlier version wrote names none and is of whatever file there is.
    assert_eq!(said(&start(dir.path(), "b"), 0), None);
    let path = dir.path().join("anchors.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let older = text.replace("\"path\": \"b\",", "");
    assert_ne!(older, text);
    std::fs::write(&path, older).unwrap();
    assert!(
        said(&start(dir.path(), "b"), 99)
            .unwrap()
            .contains("where it had 100")
    );
}
