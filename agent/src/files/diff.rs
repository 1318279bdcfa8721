//! Unified diffs, applied strictly: every line must be where the diff says, or nothing is done. No searching nearby.

/// Why a diff does not fit, for people.
pub(super) type Misfit = String;

/// A hunk: where it begins in the old text (lines, from 0), what must be there, what comes instead.
#[derive(Debug, PartialEq, Eq)]
struct Hunk {
    at: usize,
    lines: Vec<(Side, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

/// The new text.
pub(super) fn apply(old: &[u8], diff: &[u8]) -> Result<Vec<u8>, Misfit> {
    let lines: Vec<&[u8]> = old.split_inclusive(|byte| *byte == b'\n').collect();
    let mut new = Vec::with_capacity(old.len() + diff.len());
    let mut at = 0;
    for (number, hunk) in parse(diff)?.iter().enumerate() {
        let number = number + 1;
        if hunk.at < at || hunk.at > lines.len() {
            return Err(format!("hunk {number} begins at line {}, which cannot be", hunk.at + 1));
        }
        new.extend(lines[at..hunk.at].concat());
        at = hunk.at;
        for (side, text) in &hunk.lines {
            if *side != Side::New {
                let there = lines.get(at).copied();
                if there != Some(text.as_slice()) {
                    let shown = |line: &[u8]| {
                        let text = String::from_utf8_lossy(line).trim_end().to_owned();
                        text.chars().take(80).collect::<String>()
                    };
                    let is = there.map_or("the end of the file".to_owned(), |line| {
                        format!("{:?}", shown(line))
                    });
                    let line = at + 1;
                    let wanted = shown(text);
                    return Err(format!(
                        "hunk {number}: line {line} should be {wanted:?} and is {is}"
                    ));
                }
                at += 1;
            }
            if *side != Side::Old {
                new.extend_from_slice(text);
            }
        }
    }
    new.extend(lines[at..].concat());
    Ok(new)
}

fn parse(diff: &[u8]) -> Result<Vec<Hunk>, Misfit> {
    let mut hunks: Vec<Hunk> = Vec::new();
    // Lines of the present hunk that are still to come, old and new.
    let (mut old, mut new) = (0, 0);
    let mut files = 0;
    for line in diff.split_inclusive(|byte| *byte == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        if bare.starts_with(b"\\") {
            no_line_end(&mut hunks)?;
            continue;
        }
        if old == 0 && new == 0 {
            if bare.starts_with(b"@@ ") {
                let (at, o, n) = header(bare).ok_or("a line that begins with @@ cannot be read")?;
                (old, new) = (o, n);
                hunks.push(Hunk { at, lines: Vec::new() });
            } else if bare.starts_with(b"+++ ") {
                files += 1;
                if files > 1 {
                    return Err("the diff is about more than one file".to_owned());
                }
            }
            continue;
        }
        let (side, text) = match bare.split_first() {
            Some((b' ', _)) => (Side::Both, &line[1..]),
            Some((b'-', _)) => (Side::Old, &line[1..]),
            Some((b'+', _)) => (Side::New, &line[1..]),
            // Some programs take the blank off an empty line.
            None => (Side::Both, line),
            Some(_) => return Err("a hunk has a line that is none of a diff".to_owned()),
        };
        let wants = (usize::from(side != Side::New), usize::from(side != Side::Old));
        if wants.0 > old || wants.1 > new {
            return Err("a hunk has other lines than its header says".to_owned());
        }
        (old, new) = (old - wants.0, new - wants.1);
        let mut text = text.to_vec();
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        if let Some(hunk) = hunks.last_mut() {
            hunk.lines.push((side, text));
        }
    }
    if old > 0 || new > 0 {
        return Err("the last hunk has fewer lines than its header says".to_owned());
    }
    if hunks.is_empty() {
        return Err("there is no hunk in it".to_owned());
    }
    Ok(hunks)
}

/// `\ No newline at end of file`: the line before has no end.
fn no_line_end(hunks: &mut [Hunk]) -> Result<(), Misfit> {
    let line = hunks.last_mut().and_then(|hunk| hunk.lines.last_mut());
    let (_, text) = line.ok_or("a line that begins with \\ follows nothing")?;
    text.pop();
    Ok(())
}

/// `@@ -a,b +c,d @@`: the line before which it begins, and how many lines it has of each.
fn header(line: &[u8]) -> Option<(usize, usize, usize)> {
    let text = std::str::from_utf8(line.get(3..)?).ok()?;
    let (ranges, _) = text.split_once(" @@")?;
    let (old, new) = ranges.split_once(' ')?;
    let (from, old) = range(old.strip_prefix('-')?)?;
    let (_, new) = range(new.strip_prefix('+')?)?;
    // Without old lines the number is of the line after which it goes.
    let at = if old == 0 { from } else { from.checked_sub(1)? };
    Some((at, old, new))
}

fn range(text: &str) -> Option<(usize, usize)> {
    match text.split_once(',') {
        Some((from, count)) => Some((from.parse().ok()?, count.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_does_what_patch_does() {
        let old = b"a\nb\nc\nd\ne\nf\n";
        for (diff, new) in [
            ("--- x\n+++ x\n@@ -2,2 +2,2 @@\n-b\n-c\n+B\n+C\n", "a\nB\nC\nd\ne\nf\n"),
            ("@@ -0,0 +1 @@\n+first\n", "first\na\nb\nc\nd\ne\nf\n"),
            ("@@ -6 +6,2 @@ fn x\n f\n+g\n", "a\nb\nc\nd\ne\nf\ng\n"),
            ("@@ -6 +6 @@\n-f\n+f\n\\ No newline at end of file\n", "a\nb\nc\nd\ne\nf"),
            ("@@ -1 +0,0 @@\n-a\n@@ -5 +4 @@\n-e\n+E", "b\nc\nd\nE\nf\n"),
            (
                "diff --git a/x b/x\nindex 1..2\n--- a/x\n+++ b/x\n@@ -3,0 +4 @@\n+x\n",
                "a\nb\nc\nx\nd\ne\nf\n",
            ),
        ] {
            let made = apply(old, diff.as_bytes());
            assert_eq!(made.as_deref(), Ok(new.as_bytes()), "{diff}");
        }
        let ends = apply(b"a\nb", b"@@ -2 +2 @@\n-b\n\\ No newline at end of file\n+b\n");
        assert_eq!(ends.as_deref(), Ok(&b"a\nb\n"[..]));
        assert_eq!(
            apply(b"\n\nx\n", b"@@ -1,3 +1,3 @@\n\n \n-x\n+y\n").as_deref(),
            Ok(&b"\n\ny\n"[..])
        );
        assert_eq!(apply(b"", b"@@ -0,0 +1 @@\n+new\n").as_deref(), Ok(&b"new\n"[..]));
    }

    #[test]
    fn what_does_not_fit_is_said_and_nothing_is_done() {
        let old = b"a\nb\nc\n";
        for (diff, why) in [
            ("@@ -1 +1 @@\n-b\n+B\n", "line 1 should be \"b\" and is \"a\""),
            ("@@ -3,2 +3,1 @@\n c\n-d\n", "is the end of the file"),
            ("@@ -3 +3 @@\n-c\n\\ No newline at end of file\n+C\n", "hunk 1: line 3"),
            ("@@ -9 +9 @@\n-x\n+y\n", "cannot be"),
            ("@@ -2 +2 @@\n-b\n+B\n@@ -1 +1 @@\n-a\n+A\n", "hunk 2 begins at line 1"),
            ("@@ -1,2 +1 @@\n-a\n", "fewer lines"),
            ("@@ -1 +1 @@\n a\n+b\n", ""),
            ("@@ -1 +1 @@\n*a\n", "none of a diff"),
            ("@@ x @@\n", "cannot be read"),
            ("hello\n", "no hunk"),
            ("\\ No newline\n", "follows nothing"),
            (
                "--- a\n+++ a\n@@ -1 +1 @@\n-a\n+A\n--- b\n+++ b\n@@ -1 +1 @@\n-a\n+A\n",
                "more than one file",
            ),
        ] {
            match apply(old, diff.as_bytes()) {
                Err(said) => assert!(said.contains(why), "{diff}: {said}"),
                // A line beyond the header's count is outside of the hunk.
                Ok(_) => assert!(why.is_empty(), "{diff}"),
            }
        }
    }
}
