//! Joining: the server is checked against the fingerprint in the token, then sees it; the key is made here. Everything is kept
//! before it is asked for, so that a join that was interrupted goes on where it was.

use super::calls;
use super::key::NodeKey;
use super::renew::accept;
use super::store::{Enrolled, Standing, Store};
use super::tls::{Trust, connect};
use crate::clock::unix_now;
use cortex_model::credential::{Purpose, TokenText};
use cortex_model::limits::identity::PENDING_RETRY_MS;
use cortex_model::{Code, Fault, NodeId};
use std::time::Duration;

/// Begins a join, or goes on with the one that was begun, and asks the server once.
///
/// # Errors
/// `CX-0541` when the machine is a node already; whatever [`ask`] says.
pub(crate) async fn begin(
    store: &Store,
    server: &str,
    node: &str,
    token: &str,
) -> Result<Enrolled, Fault> {
    super::tls::address(server)?;
    read_token(token)?;
    if !node.is_empty() {
        NodeId::parse(node)?;
    }
    if store.exists()
        && let there = store.load()?
        && there.certificate().is_ok()
    {
        let message =
            format!("this machine is node {} of workspace {}", there.node, there.workspace);
        return Err(Fault::new(Code::AlreadyEnrolled, message));
    }
    let key = store.key_or_new()?;
    let mut enrolled = Enrolled::pending(server, node, token.trim());
    store.save(&enrolled)?;
    ask(store, &mut enrolled, &key).await?;
    Ok(enrolled)
}

/// Asks the server where a join stands; keeps the certificate when there is one.
///
/// # Errors
/// `CX-0508` while an administrator has not decided; `CX-0523` when the server is not the token's, which then was not sent.
pub(crate) async fn ask(
    store: &Store,
    enrolled: &mut Enrolled,
    key: &NodeKey,
) -> Result<(), Fault> {
    let Standing::Pending { token } = enrolled.standing.clone() else { return Ok(()) };
    let trust = Trust::Pinned(read_token(&token)?.ca);
    let channel = connect(&enrolled.server, trust, None).await?;
    let (node, before) = (enrolled.node.clone(), unix_now());
    let answer = calls::join(channel, &token, enrolled, key).await?;
    let Some(certificate) = answer else {
        if enrolled.node != node {
            store.save(enrolled)?;
        }
        let message = format!(
            "node {} of workspace {} waits for an administrator",
            enrolled.node, enrolled.workspace
        );
        return Err(Fault::new(Code::NodeNotApproved, message).with_hint(format!(
            "an administrator decides: cortex node approve {}",
            enrolled.node
        )));
    };
    accept(store, enrolled, certificate, before)
}

/// Asks until there is a decision. `say` is told once that it has to wait.
///
/// # Errors
/// The server's refusal. A server that cannot be reached meanwhile is asked again.
pub(crate) async fn wait(
    store: &Store,
    key: &NodeKey,
    say: impl FnOnce(&Fault),
) -> Result<Enrolled, Fault> {
    let mut enrolled = store.load()?;
    let mut say = Some(say);
    loop {
        match ask(store, &mut enrolled, key).await {
            Ok(()) => return Ok(enrolled),
            Err(fault) if fault.code.retryable() => {
                if let Some(say) = say.take() {
                    say(&fault);
                }
            }
            Err(fault) => return Err(fault),
        }
        tokio::time::sleep(Duration::from_millis(PENDING_RETRY_MS.into())).await;
    }
}

fn read_token(text: &str) -> Result<TokenText, Fault> {
    let token = TokenText::parse(text)?;
    match token.purpose {
        Purpose::Join => Ok(token),
        Purpose::User => Err(Fault::new(
            Code::BadTokenText,
            "this token is for people and programs, not for a machine",
        )
        .with_hint("ask for a join token: cortex token create node")),
    }
}
