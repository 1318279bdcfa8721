//! What can be asked about questions and answers over the owner's socket, and what is said.

use super::{Consent, Noted};
use crate::local::{refusal, say};
use cortex_agent_core::consent::Scope;
use cortex_agent_core::policy::Channel;
use cortex_model::{Code, Fault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::unix::OwnedWriteHalf;

/// What is asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Act {
    List,
    Show {
        id: u64,
        all: bool,
    },
    Allow {
        id: u64,
        code: String,
        remember: String,
        until_ms: u64,
    },
    Deny {
        id: u64,
    },
    Grants,
    Revoke {
        id: u64,
    },
    /// Answers with the list again whenever it changed.
    Watch,
}

/// Whoever answered hears so when the answer is durable.
async fn noted(id: u64, noted: Noted) -> Result<Value, Fault> {
    let gone = |_| {
        let message = format!("question {id} waits no longer: its attempt was just given up");
        Fault::new(Code::ConsentNotFound, message)
    };
    noted.await.map_err(gone)?;
    Ok(json!({"ok": true, "id": id}))
}

impl Consent {
    /// Does what somebody who may wants, and says what came of it.
    pub(crate) async fn serve(
        &self,
        act: Act,
        by: &str,
        write: &mut OwnedWriteHalf,
    ) -> std::io::Result<()> {
        if !matches!(act, Act::Watch) {
            let said = self.act(act, by).await.unwrap_or_else(|fault| refusal(&fault));
            return say(write, &said).await;
        }
        loop {
            let changed = self.changed.notified();
            say(write, &self.list()).await?;
            changed.await;
        }
    }

    async fn act(&self, act: Act, by: &str) -> Result<Value, Fault> {
        match act {
            Act::List | Act::Watch => Ok(self.list()),
            Act::Show { id, all } => self.show(id, all),
            Act::Allow { id, code, remember, until_ms } => {
                let scope = match remember.as_str() {
                    "" | "once" => Scope::Once,
                    "task" => Scope::Task,
                    "session" => Scope::Session,
                    "until" => Scope::Until(until_ms),
                    other => {
                        let message = format!("{other:?} is not once, task, session or until");
                        return Err(Fault::new(Code::ConsentBadAnswer, message));
                    }
                };
                noted(id, self.allow(id, &code, scope, Channel::Socket, by)?).await
            }
            Act::Deny { id } => noted(id, self.refuse(id, Channel::Socket, by)?).await,
            Act::Grants => Ok(self.grants()),
            Act::Revoke { id } => {
                self.revoke(id)?;
                Ok(json!({"ok": true, "id": id}))
            }
        }
    }

    fn list(&self) -> Value {
        let inner = self.lock();
        let waiting = inner.desk.waiting().map(|(id, waiting)| {
            let question = &waiting.question;
            let classes: Vec<&str> = question.classes.iter().map(|class| class.word()).collect();
            json!({
                "id": id,
                "attempt": question.key.to_string(),
                "title": question.shown.lines.first(),
                "classes": classes,
                "rule": question.rule,
                "asked_ms": waiting.asked_ms,
                "until_ms": question.until_ms,
            })
        });
        json!({"waiting": waiting.collect::<Vec<_>>()})
    }

    fn show(&self, id: u64, all: bool) -> Result<Value, Fault> {
        let mut inner = self.lock();
        let (lines, more) = inner.desk.look(id, all)?;
        let Some((_, waiting)) = inner.desk.waiting().find(|(other, _)| *other == id) else {
            return Err(Fault::new(Code::ConsentNotFound, format!("no question {id} waits")));
        };
        // Who has not seen all of it does not see the code either.
        let code = waiting.code.as_ref().filter(|_| more == 0);
        let question = &waiting.question;
        Ok(json!({
            "id": id,
            "lines": lines,
            "more": more,
            "code": code,
            "rememberable": question.rememberable,
            "fingerprint": question.fingerprint.hex(),
            "shown_sha256": cortex_audit::leaf::hex(&question.shown.sha256),
            "until_ms": question.until_ms,
        }))
    }

    fn grants(&self) -> Value {
        let inner = self.lock();
        let grants = inner.desk.grants().map(|(id, grant)| {
            json!({
                "id": id,
                "title": grant.title,
                "task": grant.task,
                "until_ms": grant.until_ms,
                "used": grant.used,
                "fingerprint": grant.fingerprint.hex(),
            })
        });
        json!({"grants": grants.collect::<Vec<_>>()})
    }
}
