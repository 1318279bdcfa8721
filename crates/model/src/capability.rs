//! What a node can do and what a task needs, and whether the one meets the other. It never probes
//! anything: facts come from the agent's manifest.

use crate::error::{Code, Fault};
use crate::limits::LABEL_MAX;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// A dotted version such as `3.11.7`. Anything after the leading numbers is ignored in comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: String,
    parts: Vec<u64>,
}

impl Version {
    /// Reads the leading numeric components; a text without any is a version nothing compares to.
    #[must_use]
    pub fn parse(text: &str) -> Version {
        let head = text.trim().trim_start_matches('v');
        let end = head.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(head.len());
        let parts = head[..end].split('.').map_while(|p| p.parse().ok()).collect();
        Version { text: text.to_owned(), parts }
    }

    /// The text as the node gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Compares component by component; missing components count as 0. `None` without numbers.
    fn compare(&self, other: &Version) -> Option<Ordering> {
        if self.parts.is_empty() || other.parts.is_empty() {
            return None;
        }
        let n = self.parts.len().max(other.parts.len());
        let at = |v: &Version, i: usize| v.parts.get(i).copied().unwrap_or(0);
        (0..n).map(|i| at(self, i).cmp(&at(other, i))).find(|o| o.is_ne()).or(Some(Ordering::Equal))
    }

    /// `3.11.7` matches `3.11` and `3`, not `3.1`.
    fn begins_with(&self, prefix: &Version) -> bool {
        if prefix.parts.is_empty() {
            self.text == prefix.text
        } else {
            self.parts.starts_with(&prefix.parts)
        }
    }
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// Only presence counts.
    Present,
    /// `=`: label equal, or version equal in the components given.
    Equal,
    /// `!=`: the opposite of `=`; an absent name does not meet it.
    NotEqual,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
}

/// One thing a task needs of a node, for example `shell`, `python>=3.10`, `os=linux`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    name: String,
    comparison: Comparison,
    value: String,
}

impl Requirement {
    /// Reads a requirement. Names are `a-z 0-9 - _ . /`, values anything printable without blanks.
    ///
    /// # Errors
    /// `CX-0104` when it cannot be read.
    pub fn parse(text: &str) -> Result<Requirement, Fault> {
        let bad = |why: &str| {
            Fault::new(Code::BadRequirement, format!("requirement {text:?} cannot be read: {why}"))
        };
        if text.len() > LABEL_MAX {
            return Err(bad("it is too long"));
        }
        let cut = text.find(['=', '!', '<', '>']).unwrap_or(text.len());
        let (name, rest) = (text[..cut].trim(), &text[cut..]);
        let good = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/');
        if name.is_empty() || !name.bytes().all(good) {
            return Err(bad("the name must be of a-z, 0-9, '-', '_', '.' and '/'"));
        }
        let (comparison, value) = match rest {
            "" => (Comparison::Present, ""),
            r if r.starts_with(">=") => (Comparison::AtLeast, &r[2..]),
            r if r.starts_with("<=") => (Comparison::AtMost, &r[2..]),
            r if r.starts_with("!=") => (Comparison::NotEqual, &r[2..]),
            r if r.starts_with("==") => (Comparison::Equal, &r[2..]),
            r if r.starts_with('=') => (Comparison::Equal, &r[1..]),
            r if r.starts_with('>') => (Comparison::Above, &r[1..]),
            r if r.starts_with('<') => (Comparison::Below, &r[1..]),
            _ => return Err(bad("unknown comparison")),
        };
        let value = value.trim();
        if comparison != Comparison::Present
            && (value.is_empty() || value.chars().any(|c| c.is_control() || c.is_whitespace()))
        {
            return Err(bad("the value is missing or has blanks"));
        }
        Ok(Requirement { name: name.to_owned(), comparison, value: value.to_owned() })
    }

    /// The name it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.comparison {
            Comparison::Present => "",
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::AtLeast => ">=",
            Comparison::AtMost => "<=",
            Comparison::Above => ">",
            Comparison::Below => "<",
        };
        write!(f, "{}{op}{}", self.name, self.value)
    }
}

