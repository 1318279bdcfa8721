//! The only place that uses the mirror's key. What it is going to sign is made durable first, under a fence, so that neither a crash
//! nor a second mirror with the same key can make it sign two histories.

use crate::journal::{Journal, Signed};
use crate::key::MirrorKey;
use cortex_audit::{Hash, SignedNote, VerifierKey};
use cortex_log::audit::MIRROR_BUCKET;
use cortex_log::{EventLog, Expect, LogError, Rev};
use cortex_model::proto as pb;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// How often a write whose fate is unknown is looked at again.
const TRIES: usize = 100;
/// Pause before that.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nothing was signed.
#[derive(Debug, Error)]
pub(crate) enum SignError {
    /// Somebody else signed meanwhile: read everything again and decide anew.
    #[error("another mirror signed meanwhile")]
    Conflict,
    /// The log did not take it, or it is not known whether it did.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What was signed before cannot be read: nothing more is signed for this journal.
    #[error("what was signed before cannot be read: {0}")]
    Damaged(String),
}

/// See the module.
pub(crate) struct Signer {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) key: MirrorKey,
}

/// What was signed last, and the fence for the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Last {
    pub(crate) signed: Option<Signed>,
    pub(crate) rev: Rev,
}

impl Signer {
    pub(crate) fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    fn place(&self, log32: &str) -> String {
        format!("{:08x}.{log32}", u32::from_be_bytes(self.verifier().id()))
    }

    /// What the key signed last for a journal. The cosignature itself is made again: the time was stored, so it is the same.
    pub(crate) async fn last(&self, log32: &str) -> Result<Last, SignError> {
        let Some(entry) = self.log.kv_get(MIRROR_BUCKET, &self.place(log32)).await? else {
            return Ok(Last::default());
        };
        let damaged = |why: &str| SignError::Damaged(why.to_owned());
        let stored =
            pb::MirrorSigned::decode(entry.value).map_err(|_| damaged("no MirrorSigned"))?;
        let root: [u8; 32] = stored.root.as_slice().try_into().map_err(|_| damaged("no root"))?;
        let mut note =
            SignedNote::parse(stored.note.as_bytes()).map_err(|_| damaged("no signed note"))?;
        let same = note.checkpoint().size == stored.size && note.checkpoint().root == Hash(root);
        if !same {
            return Err(damaged("its note is of another size or root"));
        }
        note.cosign(self.key.cosigner(), stored.time_s).map_err(|_| damaged("no time"))?;
        let signed = Signed { size: stored.size, root: Hash(root), time_s: stored.time_s, note };
        Ok(Last { signed: Some(signed), rev: entry.rev })
    }

    /// Cosigns the stored end of a journal.
    pub(crate) async fn sign(
        &self,
        journal: &Journal,
        note: SignedNote,
        rev: Rev,
        now_s: u64,
    ) -> Result<Last, SignError> {
        let before = journal.signed.as_ref();
        // A clock that went back must not make a later statement look older.
        let time_s = now_s.max(before.map_or(0, |signed| signed.time_s));
        let stored = pb::MirrorSigned {
            log: journal.log().map_or(String::new(), |log| log.to_string()),
            size: note.checkpoint().size,
            root: note.checkpoint().root.0.to_vec(),
            time_s,
            note: note.to_string(),
            stored_revision: journal.last_rev(),
        };
        let rev = self.persist(&journal.log32, rev, &stored).await?;
        self.finish(note, time_s, rev)
    }

    /// Takes over a cosignature of this very key that the node kept and the log forgot.
    pub(crate) async fn adopt(
        &self,
        journal: &Journal,
        note: SignedNote,
        time_s: u64,
        rev: Rev,
    ) -> Result<Last, SignError> {
        let stored = pb::MirrorSigned {
            log: journal.log().map_or(String::new(), |log| log.to_string()),
            size: note.checkpoint().size,
            root: note.checkpoint().root.0.to_vec(),
            time_s,
            note: note.to_string(),
            stored_revision: 0,
        };
        let rev = self.persist(&journal.log32, rev, &stored).await?;
        self.finish(note, time_s, rev)
    }

    fn finish(&self, mut note: SignedNote, time_s: u64, rev: Rev) -> Result<Last, SignError> {
        note.cosign(self.key.cosigner(), time_s)
            .map_err(|error| SignError::Damaged(error.to_string()))?;
        let checkpoint = note.checkpoint();
        let signed = Signed { size: checkpoint.size, root: checkpoint.root, time_s, note };
        Ok(Last { signed: Some(signed), rev })
    }

    async fn persist(
        &self,
        log32: &str,
        rev: Rev,
        stored: &pb::MirrorSigned,
    ) -> Result<Rev, SignError> {
        let (place, value) = (self.place(log32), bytes::Bytes::from(stored.encode_to_vec()));
        let expect = if rev == 0 { Expect::Absent } else { Expect::At(rev) };
        let mut failed = LogError::Unknown;
        for _ in 0..TRIES {
            match self.log.kv_put(MIRROR_BUCKET, &place, expect, value.clone()).await {
                Ok(rev) => return Ok(rev),
                Err(LogError::Conflict) => {
                    // It may be our own write, whose answer was lost.
                    return match self.log.kv_get(MIRROR_BUCKET, &place).await? {
                        Some(entry) if entry.value == value => Ok(entry.rev),
                        Some(_) | None => Err(SignError::Conflict),
                    };
                }
                Err(e @ (LogError::Unknown | LogError::Timeout | LogError::Backend(_))) => {
                    failed = e;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(failed.into())
    }
}
