//! What the claims of an outside issuer mean here: workspace, role, and who it is. Pure; a claim that is missing or strange gives
//! nothing.

use super::Outsider;
use cortex_model::limits::ID_MAX;
use cortex_model::{Actor, ActorKind, Code, Fault, Role, UnixMillis, Workspace};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One issuer, as configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    /// Exactly what its tokens have as `iss`.
    pub(super) iss: String,
    /// What they must have as `aud`.
    pub(super) audience: String,
    /// Where its keys are: a file, or an https URL.
    pub(super) jwks: String,
    /// Certificates (PEM) that a server of that URL may lead to; otherwise the system's.
    #[serde(default)]
    pub(super) ca: Option<PathBuf>,
    /// The workspace of everybody...
    #[serde(default)]
    workspace: Option<String>,
    /// ...or the claim that names it.
    #[serde(default)]
    workspace_claim: Option<String>,
    /// The claim that gives roles: a text, or a list of texts.
    role_claim: String,
    /// What a value of that claim stands for: viewer, operator, auditor or admin. The highest counts.
    roles: BTreeMap<String, String>,
    /// The claim that says who it is.
    #[serde(default = "subject")]
    id_claim: String,
    /// What they are: human, ai or program.
    #[serde(default = "human")]
    kind: String,
    /// The claim that names the model, for an ai.
    #[serde(default)]
    model_claim: Option<String>,
    /// The claim that says on whose behalf.
    #[serde(default)]
    on_behalf_of_claim: Option<String>,
}

fn subject() -> String {
    "sub".to_owned()
}

fn human() -> String {
    "human".to_owned()
}

impl Issuer {
    /// Finds what contradicts itself.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.iss.is_empty() || self.audience.is_empty() {
            return Err("iss and audience must say something".to_owned());
        }
        match (&self.workspace, &self.workspace_claim) {
            (Some(workspace), None) => {
                Workspace::parse(workspace).map_err(|f| f.message)?;
            }
            (None, Some(_)) => {}
            (_, _) => return Err("either workspace or workspace_claim".to_owned()),
        }
        for role in self.roles.values() {
            if Role::read(role).is_none_or(|role| role == Role::Root) {
                return Err(format!("{role:?} is no role that an outside issuer can give"));
            }
        }
        match (self.kind(), &self.model_claim) {
            (None, _) => Err(format!("kind {:?} is not human, ai or program", self.kind)),
            (Some(ActorKind::Ai), None) => Err("an ai needs model_claim".to_owned()),
            (Some(_), _) => Ok(()),
        }
    }

    fn kind(&self) -> Option<ActorKind> {
        Some(match self.kind.as_str() {
            "human" => ActorKind::Human,
            "ai" => ActorKind::Ai,
            "program" => ActorKind::Program,
            _ => return None,
        })
    }

    /// Whom checked claims stand for.
    ///
    /// # Errors
    /// `CX-0502` when they give nothing here.
    pub(super) fn outsider(&self, claims: &Value) -> Result<Outsider, Fault> {
        let none =
            |why: &str| Fault::new(Code::Forbidden, format!("the token of {:?} {why}", self.iss));
        let workspace = match (&self.workspace, &self.workspace_claim) {
            (Some(fixed), _) => fixed.as_str(),
            (None, Some(claim)) => text(claims, claim).ok_or_else(|| none("names no workspace"))?,
            (None, None) => return Err(none("names no workspace")),
        };
        let workspace =
            Workspace::parse(workspace).map_err(|_| none("names a workspace that cannot be"))?;
        let role = self.role(claims).ok_or_else(|| none("gives no role here"))?;
        let id = named(claims, &self.id_claim).ok_or_else(|| none("does not say who it is"))?;
        let model = self.model_claim.as_deref().and_then(|claim| named(claims, claim));
        let kind = self.kind().ok_or_else(|| none("is of no kind"))?;
        if kind == ActorKind::Ai && model.is_none() {
            return Err(none("does not name the model"));
        }
        let on_behalf_of =
            self.on_behalf_of_claim.as_deref().and_then(|claim| named(claims, claim));
        let exp = claims["exp"].as_u64().ok_or_else(|| none("does not say when it ends"))?;
        Ok(Outsider {
            workspace,
            role,
            actor: Actor {
                kind,
                id: id.to_owned(),
                model: model.unwrap_or_default().to_owned(),
                on_behalf_of: on_behalf_of.unwrap_or_default().to_owned(),
            },
            issuer: self.iss.clone(),
            expires_at: UnixMillis(exp.saturating_mul(1_000)),
        })
    }

    fn role(&self, claims: &Value) -> Option<Role> {
        let claim = &claims[&self.role_claim];
        let values: Vec<&str> = match claim.as_array() {
            Some(list) => list.iter().filter_map(Value::as_str).collect(),
            None => claim.as_str().into_iter().collect(),
        };
        values.iter().filter_map(|value| Role::read(self.roles.get(*value)?)).max()
    }
}

