//! The difference of two transcripts, for people.

use std::fmt::Write as _;

/// How many equal lines are shown around each difference.
const CONTEXT: usize = 3;

/// Returns a unified difference: `-` is the Go server's, `+` is natrix's.
///
/// By the longest common subsequence; transcripts are short, so the quadratic table doesn't matter.
pub(super) fn unified(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let mut table = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i][j] = match old[i] == new[j] {
                true => table[i + 1][j + 1] + 1,
                false => table[i + 1][j].max(table[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut marked) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            marked.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && table[i + 1][j] >= table[i][j + 1]) {
            marked.push(('-', old[i]));
            i += 1;
        } else {
            marked.push(('+', new[j]));
            j += 1;
        }
    }
    let mut out = "--- go\n+++ here\n".to_owned();
    let mut skipped = false;
    for (at, (mark, line)) in marked.iter().enumerate() {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(marked.len());
        if marked[around].iter().any(|(mark, _)| *mark != ' ') {
            let _ = writeln!(out, "{mark}{line}");
            skipped = false;
        } else if !std::mem::replace(&mut skipped, true) {
            out.push_str("@@\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_changed_line_is_shown_among_its_neighbours() {
        let shown = super::unified("a\nb\nc\nd\ne\nf\ng\nh\n", "a\nb\nc\nd\ne\nX\ng\nh\n");
        assert_eq!(shown, "--- go\n+++ here\n@@\n c\n d\n e\n-f\n+X\n g\n h\n");
    }
}
