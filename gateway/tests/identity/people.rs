//! People and programs: roles, who is recorded as the author, the lives of tokens.

use crate::support::{Site, User, code, echo, id_of, next, person, refused, until};
use cortex_model::Code;
use cortex_model::proto as pb;
use pb::create_token_request::Grant;

/// Makes one call of each kind and says which were allowed: read, submit, cancel, resolve, nodes, tokens, backup.
async fn allowed(user: &mut User, task: &str, node: &str) -> String {
    let task_id = || task.to_owned();
    let calls = [
        code(user.cortex.get_task(pb::GetTaskRequest { task_id: task_id() }).await),
        code(user.submit("").await),
        code(
            user.cortex
                .cancel_task(pb::CancelTaskRequest { task_id: task_id(), ..Default::default() })
                .await,
        ),
        code(
            user.cortex
                .resolve_task(pb::ResolveTaskRequest { task_id: task_id(), ..Default::default() })
                .await,
        ),
        code(
            user.access
                .quarantine_node(pb::QuarantineNodeRequest {
                    node: node.to_owned(),
                    ..Default::default()
                })
                .await,
        ),
        code(user.access.list_tokens(pb::ListTokensRequest::default()).await),
        code(user.cortex.create_backup(pb::CreateBackupRequest {}).await),
    ];
    calls.iter().map(|code| if code == Code::Forbidden.as_str() { '-' } else { 'y' }).collect()
}

#[tokio::test]
async fn each_role_may_what_the_table_says() {
    let site = Site::start(1).await;
    let node = site.node("default", "n1").await;
    let task = site.user(&site.root).await.submit("t").await.unwrap().task_id;
    for (role, expected) in [
        (pb::Role::Viewer, "y------"),
        (pb::Role::Auditor, "y------"),
        (pb::Role::Operator, "yyyy---"),
        (pb::Role::Admin, "yyyyyy-"),
        (pb::Role::Root, "yyyyyyy"),
    ] {
        let token = site.token("default", role, "anna").await;
        let mut user = site.user(&token).await;
        assert_eq!(allowed(&mut user, &task, &node.name).await, expected, "{role:?}");
        let who = user.access.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!((who.role(), who.workspace.as_str()), (role, "default"));
        assert_eq!((who.actor, who.token_id), (Some(person("anna")), id_of(&token)));
    }
}

#[tokio::test]
async fn a_credential_that_is_none_is_refused() {
    let site = Site::start(1).await;
    let join = site.join_token("default", pb::JoinGrant { uses: 1, ..Default::default() }).await;
    let wrong_secret = {
        let parts: Vec<&str> = site.root.split('.').collect();
        [parts[0], parts[1], parts[2], &"0".repeat(64), parts[4]].join(".")
    };
    for (what, token) in [
        ("nothing", String::new()),
        ("garbage", "x".repeat(100)),
        ("a join token", join),
        ("a wrong secret", wrong_secret),
        ("an unknown token", site.root.replacen(&id_of(&site.root), "0000000000000000", 1)),
        ("another workspace", site.root.replacen("default", "other", 1)),
        ("a token of 100 KiB", "y".repeat(10_000)),
    ] {
        let mut user = site.user(&token).await;
        let answer = user.access.who_am_i(pb::WhoAmIRequest {}).await;
        refused(answer, Code::Unauthenticated, what);
    }
}

#[tokio::test]
async fn nobody_gives_more_than_they_have_or_outside_their_workspace() {
    let site = Site::start(1).await;
    let token = site.token("default", pb::Role::Admin, "anna").await;
    let mut admin = site.user(&token).await;
    let make = |role: pb::Role, workspace: &str| pb::CreateTokenRequest {
        workspace: workspace.to_owned(),
        grant: Some(Grant::User(pb::UserGrant { role: role.into(), holder: Some(person("bert")) })),
        ..Default::default()
    };
    admin.access.create_token(make(pb::Role::Admin, "")).await.unwrap();
    refused(admin.access.create_token(make(pb::Role::Root, "")).await, Code::BadGrant, "root");
    refused(
        admin.access.create_token(make(pb::Role::Viewer, "other")).await,
        Code::Forbidden,
        "other",
    );
    let long = pb::CreateTokenRequest { ttl_ms: u64::MAX, ..make(pb::Role::Viewer, "") };
    refused(admin.access.create_token(long).await, Code::BadGrant, "for ever");
    let mut elsewhere = tonic::Request::new(pb::WhoAmIRequest {});
    elsewhere.metadata_mut().insert("cortex-workspace", "other".parse().unwrap());
    refused(admin.access.who_am_i(elsewhere).await, Code::Forbidden, "an admin elsewhere");
    let mut elsewhere = tonic::Request::new(pb::WhoAmIRequest {});
    elsewhere.metadata_mut().insert("cortex-workspace", "other".parse().unwrap());
    let mut root = site.user(&site.root).await;
    let who = root.access.who_am_i(elsewhere).await.unwrap().into_inner();
    assert_eq!(who.workspace, "other");
}