/// What is known of a node: abilities with their versions, and labels (owner's words and probed facts such as
/// `os`, `arch`, `cpus`, `memory_mb`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Abilities; an empty version means it has none.
    pub capabilities: BTreeMap<String, Version>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl NodeFacts {
    /// Whether the node meets a requirement.
    ///
    /// # Errors
    /// What is lacking, in words, for people.
    pub fn meets(&self, req: &Requirement) -> Result<(), String> {
        if let Some(have) = self.capabilities.get(&req.name) {
            return compare(req, have);
        }
        match self.labels.get(&req.name) {
            Some(have) => match req.comparison {
                Comparison::Equal if *have == req.value => Ok(()),
                Comparison::NotEqual if *have != req.value => Ok(()),
                Comparison::Equal | Comparison::NotEqual => {
                    Err(format!("needs {req}, has {}={have}", req.name))
                }
                Comparison::Present
                | Comparison::AtLeast
                | Comparison::AtMost
                | Comparison::Above
                | Comparison::Below => compare(req, &Version::parse(have)),
            },
            None => Err(format!("needs {req}, has no {}", req.name)),
        }
    }
}

fn compare(req: &Requirement, have: &Version) -> Result<(), String> {
    let want = Version::parse(&req.value);
    let order = have.compare(&want);
    let met = match req.comparison {
        Comparison::Present => true,
        Comparison::Equal => have.begins_with(&want),
        Comparison::NotEqual => !have.begins_with(&want),
        Comparison::AtLeast => order.is_some_and(Ordering::is_ge),
        Comparison::AtMost => order.is_some_and(Ordering::is_le),
        Comparison::Above => order.is_some_and(Ordering::is_gt),
        Comparison::Below => order.is_some_and(Ordering::is_lt),
    };
    if met {
        return Ok(());
    }
    let shown = if have.text.is_empty() { "no version" } else { &have.text };
    Err(format!("needs {req}, has {} with {shown}", req.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeFacts {
        let caps =
            [("shell", ""), ("python", "3.11.7"), ("git", "2.47.3-rc1"), ("node", "v20.1.0")];
        let labels = [("os", "linux"), ("cpus", "8"), ("rack", "b-12")];
        NodeFacts {
            capabilities: caps.iter().map(|(n, v)| ((*n).to_owned(), Version::parse(v))).collect(),
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn requirements_are_met_as_the_table_says() {
        let table = [
            ("shell", true),
            ("shell>=1", false),
            ("docker", false),
            ("python", true),
            ("python>=3.10", true),
            ("python>=3.11.7", true),
            ("python>=3.11.8", false),
            ("python=3.11", true),
            ("python=3.1", false),
            ("python==3", true),
            ("python!=3.11", false),
            ("python!=2", true),
            ("python<4", true),
            ("python>3.11.7", false),
            ("python<=3.11.7", true),
            ("git>=2.40", true),
            ("node>=18", true),
            ("os=linux", true),
            ("os=windows", false),
            ("os!=windows", true),
            ("missing!=x", false),
            ("cpus>=8", true),
            ("cpus>8", false),
            ("rack=b-12", true),
            ("rack", true),
        ];
        for (req, met) in table {
            let r = Requirement::parse(req).unwrap();
            assert_eq!(node().meets(&r).is_ok(), met, "{req}: {:?}", node().meets(&r));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            "",
            "=3",
            "Python",
            "a b",
            "python>=",
            "python>= 3 4",
            "python!3",
            "x=\n",
            &"a".repeat(300),
        ] {
            assert_eq!(Requirement::parse(bad).unwrap_err().code, Code::BadRequirement, "{bad:?}");
        }
    }

    #[test]
    fn a_requirement_reads_back_as_written() {
        for text in ["shell", "python>=3.10", "os=linux", "a!=b", "x<=1", "x>1", "x<1"] {
            assert_eq!(Requirement::parse(text).unwrap().to_string(), text);
        }
    }
}
