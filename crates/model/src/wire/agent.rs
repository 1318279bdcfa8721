//! `agent.proto` to the model: what a node says of itself, as facts that requirements are matched with.

use crate::capability::{NodeFacts, Version};
use crate::proto as pb;

/// The facts of a node: its abilities, its owner's labels, and what was probed, as labels `node_id`, `os`, `arch`, `hostname`,
/// `kernel`, `cpus` and `memory_mb`. A probed fact is never hidden by a label of the same name.
#[must_use]
pub fn facts(node: &str, manifest: Option<&pb::Manifest>) -> NodeFacts {
    let mut facts = NodeFacts::default();
    facts.labels.insert("node_id".to_owned(), node.to_owned());
    let Some(m) = manifest else { return facts };
    for c in &m.capabilities {
        facts.capabilities.insert(c.name.clone(), Version::parse(&c.version));
    }
    for (k, v) in &m.labels {
        facts.labels.entry(k.clone()).or_insert_with(|| v.clone());
    }
    let memory_mb = (m.memory_bytes / (1024 * 1024)).to_string();
    let probed = [
        ("os", m.os.clone()),
        ("arch", m.arch.clone()),
        ("hostname", m.hostname.clone()),
        ("kernel", m.kernel.clone()),
        ("cpus", m.cpus.to_string()),
        ("memory_mb", memory_mb),
    ];
    facts.labels.extend(probed.into_iter().map(|(k, v)| (k.to_owned(), v)));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Requirement;

    #[test]
    fn probed_facts_and_labels_are_matched_alike_and_labels_hide_nothing() {
        let manifest = pb::Manifest {
            os: "linux".into(),
            cpus: 8,
            memory_bytes: 4 << 30,
            capabilities: vec![pb::Capability {
                name: "python".into(),
                version: "3.11.2".into(),
                path: String::new(),
            }],
            labels: [("team".to_owned(), "red".to_owned()), ("os".to_owned(), "fake".to_owned())]
                .into(),
            ..Default::default()
        };
        let facts = facts("n1", Some(&manifest));
        for met in
            ["python>=3.10", "os=linux", "cpus>=8", "memory_mb>=4096", "team=red", "node_id=n1"]
        {
            assert_eq!(facts.meets(&Requirement::parse(met).unwrap()), Ok(()), "{met}");
        }
        assert!(facts.meets(&Requirement::parse("os=fake").unwrap()).is_err());
    }
}