#[tokio::test]
async fn the_holder_of_the_token_is_the_author_and_may_name_who_acts_for_them() {
    let site = Site::start(1).await;
    let token = site.token("default", pb::Role::Operator, "anna").await;
    let mut anna = site.user(&token).await;
    assert_eq!(anna.submit("a").await.unwrap().actor, Some(person("anna")));
    let bot = pb::Actor {
        kind: pb::ActorKind::Ai.into(),
        id: "bot".into(),
        model: "v/m".into(),
        on_behalf_of: String::new(),
    };
    let named = pb::SubmitTaskRequest { actor: Some(bot.clone()), ..echo("b") };
    let task = anna.cortex.submit_task(named).await.unwrap().into_inner().task.unwrap();
    assert_eq!(task.actor, Some(pb::Actor { on_behalf_of: "anna".into(), ..bot }));
    let other = pb::SubmitTaskRequest { actor: Some(person("bert")), ..echo("c") };
    refused(anna.cortex.submit_task(other).await, Code::ActorMismatch, "another person");
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over_and_the_watch_under_it_too() {
    let site = Site::start(1).await;
    let mut root = site.user(&site.root).await;
    let task = root.submit("t").await.unwrap();
    let grant = pb::UserGrant { role: pb::Role::Viewer.into(), holder: Some(person("anna")) };
    let request = pb::CreateTokenRequest {
        grant: Some(Grant::User(grant)),
        ttl_ms: 2_000,
        ..Default::default()
    };
    let text = root.access.create_token(request).await.unwrap().into_inner().text;
    let mut anna = site.user(&text).await;
    let watch = pb::WatchTaskRequest { task_id: task.task_id, ..Default::default() };
    let mut updates = anna.cortex.watch_task(watch).await.unwrap().into_inner();
    let ended = loop {
        match next(&mut updates).await {
            Ok(Some(_)) => {}
            ended => break ended.map(drop),
        }
    };
    refused(ended, Code::TokenExpired, "the watch");
    refused(anna.access.who_am_i(pb::WhoAmIRequest {}).await, Code::TokenExpired, "a call");
}

#[tokio::test]
async fn no_secret_of_a_token_is_in_the_log_or_comes_back_from_the_server() {
    let site = Site::start(1).await;
    let token = site.token("default", pb::Role::Viewer, "anna").await;
    let secret = token.split('.').nth(3).unwrap().to_owned();
    let mut root = site.user(&site.root).await;
    let listed = root.access.list_tokens(pb::ListTokensRequest { all: true, ..Default::default() });
    let listed = format!("{:?}", listed.await.unwrap().into_inner());
    assert!(listed.contains(&id_of(&token)) && !listed.contains(&secret), "{listed}");
    let key = cortex_log::Key::new(
        cortex_log::Space::Registry,
        "default",
        format!("t-{}", id_of(&token)),
    );
    let history = site.log.read(&key.unwrap(), 0).await.unwrap();
    assert_eq!(history.len(), 1);
    let raw: Vec<u8> =
        (0..32).map(|n| u8::from_str_radix(&secret[2 * n..2 * n + 2], 16).unwrap()).collect();
    let body = &history[0].commit.body;
    assert!(!body.windows(32).any(|w| w == raw), "the secret is in the log");
    assert!(body.windows(32).any(|w| w == cortex_model::registry::Digest::of(&raw).0));
}

#[tokio::test]
async fn an_address_that_fails_again_and_again_must_wait() {
    let site = Site::start(1).await;
    let mut stranger = site.user("wrong").await;
    until("the address to have to wait", async || {
        let answer = stranger.access.who_am_i(pb::WhoAmIRequest {}).await;
        (code(answer) == Code::TooManyTries.as_str()).then_some(())
    })
    .await;
    // Whoever has a good token is not kept out by a neighbour.
    site.user(&site.root).await.access.who_am_i(pb::WhoAmIRequest {}).await.unwrap();
}