fn text<'a>(claims: &'a Value, claim: &str) -> Option<&'a str> {
    claims[claim].as_str()
}

/// A claim that can be an identifier.
fn named<'a>(claims: &'a Value, claim: &str) -> Option<&'a str> {
    let fits = |t: &&str| (1..=ID_MAX).contains(&t.len()) && !t.chars().any(char::is_control);
    text(claims, claim).filter(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GOOD: &str = r#"
        iss = "https://login.example/"
        audience = "cortex"
        jwks = "keys.json"
        workspace_claim = "team"
        role_claim = "groups"
        roles = { staff = "viewer", ops = "operator", boss = "admin" }
    "#;

    fn issuer(text: &str) -> Issuer {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn claims_become_a_workspace_a_role_and_a_person() {
        let issuer = issuer(GOOD);
        assert_eq!(issuer.check(), Ok(()));
        let claims = json!({"sub": "anna", "team": "t1", "groups": ["staff", "ops"], "exp": 7});
        let outsider = issuer.outsider(&claims).unwrap();
        assert_eq!((outsider.workspace.as_str(), outsider.role), ("t1", Role::Operator));
        assert_eq!((outsider.actor.id.as_str(), outsider.actor.kind), ("anna", ActorKind::Human));
        assert_eq!(outsider.expires_at, UnixMillis(7_000));
        let one = json!({"sub": "anna", "team": "t1", "groups": "boss", "exp": 7});
        assert_eq!(issuer.outsider(&one).unwrap().role, Role::Admin);
    }

    #[test]
    fn claims_that_are_missing_or_strange_give_nothing() {
        let issuer = issuer(GOOD);
        let good = json!({"sub": "anna", "team": "t1", "groups": ["ops"], "exp": 7});
        for (claim, value) in [
            ("team", json!(null)),
            ("team", json!("T 1")),
            ("team", json!(["t1"])),
            ("groups", json!([])),
            ("groups", json!(["root"])),
            ("groups", json!(7)),
            ("sub", json!("")),
            ("sub", json!("a\nb")),
            ("sub", json!("x".repeat(129))),
            ("exp", json!("soon")),
        ] {
            let mut claims = good.clone();
            claims[claim] = value;
            let fault = issuer.outsider(&claims).unwrap_err();
            assert_eq!(fault.code, Code::Forbidden, "{claims}");
        }
    }

    #[test]
    fn a_configuration_that_contradicts_itself_is_refused() {
        for (from, to) in [
            ("workspace_claim = \"team\"", ""),
            ("workspace_claim = \"team\"", "workspace_claim = \"team\"\nworkspace = \"w\""),
            ("workspace_claim = \"team\"", "workspace = \"W W\""),
            ("\"admin\"", "\"root\""),
            ("\"admin\"", "\"king\""),
            ("iss = \"https://login.example/\"", "iss = \"\""),
            ("role_claim", "kind = \"robot\"\nrole_claim"),
            ("role_claim", "kind = \"ai\"\nrole_claim"),
        ] {
            assert!(issuer(&GOOD.replacen(from, to, 1)).check().is_err(), "{to}");
        }
        assert!(toml::from_str::<Issuer>(&format!("{GOOD}\nsurprise = 1")).is_err());
    }

    #[test]
    fn an_ai_names_its_model_and_whom_it_acts_for() {
        let text =
            format!("{GOOD}\nkind = \"ai\"\nmodel_claim = \"model\"\non_behalf_of_claim = \"for\"");
        let issuer = issuer(&text);
        assert_eq!(issuer.check(), Ok(()));
        let claims = json!({"sub": "bot", "team": "t", "groups": "ops", "exp": 7, "model": "v/m", "for": "anna"});
        let actor = issuer.outsider(&claims).unwrap().actor;
        assert_eq!((actor.model.as_str(), actor.on_behalf_of.as_str()), ("v/m", "anna"));
        let nameless = json!({"sub": "bot", "team": "t", "groups": "ops", "exp": 7});
        assert!(issuer.outsider(&nameless).is_err());
    }
}
