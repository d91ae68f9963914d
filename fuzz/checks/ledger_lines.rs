//! Lines of the ledger: what is read and written again reads the same, and half a line is no other outcome.

use promptmill::ledger::Entry;

pub fn check(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n').take(50) {
        let Ok(entry) = Entry::parse(line) else { continue };
        let written = entry.to_line();
        assert!(written.ends_with(b"\n") && !written[..written.len() - 1].contains(&b'\n'));
        assert_eq!(Entry::parse(&written), Ok(entry.clone()));
        if let Entry::Outcome(_) | Entry::Stored(..) = entry {
            for end in (0..line.len()).rev().step_by(1 + line.len() / 200) {
                // Where only the row is cut, the rest of the line still says the same.
                if let Ok(cut) = Entry::parse(&line[..end]) {
                    assert_eq!(cut, entry, "cut at {end}");
                }
            }
        }
    }
}
