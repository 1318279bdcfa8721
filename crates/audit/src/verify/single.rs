//! Verifies one record by its `.tlog-proof`: that it is in the journal, and nothing about the others.

use super::Trust;
use super::code::{Code, Findings, Verdict};
use super::meaning::Meaning;
use super::notes::Notes;
use super::record;
use super::report::{Freshness, Report, SourceReport, Word};
use crate::proof::TlogProof;
use std::collections::BTreeMap;

/// Verifies that `body` is the record that `proof` (a `.tlog-proof` file) speaks of, and that its checkpoint is good.
/// The keys are the policy's: without a policy nothing is believed.
#[must_use]
pub fn verify_proof(body: &[u8], proof: &[u8], trust: &Trust) -> Report {
    let mut findings = Findings::default();
    let mut report = SourceReport {
        log: None,
        origin: None,
        range: (0, 0),
        integrity: Word::Unknown,
        authenticity: Word::Unknown,
        freshness: Freshness {
            verdict: Word::Unknown,
            cosigned_size: None,
            signed_size: None,
            at: None,
            tail_uncosigned: 0,
        },
        completeness: Word::Partial,
        semantics: Word::Unknown,
        opened: 0,
        redacted: 0,
        unknown_kinds: BTreeMap::new(),
        findings: Vec::new(),
    };
    let Ok(proof) = TlogProof::parse(proof) else {
        findings.add(Code::Proof, None);
        return finish(report, findings);
    };
    let checkpoint = proof.note.checkpoint();
    report.origin = Some(checkpoint.origin.clone());
    report.range = (proof.index, proof.index + 1);
    match record::check(body) {
        Err(code) => findings.add(code, Some(proof.index)),
        Ok((record, _)) => {
            let log = if record.seq == 0 { record.leaf } else { record.log };
            report.log = Some(log);
            if record.seq != proof.index {
                findings.add(Code::RecordSeq, Some(proof.index));
            } else if !super::source::fits_origin(Some(&checkpoint.origin), log) {
                findings.add(Code::RecordLog, Some(proof.index));
            } else if proof.verify(record.leaf).is_err() {
                findings.add(Code::Proof, Some(proof.index));
            }
        }
    }
    let note = vec![proof.note.to_string().into_bytes()];
    let mut notes = Notes::new(trust, &note, None, &mut findings);
    let (root, mut meaning) = (checkpoint.root, Meaning::default());
    notes.begin(checkpoint.origin.clone(), None, &mut findings);
    notes.reach(checkpoint.size, || root, &mut meaning, &mut findings);
    if let Some((size, at)) = notes.cosigned {
        report.freshness.cosigned_size = Some(size);
        report.freshness.at = at;
        report.freshness.verdict = Word::Ok;
    }
    report.freshness.signed_size = notes.signed_size;
    finish(report, findings)
}

fn finish(mut report: SourceReport, findings: Findings) -> Report {
    report.integrity = if findings.any(Verdict::Invalid) { Word::Invalid } else { Word::Ok };
    report.authenticity = match report.freshness.cosigned_size {
        _ if findings.any(Verdict::Unanchored) => Word::Unanchored,
        Some(_) => Word::Ok,
        None => Word::Unknown,
    };
    report.findings = findings.0;
    Report::new(vec![report], None)
}
