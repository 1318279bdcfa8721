//! Who asks: from flags, the environment, or the user's own name. It never decides what they may do.

use crate::args::Global;
use crate::error::CliError;
use cortex_model::Code;
use cortex_model::proto as pb;
use cortex_model::wire;

/// The actor of every request of this process.
///
/// # Errors
/// `CX-0111` when it is incomplete.
pub(crate) fn resolve(global: &Global) -> Result<pb::Actor, CliError> {
    let kind = match global.actor_kind.as_deref() {
        None | Some("human") => pb::ActorKind::Human,
        Some("ai") => pb::ActorKind::Ai,
        Some("program") => pb::ActorKind::Program,
        Some(other) => {
            return Err(CliError::new(Code::BadActor, format!("{other:?} is no kind of actor"))
                .with_hint("use --actor-kind human, ai or program"));
        }
    };
    let actor = pb::Actor {
        kind: kind.into(),
        id: global.actor_id.clone().unwrap_or_else(user_name),
        model: global.actor_model.clone().unwrap_or_default(),
        on_behalf_of: global.on_behalf_of.clone().unwrap_or_default(),
    };
    wire::task::actor(Some(actor.clone())).map_err(|f| {
        CliError::from(f)
            .with_hint("set --actor-kind and --actor-id, and --actor-model for an ai only")
    })?;
    Ok(actor)
}

/// Whether flags or the environment name somebody.
pub(crate) fn is_named(global: &Global) -> bool {
    global.actor_kind.is_some() || global.actor_id.is_some() || global.on_behalf_of.is_some()
}

/// The name the user logged in with, or `uid-N`.
fn user_name() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| {
            let uid = rustix::process::getuid().as_raw();
            let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            account(&accounts, uid).unwrap_or_else(|| format!("uid-{uid}"))
        })
}

/// The name of a user id in a password file.
fn account(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(kind: Option<&str>, id: Option<&str>, model: Option<&str>) -> Global {
        Global {
            data_dir: None,
            context: None,
            json: false,
            actor_kind: kind.map(Into::into),
            actor_id: id.map(Into::into),
            actor_model: model.map(Into::into),
            on_behalf_of: Some("anna".into()),
        }
    }

    #[test]
    fn a_person_is_assumed_and_named() {
        let a = resolve(&flags(None, None, None)).unwrap();
        assert_eq!(a.kind, i32::from(pb::ActorKind::Human));
        assert!(!a.id.is_empty());
        assert_eq!(a.on_behalf_of, "anna");
    }

    #[test]
    fn a_user_id_is_looked_up_where_the_environment_is_silent() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\n\nbroken\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(account(passwd, 1000).as_deref(), Some("anna"));
        assert_eq!(account(passwd, 0).as_deref(), Some("root"));
        assert_eq!(account(passwd, 7), None);
    }

    #[test]
    fn an_ai_needs_its_model_and_only_an_ai_has_one() {
        assert!(resolve(&flags(Some("ai"), Some("a"), Some("v/m"))).is_ok());
        for (kind, id, model) in [
            (Some("ai"), Some("a"), None),
            (Some("human"), Some("a"), Some("v/m")),
            (Some("robot"), Some("a"), None),
            (Some("program"), Some(""), None),
            (Some("program"), Some("a\nb"), None),
        ] {
            assert!(resolve(&flags(kind, id, model)).unwrap_err().is(Code::BadActor), "{kind:?}");
        }
    }
}
