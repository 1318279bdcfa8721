//! Every error code has a page, every page has a code, and nobody speaks of a code that does not exist.

use crate::checkout::TextFile;
use std::collections::BTreeSet;

/// What each page has, in this order.
const SECTIONS: [&str; 3] = ["## What it means", "## Likely causes", "## What to do"];

/// The codes named in a text: `CX-` and four digits.
pub(crate) fn codes(text: &str) -> BTreeSet<String> {
    let digits =
        |at: usize| text.get(at + 3..at + 7).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    text.match_indices("CX-").filter_map(|(at, _)| digits(at)).map(|d| format!("CX-{d}")).collect()
}

/// Compares the table of codes with the pages.
pub(crate) fn undocumented(table: &BTreeSet<String>, pages: &[TextFile]) -> Vec<String> {
    let mut found = Vec::new();
    let mut documented = BTreeSet::new();
    for page in pages {
        let name = page.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".md");
        documented.insert(name.to_owned());
        if !table.contains(name) {
            found.push(format!("{}: there is no code {name}", page.path));
        }
        if !page.text.starts_with(&format!("# {name}: ")) {
            found.push(format!("{}: does not begin with `# {name}: `", page.path));
        }
        let places: Vec<_> = SECTIONS.iter().map(|s| page.text.find(s)).collect();
        if places.contains(&None) || !places.is_sorted() {
            found.push(format!("{}: needs {}", page.path, SECTIONS.join(", ")));
        }
    }
    let missing = table.difference(&documented);
    found.extend(missing.map(|code| format!("docs/errors/{code}.md: missing")));
    found
}

/// Pages whose table of name and retryability is not what the code's own line says.
pub(crate) fn disagreeing(source: &str, pages: &[TextFile]) -> Vec<String> {
    let mut found = Vec::new();
    // A line of the table: Name = "CODE", Class, retryable, "hint", "meaning";
    for line in source.lines().map(str::trim) {
        let Some((name, rest)) = line.split_once(" = \"CX-") else { continue };
        let mut words = rest.split(',').map(str::trim);
        let (code, retry) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        let file = format!("CX-{}.md", code.trim_matches('"'));
        let answer = if retry == "true" { "yes" } else { "no" };
        let Some(page) = pages.iter().find(|p| p.path.ends_with(&file)) else { continue };
        let row = page.text.lines().find(|l| l.starts_with(&format!("| `{name}` |")));
        if !row.is_some_and(|r| r.ends_with(&format!("| {answer} |"))) {
            found.push(format!("{}: has no row `{name}` ... {answer}", page.path));
        }
    }
    found
}

/// Codes a file speaks of that the table does not have.
pub(crate) fn unknown(table: &BTreeSet<String>, file: &TextFile) -> Vec<String> {
    let spoken = codes(&file.text);
    let unknown = spoken.difference(table);
    unknown.map(|code| format!("{}: {code} is in no table", file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written so that this file does not name codes that do not exist.
    fn code(digits: &str) -> String {
        format!("CX-{digits}")
    }

    fn page(digits: &str, text: &str) -> TextFile {
        let path = format!("docs/errors/{}.md", code(digits));
        TextFile { path, text: format!("# {}: X\n{text}", code(digits)) }
    }

    const GOOD: &str = "## What it means\n## Likely causes\n## What to do\n";

    #[test]
    fn codes_are_read_from_source() {
        let text = format!("A = \"{}\"; `{}` CX-12 CX-nnnn", code("0001"), code("0002"));
        assert_eq!(codes(&text), BTreeSet::from([code("0001"), code("0002")]));
    }

    #[test]
    fn a_missing_page_an_extra_page_and_an_empty_page_are_found() {
        let table = BTreeSet::from([code("0001"), code("0002")]);
        let complete = [page("0001", GOOD), page("0002", GOOD)];
        assert!(undocumented(&table, &complete).is_empty());
        assert_eq!(undocumented(&table, &complete[..1]).len(), 1);
        let extra = [page("0001", GOOD), page("0002", GOOD), page("0003", GOOD)];
        assert_eq!(undocumented(&table, &extra).len(), 1);
        let empty = [page("0001", GOOD), page("0002", "")];
        assert_eq!(undocumented(&table, &empty).len(), 1);
    }

    #[test]
    fn a_page_that_says_another_name_or_retryability_is_found() {
        let source = format!("    Broken = \"{}\", Internal, true, \"a, b\", \"c\";", code("0001"));
        let says = |row: &str| disagreeing(&source, &[page("0001", row)]).len();
        assert_eq!(says("| `Broken` | INTERNAL | yes |"), 0);
        assert_eq!(says("| `Broken` | INTERNAL | no |"), 1);
        assert_eq!(says("| `Whole` | INTERNAL | yes |"), 1);
    }

    #[test]
    fn a_code_nobody_defined_is_found() {
        let table = BTreeSet::from([code("0001")]);
        let file = TextFile { path: "a.rs".into(), text: code("0009") };
        assert_eq!(unknown(&table, &file).len(), 1);
        let good = TextFile { path: "a.rs".into(), text: code("0001") };
        assert!(unknown(&table, &good).is_empty());
    }
}
